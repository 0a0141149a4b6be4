// The pure modules of break-glass and consent under node's own test runner; started by test_logic.py.
import assert from "node:assert/strict";
import test from "node:test";

const of = (name) => import(new URL(`../../screens/${name}.js`, import.meta.url));
const { setLanguage, t, allStrings } = await of("parts/strings");
const { problemKey } = await of("parts/ask");
const { countOf, countWords } = await of("parts/note_field");
const { Store } = await of("parts/store");
const { dateText } = await of("parts/time_text");
const { consentWords } = await of("er/consent_line");
const { leastNote } = await of("er/consent_form");
const { elsewhereWords, isMeant } = await of("er/elsewhere");
const { glassWords } = await of("er/patient_words");

const NOW_US = 1_795_000_000_000_000;
const MINUTE_US = 60e6;

test("a reason is counted by characters, in Chinese too, and blanks are none", () => {
  assert.deepEqual(["  because  ", "患者心搏骤停", "😀😀", " \n "].map(countOf), [7, 6, 2, 0]);
  setLanguage("en");
  assert.equal(countWords(7, 10), "3 more characters needed");
  assert.equal(countWords(10, 10), "10 of 500 characters");
  setLanguage("zh");
  assert.equal(countWords(7, 10), "还需 3 个字");
});

test("every answer that is no success has words in both languages", () => {
  for (const status of [0, 401, 403, 404, 409, 422, 503, 500, 418]) {
    for (const own of [{}, { 403: "review_refused", 404: "review_gone" }]) assert.ok(allStrings()[problemKey(status, own)], String(status));
  }
  assert.equal(problemKey(403, { 403: "review_refused" }), "review_refused");
  assert.equal(problemKey(409, { 403: "review_refused" }), "problem_409");
  setLanguage("en");
  assert.match(t(problemKey(500), { status: 500 }), /\(500\)/);
});

test("a session elsewhere is told without a home's label and with what is not a patient", () => {
  setLanguage("en");
  const session = { kind: "mission", label: "AMB-07", origin: 2, opened_us: NOW_US - 5 * MINUTE_US };
  const words = elsewhereWords(session, NOW_US);
  assert.deepEqual([words.label, words.kind, words.origin], ["AMB-07", "Ambulance", "DEMO"]);
  assert.match(words.opened, /^opened \d\d:\d\d:\d\d \(5 min ago\)$/);
  assert.equal(elsewhereWords({ ...session, kind: "home", label: "" }, NOW_US).label, "label withheld");
  assert.equal(elsewhereWords({ ...session, kind: "" }, NOW_US).kind, "Session");
  assert.match(elsewhereWords({ ...session, opened_us: 90e6 }, NOW_US).opened, /clock not set/);
  assert.deepEqual([isMeant(session, " amb-0"), isMeant(session, ""), isMeant(session, "x")], [true, true, false]);
});

test("the mark of a grant stands until it ends by the server's clock, and comes back with a hello", () => {
  const store = new Store();
  const hello = { type: "hello", server_us: NOW_US, break_glass: { "s-1": NOW_US + MINUTE_US } };
  store.apply(hello, 0);
  setLanguage("zh");
  const time = dateText(NOW_US + MINUTE_US).slice(11, 16);
  assert.equal(glassWords(store.grantUntilUs("s-1", 59_000)), `紧急调阅 · 至 ${time}`);
  assert.equal(glassWords(store.grantUntilUs("s-1", 60_000)), "");
  assert.equal(glassWords(store.grantUntilUs("s-2", 0)), "");
  store.apply({ ...hello, break_glass: {} }, 1000);
  assert.equal(store.grantUntilUs("s-1", 1000), null);
  store.apply({ type: "hello", server_us: NOW_US }, 1000);
  assert.equal(store.grantUntilUs("s-1", 1000), null);
});

test("no consent on record and no answer are told apart, and neither reads as consent", () => {
  setLanguage("en");
  assert.deepEqual(consentWords(null), { words: "none recorded", level: "none" });
  assert.deepEqual(consentWords(undefined).level, "unknown");
  const { words, level } = consentWords({ basis: "refused", at_us: NOW_US });
  assert.deepEqual([words.split(" · ")[0], level], ["refused", "refused"]);
  assert.deepEqual(["emergency", "consent", "guardian", "refused", "withdrawn"].map(leastNote), [10, 0, 0, 10, 10]);
});

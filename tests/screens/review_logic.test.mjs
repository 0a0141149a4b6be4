// The pure modules of the review under node's own test runner; started by test_logic.py.
import assert from "node:assert/strict";
import test from "node:test";

const of = (name) => import(new URL(`../../screens/${name}.js`, import.meta.url));
const { setLanguage } = await of("parts/strings");
const { dateText } = await of("parts/time_text");
const { countGrants, grantWords, stateOf } = await of("review/grant_words");

const NOW_US = 1_795_000_000_000_000;
const MINUTE_US = 60e6;

test("a grant says who, where, what and until when, and whether its reader may review it", () => {
  setLanguage("en");
  const grant = {
    account: "wang", title: "Dr Wang", hospital: "H1", kind: "mission", label: "AMB-07", reason: "arrest in the lobby",
    opened_us: NOW_US - MINUTE_US, expires_us: NOW_US + MINUTE_US, to_review: true,
  };
  const words = grantWords(grant, NOW_US);
  assert.deepEqual([words.who, words.hospital, words.session], ["Dr Wang (wang)", "H1", "AMB-07 · Ambulance"]);
  assert.match(words.until, /still open$/);
  const ended = grantWords(grant, NOW_US + MINUTE_US).until;
  assert.ok(dateText(grant.expires_us).endsWith(ended) && /^\d\d:\d\d:\d\d$/.test(ended), ended);
  const tomorrow = { ...grant, expires_us: NOW_US + 1440 * MINUTE_US };
  assert.equal(grantWords(tomorrow, NOW_US + 1440 * MINUTE_US).until, dateText(tomorrow.expires_us));
  assert.equal(grantWords({ ...grant, kind: "home", label: "" }, NOW_US).session, "label withheld · Home");
  assert.deepEqual([stateOf(grant, "audi"), stateOf(grant, "wang"), stateOf({ ...grant, to_review: false }, "wang")], ["review", "own", "done"]);
  assert.deepEqual(countGrants([grant, { to_review: false }, grant]), { waiting: 2, done: 1 });
});

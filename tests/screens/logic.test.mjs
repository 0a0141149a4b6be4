// The screens' pure modules under node's own test runner; started by test_logic.py.
import assert from "node:assert/strict";
import test from "node:test";

const part = (name) => import(new URL(`../../screens/parts/${name}.js`, import.meta.url));
const { SampleRing } = await part("sample_ring");
const { Playout } = await part("playout");
const { Store } = await part("store");
const { arrange, sizePercent } = await part("lead_layout");
const { allStrings, chooseLanguage, setLanguage } = await part("strings");
const { byUrgency, conditionWords, evidenceWords } = await part("alarm_words");
const { ageLimitMs, pressureReading, reading, tilesFor } = await part("numeric_rules");
const { backOffMs, parseFrame } = await part("live");
const { newestAgeMs, patientSilence } = await part("silence");

const RATE = 100;
const START_US = 1_795_000_000_000_000;
const TWELVE = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
const VOCABULARY = {
  metrics: {
    heart_rate: { en: "Heart rate", zh: "心率", unit: "/min", decimals: 0 },
    temperature: { en: "Temperature", zh: "体温", unit: "Cel", decimals: 1 },
    nibp_systolic: { en: "Systolic pressure", zh: "收缩压", unit: "mm[Hg]", decimals: 0, episodic: true },
    weight: { en: "Weight", zh: "体重", unit: "kg", decimals: 1, episodic: true },
  },
  waveforms: {},
  leads: TWELVE,
};

function block(firstIndex, count, { startUs = START_US + (firstIndex / RATE) * 1e6, value = 1 } = {}) {
  return {
    leads: ["II"],
    samples: new Int32Array(count).fill(value),
    sampleCount: count,
    sampleRateHz: RATE,
    scale: [0.5],
    offset: [0],
    firstIndex,
    startUs,
  };
}

const filled = (ring, from, to) => {
  let n = 0;
  for (let i = from; i < to; i++) n += Number.isNaN(ring.values[0][i % ring.capacity]) ? 0 : 1;
  return n;
};

test("a block seen twice is written once and counted", () => {
  const ring = new SampleRing(["II"], RATE);
  assert.equal(ring.write(block(0, 50), 0), 50);
  assert.equal(ring.write(block(0, 50), 0), 0);
  assert.equal(ring.duplicates, 1);
  assert.equal(ring.values[0][0], 0.5);
});

test("a missing block stays a hole until it comes late", () => {
  const ring = new SampleRing(["II"], RATE);
  ring.write(block(0, 50), 0);
  ring.write(block(100, 50), 0);
  assert.equal(filled(ring, 0, 150), 100);
  assert.equal(filled(ring, 50, 100), 0);
  assert.equal(ring.takeLate(), null);
  assert.equal(ring.write(block(50, 50), 0), 0);
  assert.equal(ring.takeLate(), 50);
  assert.equal(filled(ring, 0, 150), 150);
});

test("a hole longer than the ring leaves nothing old behind", () => {
  const ring = new SampleRing(["II"], RATE);
  ring.write(block(0, 50), 0);
  const far = ring.capacity * 3;
  ring.write(block(far, 50), 0);
  assert.equal(filled(ring, ring.oldest(), ring.end), 50);
});

test("a device that counts from zero again starts a new run, and the old run cannot come back", () => {
  const ring = new SampleRing(["II"], RATE);
  ring.write(block(5000, 50), 0);
  const later = START_US + 60e6;
  assert.equal(ring.write(block(0, 50, { startUs: later }), 0), 50);
  assert.equal(ring.run, 1);
  assert.equal(filled(ring, 0, 50), 50);
  assert.equal(ring.write(block(5050, 50), 0), 0);
  assert.equal(ring.stale, 1);
});

test("setting the gateway's clock does not break the run", () => {
  const ring = new SampleRing(["II"], RATE);
  ring.write(block(0, 50), 0);
  assert.equal(ring.write(block(50, 50, { startUs: START_US + 9e9 }), 0), 50);
  assert.equal(ring.run, 0);
});

test("the pen moves evenly though blocks come in bursts, and keeps the budget", () => {
  const playout = new Playout(RATE);
  const blockMs = 500;
  let end = 0;
  let previous = null;
  let slowest = 0;
  for (let now = 0; now < 20_000; now += 10) {
    // A block arrives when it is full plus 5 to 35 ms of link.
    const complete = Math.floor((now - 5 - ((now / 500) % 4) * 10) / blockMs) * 50;
    if (complete > end) {
      end = complete;
      playout.arrived(end, 50, now);
    }
    if (now < 5000) continue;
    const head = playout.head(now, end);
    assert.ok(head <= end);
    if (previous !== null) assert.ok(head - previous > 0 && head - previous < 1.2, `step ${head - previous} at ${now}`);
    previous = head;
    slowest = Math.max(slowest, now - (head / RATE) * 1000);
  }
  assert.ok(slowest <= blockMs + 150, `newest sample waits ${slowest} ms`);
});

test("after an outage the pen jumps to the present", () => {
  const playout = new Playout(RATE);
  playout.arrived(50, 50, 500);
  playout.head(600, 50);
  playout.arrived(3050, 50, 30_500);
  assert.ok(playout.head(31_100, 3050) > 3040);
});

test("standard layouts place the twelve leads as on paper", () => {
  const paper = arrange([...TWELVE].reverse(), "4x3", TWELVE, true);
  assert.deepEqual([paper.columns, paper.rows, paper.rhythm], [4, 3, "II"]);
  assert.deepEqual(paper.cells.find(({ lead }) => lead === "V4"), { lead: "V4", column: 3, row: 0 });
  assert.equal(arrange(TWELVE, "6x2", TWELVE, true).rows, 6);
  const two = arrange(["V5", "MLII"], "4x3", TWELVE, true);
  assert.deepEqual([two.columns, two.rows, two.rhythm], [1, 2, null]);
});

test("size is never above the truth", () => {
  assert.equal(sizePercent(1000, 400, 4), 100);
  assert.equal(sizePercent(1000, 40, 4), 50);
});

test("every string exists in both languages", () => {
  for (const [key, words] of Object.entries(allStrings())) {
    assert.ok(words.en && words.zh, key);
    const holes = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    assert.deepEqual(holes(words.en), holes(words.zh), key);
  }
});

test("the address decides the language, then the last choice, then the browser", () => {
  assert.equal(chooseLanguage("?lang=zh", "en", "en-GB"), "zh");
  assert.equal(chooseLanguage("", "en", "zh-CN"), "en");
  assert.equal(chooseLanguage("?lang=xx", null, "zh-Hans"), "zh");
  assert.equal(chooseLanguage("", null, "de"), "en");
});

test("alarm conditions are put into words, unknown ones shown as they are", () => {
  setLanguage("en");
  assert.equal(conditionWords("heart_rate_high", VOCABULARY), "Heart rate high");
  assert.equal(conditionWords("leads_off", VOCABULARY), "Leads off");
  assert.equal(conditionWords("something_new", VOCABULARY), "something_new");
  const evidence = { metric: "temperature", value: 39.26, limit: 39, lead: "" };
  assert.equal(evidenceWords(evidence, VOCABULARY), "Temperature 39.3 °C (limit 39.0)");
  setLanguage("zh");
  assert.equal(conditionWords("heart_rate_high", VOCABULARY), "心率过高");
});

test("alarms are sorted by priority, then by onset", () => {
  const alarm = (priority, onset_us) => ({ priority, onset_us });
  const sorted = [alarm(1, 9), alarm(3, 1), alarm(3, 5), alarm(2, 7)].sort(byUrgency);
  assert.deepEqual(sorted, [alarm(3, 5), alarm(3, 1), alarm(2, 7), alarm(1, 9)]);
});

test("a value is current only within its limit, and missing is never normal", () => {
  const now = START_US + 20e6;
  assert.equal(reading(undefined, "heart_rate", now, VOCABULARY).state, "absent");
  assert.equal(reading([[START_US, 80, 0]], "heart_rate", now, VOCABULARY).state, "old");
  assert.equal(reading([[now - 1e6, 80, 0]], "heart_rate", now, VOCABULARY).state, "current");
  assert.equal(reading([[now - 1e6, 80, 1]], "heart_rate", now, VOCABULARY).state, "questionable");
  assert.deepEqual(reading([[now, 80, 2, "motion"]], "heart_rate", now, VOCABULARY).value, null);
  assert.equal(reading([[START_US, 120, 0]], "nibp_systolic", now, VOCABULARY).state, "current");
  assert.equal(ageLimitMs("nibp_systolic", VOCABULARY), 1_800_000);
  assert.equal(ageLimitMs("weight", VOCABULARY), 24 * 3_600_000);
  assert.equal(ageLimitMs("nibp_systolic", { metrics: {} }), 15_000);
});

test("pressures of different readings are never shown as one", () => {
  const names = ["nibp_systolic", "nibp_diastolic", "nibp_mean"];
  const numerics = new Map([
    ["nibp_systolic", [[START_US, 150, 0], [START_US + 600e6, 120, 0]]],
    ["nibp_diastolic", [[START_US, 90, 0]]],
  ]);
  assert.deepEqual(pressureReading(numerics, names, START_US + 601e6, VOCABULARY).values, [120, null, null]);
});

test("the five vital signs are always there, others when measured", () => {
  const keys = tilesFor(new Set(["etco2", "pulse_rate", "rr_interval"]), ["etco2", "pulse_rate"]).map(({ key }) => key);
  assert.deepEqual(keys, ["pulse_rate", "spo2", "nibp", "respiratory_rate", "temperature", "etco2"]);
});

test("a frame that is cut short is refused", () => {
  const whole = Uint8Array.from([1, 2, 115, 49, 3, 101, 99, 103, 1, 7, 8]);
  const frame = parseFrame(whole.buffer);
  assert.deepEqual([frame.sessionId, frame.stream, frame.quality, [...frame.block]], ["s1", "ecg", 1, [7, 8]]);
  for (let n = 0; n < 10; n++) assert.throws(() => parseFrame(whole.slice(0, n).buffer), RangeError);
  assert.throws(() => parseFrame(Uint8Array.from([9, ...whole.slice(1)]).buffer), RangeError);
});

test("reconnecting backs off with full jitter up to a cap", () => {
  assert.equal(backOffMs(0, () => 1), 500);
  assert.equal(backOffMs(30, () => 1), 10_000);
  assert.equal(backOffMs(30, () => 0), 0);
});

const ALIVE = { dead: false, silentMs: 0 };

function storeWithPatient(numerics = {}) {
  const store = new Store();
  store.apply({ type: "hello", server_us: START_US }, 0);
  const session = { session_id: "s1", gateway_id: "g1", kind: "mission", label: "A", origin: 0, opened_us: START_US };
  const gateway = { gateway_id: "g1", online: true, clock_synchronised: true };
  store.apply({ type: "snapshot", session, numerics, alerts: [], events: [], gateway, dropped: 0 }, 0);
  return { store, patient: store.patients.get("s1"), session, gateway };
}

const address = { sessionId: "s1", stream: "ecg", quality: 0 };

test("a stream is silent after three seconds, at once when its gateway or this screen is cut off", () => {
  const { store, patient, gateway } = storeWithPatient();
  store.applyBlock(address, block(0, 100), 3000);
  assert.equal(patientSilence(store, patient, ALIVE, 5900), null);
  assert.equal(patientSilence(store, patient, ALIVE, 6100).reason, "silent");
  assert.equal(patientSilence(store, patient, { dead: true, silentMs: 3100 }, 3500).reason, "screen");
  store.apply({ type: "gateway", gateway: { ...gateway, online: false } }, 3500);
  assert.equal(patientSilence(store, patient, ALIVE, 3500).reason, "offline");
});

test("history replayed on joining is not taken for live data", () => {
  const { store, patient } = storeWithPatient();
  store.applyBlock(address, block(0, 100, { startUs: START_US - 60e6 }), 100);
  const silence = patientSilence(store, patient, ALIVE, 100);
  assert.equal(silence.reason, "silent");
  assert.ok(Math.abs(silence.sinceUs - (START_US - 59e6)) < 2e5);
  assert.ok(newestAgeMs(store, patient, 100) > 58_000);
});

test("late numerics fill the past and never become the newest", () => {
  const { store, patient } = storeWithPatient({ heart_rate: [[START_US, 80, 0]] });
  const numeric = { type: "numeric", session_id: "s1", metric: "heart_rate", quality: 0, reason: "" };
  store.apply({ ...numeric, time_us: START_US - 5e6, value: 70 }, 10);
  store.apply({ ...numeric, time_us: START_US, value: 80 }, 10);
  assert.deepEqual(patient.numerics.get("heart_rate").map(([, value]) => value), [70, 80]);
});

const HOUR_US = 3600e6;

test("a value of the future is never current: its clock is wrong", () => {
  const state = (aheadUs, quality = 0) =>
    reading([[START_US + aheadUs, 80, quality]], "heart_rate", START_US, VOCABULARY).state;
  assert.equal(state(59e6), "current");
  assert.equal(state(61e6), "wrong_clock");
  assert.equal(state(61e6, 1), "wrong_clock");
  assert.equal(state(61e6, 2), "invalid");
  const names = ["nibp_systolic", "nibp_diastolic"];
  const numerics = new Map(names.map((name) => [name, [[START_US + HOUR_US, 120, 0]]]));
  assert.equal(pressureReading(numerics, names, START_US, VOCABULARY).state, "wrong_clock");
});

test("after a clock was set back the next snapshot takes the future away, and silence is told in time", () => {
  const { store, patient, session, gateway } = storeWithPatient();
  const numeric = { type: "numeric", session_id: "s1", metric: "heart_rate", quality: 0, reason: "" };
  store.apply({ ...numeric, time_us: START_US + HOUR_US, value: 80 }, 0);
  store.apply({ ...numeric, time_us: START_US + 1e6, value: 90 }, 1000);
  const numerics = { heart_rate: [[START_US + 1e6, 90, 0]] };
  store.apply({ type: "snapshot", session, numerics, alerts: [], events: [], gateway, dropped: 0 }, 2000);
  const shown = reading(patient.numerics.get("heart_rate"), "heart_rate", START_US + 2e6, VOCABULARY);
  assert.deepEqual([shown.state, shown.value], ["current", 90]);
  assert.equal(patientSilence(store, patient, ALIVE, 15_900), null);
  const silence = patientSilence(store, patient, ALIVE, 16_100);
  assert.deepEqual(silence, { reason: "silent", sinceUs: START_US + 1e6 });
  assert.equal(newestAgeMs(store, patient, 16_100), 15_100);
});

test("numbers of a box ahead of its time fall silent as any other's, and a snapshot does not wake them", () => {
  const { store, patient, session, gateway } = storeWithPatient();
  const numerics = { heart_rate: [[START_US + HOUR_US, 80, 0]] };
  const snapshot = { type: "snapshot", session, numerics, alerts: [], events: [], gateway, dropped: 0 };
  store.apply(snapshot, 1000);
  store.apply(snapshot, 10_000);
  assert.equal(patientSilence(store, patient, ALIVE, 15_900), null);
  assert.equal(patientSilence(store, patient, ALIVE, 16_100).reason, "silent");
});

test("a session opened in the future that brings nothing is silent", () => {
  const store = new Store();
  store.apply({ type: "hello", server_us: START_US }, 0);
  store.apply({ type: "session", session: { session_id: "s1", opened_us: START_US + HOUR_US } }, 0);
  assert.equal(patientSilence(store, store.patients.get("s1"), ALIVE, 3100).reason, "silent");
});

test("a snapshot takes away no value that only its 30 minutes leave out", () => {
  const { store, patient, session, gateway } = storeWithPatient({ weight: [[START_US - HOUR_US, 70, 0]] });
  const empty = { type: "snapshot", session, alerts: [], events: [], gateway, dropped: 0 };
  store.apply({ ...empty, numerics: { weight: [] } }, 1);
  store.apply({ ...empty, numerics: {} }, 2);
  assert.deepEqual(patient.numerics.get("weight"), [[START_US - HOUR_US, 70, 0]]);
});

test("an alert takes the step told last, also by a clock that was set back", () => {
  const { store, patient } = storeWithPatient();
  const alert = { alert_id: "a", condition: "spo2_low", onset_us: START_US + HOUR_US };
  const say = (step) => store.apply({ type: "alert", session_id: "s1", alert: { ...alert, ...step } }, 1);
  say({ phase: "raised", priority: 2, time_us: START_US + HOUR_US });
  say({ phase: "escalated", priority: 3, time_us: START_US });
  assert.deepEqual([patient.alerts.get("a").phase, patient.alerts.get("a").priority], ["escalated", 3]);
  say({ phase: "cleared", priority: 3, time_us: START_US + 1 });
  say({ phase: "escalated", priority: 3, time_us: START_US + HOUR_US });
  assert.equal(patient.alerts.get("a").phase, "cleared");
});

test("an alert that was cleared is not raised again by an older message", () => {
  const { store, patient } = storeWithPatient();
  const alert = { alert_id: "a", condition: "spo2_low", priority: 2, onset_us: START_US };
  store.apply({ type: "alert", session_id: "s1", alert: { ...alert, phase: "cleared", time_us: START_US + 2 } }, 1);
  store.apply({ type: "alert", session_id: "s1", alert: { ...alert, phase: "raised", time_us: START_US + 1 } }, 2);
  assert.equal(patient.alerts.get("a").phase, "cleared");
});

test("leads come off and on again by name", () => {
  const { store, patient } = storeWithPatient();
  const event = { type: "event", session_id: "s1", detail: "" };
  store.apply({ ...event, kind: "leads_off", time_us: START_US + 1, leads: ["V1", "V2"] }, 1);
  store.apply({ ...event, kind: "leads_on", time_us: START_US + 2, leads: ["V1"] }, 2);
  assert.deepEqual([...patient.leadsOff], ["V2"]);
  store.apply({ ...event, kind: "leads_on", time_us: START_US + 3, leads: [] }, 3);
  assert.equal(patient.leadsOff.size, 0);
});

test("a session closed while the screen was away disappears after the next snapshots", () => {
  const { store } = storeWithPatient();
  store.apply({ type: "hello", server_us: START_US + 60e6 }, 60_000);
  store.sweep(61_000);
  assert.equal(store.patients.size, 1);
  store.sweep(64_000);
  assert.equal(store.patients.size, 0);
});

test("after signing in one goes only to a path of this server", async () => {
  const { safeNext } = await part("signed_in");
  const origin = "https://vital.example";
  const next = (asked, role = "er_clinician") => safeNext(asked, role, origin);
  assert.equal(next("/er?view=wall"), "/er?view=wall");
  assert.equal(next("/fleet"), "/fleet");
  for (const asked of [null, "", "er", "https://evil.example/", "//evil.example", "/\\evil.example", "/sign-in", "/api/v1/me"]) {
    assert.equal(next(asked), "/er", asked);
  }
  // A path that the browser shortens to one beginning with "//" is another host's when it is gone to.
  const shortened = ["/.//evil.example", "/..//evil.example", "/%2e//evil.example", "/er/..//evil.example", "/.\\/evil.example", "/.\\\\evil.example", "/\t/evil.example", "/.///evil.example", "/%2E%2e//evil.example"];
  for (const asked of shortened) {
    const led = next(asked);
    assert.equal(new URL(led, `${origin}/sign-in`).origin, origin, asked);
    assert.equal(led, "/er", asked);
  }
  assert.equal(next("/er//evil.example?a=//b"), "/er//evil.example?a=//b");
  assert.equal(next("//evil.example", "operator"), "/fleet");
  assert.equal(next("", "auditor"), "/review");
  assert.equal(next("", "dispatcher"), null);
});

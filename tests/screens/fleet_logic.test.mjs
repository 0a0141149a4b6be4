// The fleet screen's pure modules under node's own test runner; started by test_logic.py.
import assert from "node:assert/strict";
import test from "node:test";

const of = (name) => import(new URL(`../../screens/${name}.js`, import.meta.url));
const { allStrings, setLanguage } = await of("parts/strings");
const { ageText } = await of("parts/time_text");
const { Boxes } = await of("fleet/boxes");
const { rowWords } = await of("fleet/row_words");
const { niceTop, stretches } = await of("fleet/backlog_chart");
const { byTrouble, countGroups, matches, sizeText, troublesOf, troubleWords, wordsOf } = await of("fleet/troubles");

const NOW_US = 1_795_000_000_000_000;
const WELL = {
  gateway_id: "gw-1",
  label: "A-01",
  state: "online",
  since_us: NOW_US - 3600e6,
  last_seen_us: NOW_US,
  version: "0.1.0",
  status_us: NOW_US,
  status_received_us: NOW_US,
  clock_offset_us: 20_000,
  gauges: { backlog_records: 0, clock_synchronised: 1, disk_free_mib: 9000, disk_total_mib: 30_000, devices: 1, devices_connected: 1 },
  skipped: 0,
  skipped_10min: 0,
  last_receipt_us: NOW_US,
  gaps: 0,
  lost_records: 0,
  last_gap_us: null,
  starts_24h: 1,
};
const box = (changes = {}) => ({ ...WELL, ...changes, gauges: { ...WELL.gauges, ...changes.gauges } });
const codes = (changes) => troublesOf(box(changes), NOW_US).map(({ level, code }) => `${code} ${level}`);

test("a box in good health has no trouble", () => {
  assert.deepEqual(codes({}), []);
});

test("every trouble has its weight", () => {
  const cases = [
    [{ state: "offline", since_us: NOW_US - 60e6 }, ["offline 3"]],
    [{ state: "silent" }, ["silent 3"]],
    [{ state: "never" }, ["never 2"]],
    [{ gauges: { disk_failing: 1 } }, ["disk_failing 3"]],
    [{ gauges: { disk_free_mib: 100 } }, ["disk_low 3"]],
    [{ gauges: { disk_free_mib: 1400 } }, ["disk_low 2"]],
    [{ gauges: { quarantined_segments: 1 } }, ["quarantined 2"]],
    [{ gauges: { oldest_urgent_s: 11 } }, ["urgent_waits 3"]],
    [{ gauges: { oldest_urgent_s: 9, oldest_bulk_s: 61 } }, ["backlog_old 2"]],
    [{ gauges: { oldest_urgent_s: 90, oldest_bulk_s: 601 } }, ["urgent_waits 3", "backlog_old 3"]],
    [{ last_receipt_us: NOW_US - 61e6 }, ["no_receipts 2"]],
    [{ status_received_us: NOW_US - 21e6 }, ["no_heartbeat 2"]],
    [{ status_us: 90e6, clock_offset_us: -NOW_US }, ["clock_unset 3"]],
    [{ clock_offset_us: -3e6 }, ["clock_off 2"]],
    [{ clock_offset_us: 61e6 }, ["clock_off 3"]],
    [{ gauges: { clock_synchronised: 0 } }, ["clock_free 1"]],
    [{ gaps: 1, lost_records: 5, last_gap_us: NOW_US - 60e6 }, ["lost 2"]],
    [{ gaps: 1, last_gap_us: NOW_US - 60e6 }, ["gap 2"]],
    [{ gaps: 1, lost_records: 5, last_gap_us: NOW_US - 90_000e6 }, []],
    [{ skipped: 9, skipped_10min: 9 }, ["skipped 1"]],
    [{ skipped: 900, skipped_10min: 900 }, ["skipped 2"]],
    [{ unseen_alerts: 2 }, ["unseen 3"]],
    [{ starts_24h: 2 }, ["starts 1"]],
    [{ starts_24h: 4 }, ["starts 2"]],
    [{ gauges: { devices: 3 } }, ["devices 2"]],
  ];
  for (const [changes, expected] of cases) assert.deepEqual(codes(changes), expected, JSON.stringify(changes));
});

test("what piles up on a box that is away is no second trouble", () => {
  assert.deepEqual(codes({ state: "offline", last_receipt_us: NOW_US - 900e6, gauges: { oldest_urgent_s: 900, devices: 3 } }), ["offline 3"]);
});

test("every trouble can be said in both languages", () => {
  const all = Object.keys(allStrings()).filter((key) => key.startsWith("trouble_"));
  for (const language of ["en", "zh"]) {
    setLanguage(language);
    for (const key of all) {
      const values = { ageMs: 1000, mib: 5, offsetMs: 3000, n: 7, all: 9 };
      assert.doesNotMatch(troubleWords({ code: key.slice(8), values }), /[{}]|trouble_|undefined|NaN/);
    }
  }
  setLanguage("en");
});

const list = [
  box({ gateway_id: "gw-10" }),
  box({ gateway_id: "gw-9" }),
  box({ gateway_id: "gw-1", state: "never" }),
  box({ gateway_id: "gw-2", state: "offline", label: "A-77" }),
  box({ gateway_id: "gw-3", gauges: { disk_failing: 1, devices: 4 } }),
  box({ gateway_id: "gw-4", gauges: { clock_synchronised: 0 } }),
].map((row) => ({ row, troubles: troublesOf(row, NOW_US) }));

test("trouble stands first, and boxes alike by their names as people count", () => {
  const order = [...list].sort(byTrouble).map(({ row }) => row.gateway_id);
  assert.deepEqual(order, ["gw-2", "gw-3", "gw-1", "gw-4", "gw-9", "gw-10"]);
});

test("the filter looks at names, vehicles and troubles, and all words must match", () => {
  const found = (group, text) => list.filter((one) => matches(one, group, wordsOf(text))).map(({ row }) => row.gateway_id);
  assert.deepEqual(found("all", "A-77"), ["gw-2"]);
  assert.deepEqual(found("all", "disk REFUSES"), ["gw-3"]);
  assert.deepEqual(found("all", "disk offline"), []);
  assert.deepEqual(found("trouble", ""), ["gw-1", "gw-2", "gw-3"]);
  assert.deepEqual(found("never", ""), ["gw-1"]);
  assert.deepEqual(countGroups(list), { all: 6, trouble: 3, online: 4, silent: 0, offline: 1, never: 1 });
});

test("behind a dead link no state is shown as current", () => {
  assert.deepEqual(rowWords(box(), NOW_US, false).state, ["online", "for 60 min"]);
  assert.deepEqual(rowWords(box(), NOW_US, true).state, ["unknown", "was: online"]);
});

test("what a box did not say is left empty, not zero", () => {
  const words = rowWords({ ...WELL, gauges: {}, last_receipt_us: null }, NOW_US, false);
  assert.deepEqual([words.disk, words.devices, words.backlog, words.receipt], [["", ""], ["", ""], ["unknown", ""], ["none yet", ""]]);
  const never = rowWords({ ...WELL, state: "never", status_us: null, last_receipt_us: null, gauges: {} }, NOW_US, false);
  for (const name of ["backlog", "receipt", "clock", "disk", "drops", "devices", "runs"]) assert.deepEqual(never[name], ["", ""], name);
});

test("a backlog says how many wait in which lane and since when", () => {
  const gauges = { backlog_records: 1234, backlog_urgent: 1, backlog_routine: 33, backlog_bulk: 1200, oldest_bulk_s: 300 };
  assert.deepEqual(rowWords(box({ gauges }), NOW_US, false).backlog, ["1,234 · oldest 5 min", "U 1 · R 33 · B 1,200"]);
});

test("clocks are ahead, behind, near or never set", () => {
  const clock = (changes) => rowWords(box(changes), NOW_US, false).clock;
  assert.deepEqual(clock({ clock_offset_us: 90e6 }), ["synchronised", "90 s ahead"]);
  assert.deepEqual(clock({ clock_offset_us: -90e6, gauges: { clock_synchronised: 0 } }), ["not synchronised", "90 s behind"]);
  assert.deepEqual(clock({ clock_offset_us: null }), ["synchronised", ""]);
  assert.deepEqual(clock({ status_us: 5e6 }), ["1970: never set", ""]);
});

test("the chart leaves holes where no heartbeat is stored and nothing beyond its hour", () => {
  const point = (agoS, waiting) => [NOW_US - agoS * 1e6, 0, waiting, 1, 0];
  const parts = stretches([point(4000, 9), point(300, 5), point(295, 6), point(100, 2), point(-5, 1)], NOW_US);
  assert.deepEqual(parts.map((part) => part.map(({ waiting }) => waiting)), [[6, 7], [3]]);
  assert.deepEqual([0, 10, 11, 21, 51, 4210].map(niceTop), [10, 10, 20, 50, 100, 5000]);
});

test("sizes and ages are short", () => {
  assert.deepEqual([0, 0.5, 61.4, 2048, 204_800].map(sizeText), ["0 MiB", "0.5 MiB", "61 MiB", "2.0 GiB", "200 GiB"]);
  assert.deepEqual([0, 119e3, 7199e3, 47 * 3600e3, 72 * 3600e3].map(ageText), ["0 s", "119 s", "119 min", "47 h", "3 days"]);
});

test("after a new hello only boxes that are named again remain", () => {
  const boxes = new Boxes();
  boxes.apply({ type: "hello", server_us: NOW_US }, 1000);
  boxes.apply({ type: "fleet", gateways: [box(), box({ gateway_id: "gw-2" })] }, 1000);
  boxes.apply({ type: "fleet", gateways: [box({ state: "silent" })] }, 1000);
  assert.deepEqual([...boxes.rows.values()].map(({ gateway_id, state }) => [gateway_id, state]), [["gw-1", "silent"], ["gw-2", "online"]]);
  assert.equal(boxes.serverUs(2000), NOW_US + 1e6);
  boxes.apply({ type: "hello", server_us: NOW_US + 60e6 }, 5000);
  assert.equal(boxes.rows.size, 0);
  assert.equal(boxes.serverUs(5000), NOW_US + 60e6);
});

// What is wrong with a box, in order of weight; which boxes are shown, and in which order. Pure.
import { t } from "../parts/strings.js";
import { ageText } from "../parts/time_text.js";

export const ACT = 3;
export const CHECK = 2;
export const NOTE = 1;
export const STATES = ["online", "silent", "offline", "never"];

// A box made after 2020 says an earlier time only when its clock was never set (wire/clock.py).
const EARLIEST_PLAUSIBLE_US = 1_577_836_800e6;
const SECOND_US = 1e6;
const DAY_US = 86_400e6;
const LANES = ["urgent", "routine", "bulk"];
// An alert takes well under 1 s to be receipted; the cloud calls it delayed after 10 s.
const URGENT_WAITS_S = 10;
const BACKLOG_CHECK_S = 60;
const BACKLOG_ACT_S = 600;
// Twelve heartbeats without a receipt.
const RECEIPT_LATE_US = 60e6;
// Three heartbeats of 5 s missed, while other records come.
const HEARTBEAT_LATE_US = 20e6;
// Network delay stays below; placed that far off, events of two boxes are told in the wrong order.
const CLOCK_CHECK_US = 2e6;
const CLOCK_ACT_US = 60e6;
// The spool's own reserve is 64 MiB (edge/spool): below twice that BULK gives way soon.
const DISK_ACT_MIB = 128;
const DISK_CHECK_SHARE = 0.05;
const SKIPPED_CHECK = 100;
const STARTS_NOTE = 2;
const STARTS_CHECK = 4;

export const isClockUnset = (row) => row.status_us !== null && row.status_us < EARLIEST_PLAUSIBLE_US;

/** Age in seconds of the oldest record that waits, null when none does or it is not known. */
export function oldestS(row) {
  const ages = LANES.map((lane) => row.gauges[`oldest_${lane}_s`]).filter((age) => age !== undefined);
  return ages.length ? Math.max(...ages) : null;
}

/** [{code, level, values}], the heaviest first; values are what the words of `trouble_<code>` need. */
export function troublesOf(row, nowUs) {
  const found = [];
  const add = (level, code, values = {}) => found.push({ level, code, values });
  if (row.state === "never") return [{ level: CHECK, code: "never", values: {} }];
  if (row.unseen_alerts > 0) add(ACT, "unseen", { n: row.unseen_alerts });
  const sinceMs = (us) => Math.max(0, (nowUs - us) / 1000);
  if (row.state !== "online") add(ACT, row.state, { ageMs: sinceMs(row.since_us) });
  else liveTroubles(row, nowUs, sinceMs, add);
  diskTroubles(row.gauges, add);
  clockTroubles(row, add);
  lossTroubles(row, nowUs, sinceMs, add);
  if (row.starts_24h >= STARTS_NOTE) add(row.starts_24h >= STARTS_CHECK ? CHECK : NOTE, "starts", { n: row.starts_24h });
  return found.sort((one, other) => other.level - one.level);
}

/** What says nothing of a box that is away: it is expected to pile up. */
function liveTroubles(row, nowUs, sinceMs, add) {
  const { oldest_urgent_s: urgentS, devices, devices_connected: connected } = row.gauges;
  if (urgentS > URGENT_WAITS_S) add(ACT, "urgent_waits", { ageMs: urgentS * 1000 });
  const oldest = oldestS(row);
  if (oldest > BACKLOG_CHECK_S && !(urgentS > URGENT_WAITS_S && urgentS === oldest)) {
    add(oldest > BACKLOG_ACT_S ? ACT : CHECK, "backlog_old", { ageMs: oldest * 1000 });
  }
  if (row.last_receipt_us !== null && nowUs - row.last_receipt_us > RECEIPT_LATE_US) {
    add(CHECK, "no_receipts", { ageMs: sinceMs(row.last_receipt_us) });
  }
  if (row.status_received_us !== null && nowUs - row.status_received_us > HEARTBEAT_LATE_US) {
    add(CHECK, "no_heartbeat", { ageMs: sinceMs(row.status_received_us) });
  }
  if (connected < devices) add(CHECK, "devices", { n: connected, all: devices });
}

function diskTroubles({ disk_failing, disk_free_mib: freeMib, disk_total_mib: totalMib, quarantined_segments: broken }, add) {
  if (disk_failing > 0) add(ACT, "disk_failing");
  if (freeMib < DISK_ACT_MIB) add(ACT, "disk_low", { mib: freeMib });
  else if (freeMib < totalMib * DISK_CHECK_SHARE) add(CHECK, "disk_low", { mib: freeMib });
  if (broken > 0) add(CHECK, "quarantined", { n: broken });
}

function clockTroubles(row, add) {
  const offsetUs = Math.abs(row.clock_offset_us ?? 0);
  if (isClockUnset(row)) add(ACT, "clock_unset");
  else if (offsetUs > CLOCK_CHECK_US) add(offsetUs > CLOCK_ACT_US ? ACT : CHECK, "clock_off", { offsetMs: offsetUs / 1000 });
  else if (row.gauges.clock_synchronised === 0) add(NOTE, "clock_free");
}

function lossTroubles(row, nowUs, sinceMs, add) {
  if (row.last_gap_us !== null && nowUs - row.last_gap_us < DAY_US) {
    const ageMs = sinceMs(row.last_gap_us);
    if (row.lost_records > 0) add(CHECK, "lost", { n: row.lost_records, ageMs });
    else add(CHECK, "gap", { n: row.gaps, ageMs });
  }
  if (row.skipped_10min > 0) add(row.skipped_10min >= SKIPPED_CHECK ? CHECK : NOTE, "skipped", { n: row.skipped_10min });
}

export function troubleWords({ code, values }) {
  const words = { ...values };
  if (values.ageMs !== undefined) words.age = ageText(values.ageMs);
  if (values.mib !== undefined) words.v = sizeText(values.mib);
  if (values.offsetMs !== undefined) words.v = ageText(values.offsetMs);
  return t(`trouble_${code}`, words);
}

export function sizeText(mib) {
  if (mib >= 1024) return `${(mib / 1024).toFixed(mib >= 102_400 ? 0 : 1)} GiB`;
  return `${mib >= 10 || mib === 0 ? Math.round(mib) : mib.toFixed(1)} MiB`;
}

const levelOf = (box) => box.troubles[0]?.level ?? 0;
const byName = new Intl.Collator("en", { numeric: true });

/** The heaviest trouble first, then the most of it; boxes alike stand by their names, so that rows keep still. */
export function byTrouble(one, other) {
  return (
    levelOf(other) - levelOf(one) ||
    STATES.indexOf(other.row.state) - STATES.indexOf(one.row.state) ||
    weight(other) - weight(one) ||
    byName.compare(one.row.gateway_id, other.row.gateway_id)
  );
}

const weight = (box) => box.troubles.filter(({ level }) => level >= CHECK).length;

/** Whether a box is to be shown: `group` is all, trouble or a state, `words` must all be found in what its row says. */
export function matches(box, group, words) {
  if (group === "trouble" && levelOf(box) < CHECK) return false;
  if (STATES.includes(group) && box.row.state !== group) return false;
  if (words.length === 0) return true;
  const said = [box.row.gateway_id, box.row.label, box.row.version, t(`state_${box.row.state}`), ...box.troubles.map(troubleWords)];
  const text = said.join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

export const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

/** How many boxes each group holds. */
export function countGroups(boxes) {
  const counts = { all: boxes.length, trouble: 0, online: 0, silent: 0, offline: 0, never: 0 };
  for (const box of boxes) {
    counts[box.row.state] += 1;
    if (levelOf(box) >= CHECK) counts.trouble += 1;
  }
  return counts;
}

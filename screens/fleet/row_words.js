// The words of one box's row, column by column. Pure but for the language in use.
import { t } from "../parts/strings.js";
import { ageText } from "../parts/time_text.js";
import { isClockUnset, oldestS, sizeText } from "./troubles.js";

export const COLUMNS = ["box", "state", "trouble", "backlog", "receipt", "clock", "disk", "drops", "devices", "runs", "version"];

const number = new Intl.NumberFormat("en");
export const countText = (n) => number.format(n);

/** {column: [line, quieter second line]}; `dead`: the cloud is not heard, so nothing here is current. */
export function rowWords(row, nowUs, dead) {
  const { gauges } = row;
  const isKnown = row.state !== "never";
  const age = (us) => ageText((nowUs - us) / 1000);
  const seconds = (s) => ageText(s * 1000);
  const state = t(`state_${row.state}`);
  return {
    box: [row.gateway_id, row.label === row.gateway_id ? "" : row.label],
    state: dead
      ? [t("state_unknown"), t("was", { state })]
      : [state, isKnown ? t("for_age", { age: age(row.since_us) }) : ""],
    backlog: backlogWords(row, seconds),
    receipt: [receiptWords(row, isKnown, age), ""],
    clock: clockWords(row),
    disk: [
      gauges.disk_free_mib === undefined ? "" : sizeText(gauges.disk_free_mib),
      gauges.spool_mib === undefined ? "" : t("spool_used", { v: sizeText(gauges.spool_mib) }),
    ],
    drops: [
      row.skipped ? t("skipped_short", { n: countText(row.skipped) }) : isKnown ? "0" : "",
      row.lost_records || row.gaps ? t("lost_short", { n: countText(row.lost_records) }) : "",
    ],
    devices: [
      gauges.devices === undefined ? "" : t("connected_of", { n: gauges.devices_connected ?? 0, all: gauges.devices }),
      "",
    ],
    runs: [
      gauges.uptime_s === undefined ? "" : seconds(gauges.uptime_s),
      row.starts_24h > 1 ? t("starts_short", { n: row.starts_24h }) : "",
    ],
    version: [row.version, ""],
  };
}

function receiptWords({ last_receipt_us: receiptUs }, isKnown, age) {
  if (receiptUs !== null) return t("ago", { age: age(receiptUs) });
  return isKnown ? t("never") : "";
}

function backlogWords({ gauges, ...row }, seconds) {
  const total = gauges.backlog_records;
  if (total === undefined) return [row.state === "never" ? "" : t("unknown"), ""];
  if (total === 0) return [t("nothing_waits"), ""];
  const lanes = { urgent: gauges.backlog_urgent, routine: gauges.backlog_routine, bulk: gauges.backlog_bulk };
  const byLane = Object.fromEntries(Object.entries(lanes).map(([lane, n]) => [lane, n === undefined ? "?" : countText(n)]));
  const oldest = oldestS({ gauges });
  const age = oldest === null ? "" : t("oldest", { age: seconds(oldest) });
  return [[countText(total), age].filter(Boolean).join(" · "), t("lanes", byLane)];
}

function clockWords(row) {
  if (row.status_us === null) return ["", ""];
  if (isClockUnset(row)) return [t("clock_unset"), ""];
  return [t(row.gauges.clock_synchronised ? "clock_ok" : "clock_free"), offsetWords(row.clock_offset_us)];
}

/** Below a second the way to the cloud weighs as much as the clock. */
function offsetWords(offsetUs) {
  if (offsetUs === null) return "";
  if (Math.abs(offsetUs) < 1e6) return t("on_time", { v: ageText(1000) });
  return t(offsetUs > 0 ? "ahead" : "behind", { v: ageText(Math.abs(offsetUs) / 1000) });
}

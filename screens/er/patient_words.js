// Short words about a patient's connection, shared by the cards and the panels.
import { t } from "../parts/strings.js";
import { ageText, clockText } from "../parts/time_text.js";

// From here on a delay is worth a colour; at NO_DATA_MS the trace itself says so.
const DELAYED_MS = 3000;
const LATE_MS = 10_000;

export const originName = (origin) => (origin === 0 ? "" : t(origin === 1 ? "test" : "demo"));

/** What is known of a gateway; behind a dead link nothing is. state: true | false | unknown. */
export function gatewayWords(gateway, linkDead) {
  if (!gateway || linkDead) return { words: t("gateway_unknown"), state: "unknown" };
  return { words: t(gateway.online ? "online" : "offline"), state: String(gateway.online) };
}

/** The mark of a patient seen by break-glass alone, "" for any other. */
export const glassWords = (untilUs) => (untilUs === null ? "" : t("break_glass_until", { time: clockText(untilUs).slice(0, 5) }));

/** ageMs null: nothing came yet. level: fresh | delayed | late. */
export function freshness(ageMs, linkDead) {
  if (ageMs === null) return { words: t("never"), level: "late" };
  const words = ageMs < 1000 ? `<${ageText(1000)}` : ageText(ageMs);
  if (ageMs > LATE_MS || linkDead) return { words, level: "late" };
  return { words, level: ageMs > DELAYED_MS ? "delayed" : "fresh" };
}

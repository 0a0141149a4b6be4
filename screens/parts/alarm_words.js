// Alarms in words and in order. Pure but for the language in use.
import { codeWords, language, t } from "./strings.js";

const UNITS = { "mm[Hg]": "mmHg", Cel: "°C", "kg/m2": "kg/m²", "{score}": "", "{a.u.}": "" };
const STARS = { 1: "*", 2: "**", 3: "***" };

export const unitText = (ucum) => UNITS[ucum] ?? ucum ?? "";
export const stars = (priority) => STARS[priority] ?? "";

export function metricTitle(metric, vocabulary) {
  return vocabulary.metrics[metric]?.[language()] ?? metric;
}

export function valueText(metric, value, vocabulary) {
  return Number(value).toFixed(vocabulary.metrics[metric]?.decimals ?? 0);
}

/** `spo2_low` → "Oxygen saturation low"; codes nobody told us about are shown as they are. */
export function conditionWords(code, vocabulary) {
  const known = codeWords(code);
  if (known) return known;
  const [, metric, side] = /^(.+)_(high|low)$/.exec(code) ?? [];
  if (metric && vocabulary.metrics[metric]) return t(`metric_${side}`, { metric: metricTitle(metric, vocabulary) });
  return code;
}

export function evidenceWords({ metric, value, limit, lead }, vocabulary) {
  const facts = vocabulary.metrics[metric];
  const shown = (number) => (facts ? valueText(metric, number, vocabulary) : String(number));
  const parts = [metricTitle(metric, vocabulary)];
  if (lead) parts.push(lead);
  parts.push(`${shown(value)} ${unitText(facts?.unit)}`.trim());
  const words = parts.join(" ");
  return limit === null || limit === undefined ? words : `${words} (${t("limit", { v: shown(limit) })})`;
}

export const isActive = (alert) => alert.phase !== "cleared";

/** Highest priority first, then the newest onset. */
export function byUrgency(a, b) {
  return b.priority - a.priority || b.onset_us - a.onset_us;
}

/** Highest active priority for each metric that an alarm of this patient rests on. */
export function alarmedMetrics(alerts) {
  const found = new Map();
  for (const alert of alerts) {
    for (const { metric } of alert.evidence ?? []) {
      found.set(metric, Math.max(found.get(metric) ?? 0, alert.priority));
    }
  }
  return found;
}

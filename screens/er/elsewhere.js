// The words of a session that is routed elsewhere. Pure but for the language in use.
import { t } from "../parts/strings.js";
import { ageText, clockText, dateText } from "../parts/time_text.js";
import { originName } from "./patient_words.js";

// A box whose clock was never set opens its sessions in 1970.
const EARLIEST_PLAUSIBLE_US = 1_577_836_800e6;
const DAY_MS = 86_400_000;

/** {label, kind, origin, opened}; a label the server withholds is said to be. */
export function elsewhereWords({ kind, label, origin, opened_us }, nowUs) {
  const ageMs = (nowUs - opened_us) / 1000;
  const time = (ageMs < DAY_MS ? clockText : dateText)(opened_us);
  return {
    label: label || t("label_withheld"),
    kind: t(["mission", "visit", "home"].includes(kind) ? kind : "kind_unknown"),
    origin: originName(origin),
    opened: opened_us < EARLIEST_PLAUSIBLE_US ? t("opened_unknown") : t("opened_at", { time, age: ageText(ageMs) }),
  };
}

/** Whether its label holds what somebody typed. */
export const isMeant = ({ label }, text) => label.toLowerCase().includes(text.trim().toLowerCase());

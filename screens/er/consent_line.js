// What stands of a patient's consent, one line a purpose, and the way to record more.
import { ask } from "../parts/ask.js";
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { t } from "../parts/strings.js";
import { clockText, dateText } from "../parts/time_text.js";
import { openConsentForm, PURPOSES } from "./consent_form.js";

// Each look is written to the audit trail: rarely enough for it, often enough for what a colleague records.
const LOOK_MS = 300_000;
const RETRY_MS = 10_000;

/** {words, level}; `standing` undefined: not known, null: nobody recorded anything, which is no consent. */
export function consentWords(standing) {
  if (standing === undefined) return { words: t("consent_unknown"), level: "unknown" };
  if (standing === null) return { words: t("consent_none"), level: "none" };
  return { words: `${t(`basis_${standing.basis}`)} · ${clockText(standing.at_us).slice(0, 5)}`, level: standing.basis };
}

export class ConsentLine {
  #dueMs = -Infinity;
  #isAsking = false;

  constructor({ session }) {
    this.session = session;
    this.standing = {};
    this.values = Object.fromEntries(PURPOSES.map((purpose) => [purpose, el("dd", { "data-testid": `consent-${purpose}` })]));
    this.record = el("button", { type: "button", class: "small", "data-testid": "consent-record", onclick: () => this.#open() }, t("consent_record"));
    this.node = el(
      "section",
      { class: "consent", "aria-label": t("consent"), "data-testid": "consent", hidden: true },
      el("h3", {}, t("consent"), this.record),
      el("dl", {}, ...PURPOSES.flatMap((purpose) => [el("dt", {}, t(`consent_${purpose}`)), this.values[purpose]])),
    );
  }

  /** Looks when it is due; the panel calls it a few times a second. */
  refresh(nowMs) {
    if (nowMs >= this.#dueMs && !this.#isAsking) this.#look();
  }

  async #look() {
    this.#isAsking = true;
    const { status, body } = await ask(this.#path());
    this.#isAsking = false;
    const mayNot = status === 401 || status === 403;
    const isAnswered = status === 200 || status === 404; // another hospital's by now is none of ours
    this.#dueMs = mayNot ? Infinity : performance.now() + (isAnswered ? LOOK_MS : RETRY_MS);
    this.standing = status === 200 ? body.standing : {};
    setHidden(this.node, mayNot);
    for (const purpose of PURPOSES) {
      const { words, level } = consentWords(this.standing[purpose]);
      setText(this.values[purpose], words);
      setAttribute(this.values[purpose], "data-level", level);
      setAttribute(this.values[purpose], "title", this.standing[purpose] ? dateText(this.standing[purpose].at_us) : null);
    }
  }

  #open() {
    const { label, session_id } = this.session();
    openConsentForm({ path: this.#path(), label: label || session_id, onRecorded: () => this.#look() });
  }

  #path() {
    return `/api/v1/sessions/${encodeURIComponent(this.session().session_id)}/consent`;
  }
}

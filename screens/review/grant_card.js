// One grant on the page: who, where, what, when, why; and the form to review it, or the review.
import { ask, problemKey } from "../parts/ask.js";
import { el, setAttribute, setText } from "../parts/dom.js";
import { NoteField } from "../parts/note_field.js";
import { t } from "../parts/strings.js";
import { dateText } from "../parts/time_text.js";
import { grantWords, stateOf } from "./grant_words.js";

const OWN_WORDS = { 403: "review_refused", 404: "review_gone", 409: "review_twice" };

export class GrantCard {
  #isBusy = false;

  /** `draft`: what was typed before; `onDraft(text)` keeps it; `onSettled(key)`: reviewed, by us or by another. */
  constructor({ grant, reader, nowUs, draft, onDraft, onSettled }) {
    Object.assign(this, { grant, onSettled });
    const { reason, ...facts } = grantWords(grant, nowUs);
    this.node = el(
      "article",
      { class: "grant", "data-testid": "grant", "data-id": grant.grant_id, "data-waits": grant.to_review ? "true" : null },
      el("p", { class: "grant-state" }, t(grant.to_review ? "review_waiting" : "review_done")),
      el("dl", { class: "facts" }, ...Object.entries(facts).map(([name, words]) => el("div", {}, el("dt", {}, t(`review_${name}`)), el("dd", {}, words)))),
      el("p", { class: "reason" }, el("span", { class: "quiet-words" }, `${t("review_reason")}${t("colon")}`), reason),
    );
    const state = stateOf(grant, reader);
    if (state === "done") this.node.append(...this.#review());
    else if (state === "own") this.node.append(el("p", { class: "warning", "data-testid": "review-own" }, t("review_own")));
    else this.node.append(this.#form(draft, onDraft));
  }

  #review() {
    const { reviewer, reviewed_us, note } = this.grant;
    const by = t("review_by", { who: reviewer, time: dateText(reviewed_us) });
    return [el("p", { class: "reason" }, el("span", { class: "quiet-words" }, `${by}${t("colon")}`), note)];
  }

  #form(draft, onDraft) {
    this.note = new NoteField({ name: `note-${this.grant.grant_id}`, label: t("review_note"), value: draft, onInput: onDraft });
    setAttribute(this.note.area, "data-testid", "review-note");
    this.problem = el("p", { class: "problem", role: "alert", "data-testid": "review-problem" });
    this.send = el("button", { type: "submit", class: "chief", "data-testid": "review-send" }, t("review_send"));
    return el("form", { class: "review-form", novalidate: true, onsubmit: (event) => this.#submit(event) }, this.note.node, this.problem, this.send);
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isBusy) return;
    if (!this.note.isEnough) {
      setText(this.problem, t("note_short", { n: this.note.least }));
      this.note.refuse();
      return;
    }
    this.#isBusy = true;
    setText(this.problem, "");
    setAttribute(this.send, "aria-disabled", "true");
    const { status } = await ask(`/api/v1/break-glass/${encodeURIComponent(this.grant.grant_id)}/review`, { note: this.note.text });
    this.#isBusy = false;
    setAttribute(this.send, "aria-disabled", null);
    if (status === 200) this.onSettled("review_recorded");
    else if (status === 409) this.onSettled("review_twice");
    else setText(this.problem, t(problemKey(status, OWN_WORDS), { status }));
  }
}

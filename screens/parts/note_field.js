// A field for a sentence that somebody will read later: how much of it there is, is counted below it.
import { el, setAttribute, setText } from "./dom.js";
import { t } from "./strings.js";

// As the server asks (cloud/api/reach_routes.py, consent_routes.py).
export const SHORTEST = 10;
export const LONGEST = 500;

/** Characters as a reader counts them, without the blanks around. */
export const countOf = (text) => [...text.trim()].length;

/** What the counter says of so many characters where `least` are asked for. */
export function countWords(count, least) {
  return count < least ? t("note_more", { n: least - count }) : t("note_count", { n: count, most: LONGEST });
}

export class NoteField {
  constructor({ name, label, least = SHORTEST, value = "", onInput = () => {} }) {
    this.least = least;
    this.counter = el("span", { class: "note-count", id: `${name}-count`, "data-testid": `${name}-count` });
    this.area = el("textarea", {
      name,
      rows: "3",
      maxlength: String(LONGEST),
      "data-testid": name,
      "aria-describedby": `${name}-count`,
      oninput: () => {
        this.#count();
        onInput(this.area.value);
      },
    });
    this.area.value = value;
    this.node = el("div", { class: "note" }, el("label", {}, el("span", {}, label), this.area), this.counter);
    this.#count();
  }

  get text() {
    return this.area.value.trim();
  }

  get isEnough() {
    return countOf(this.area.value) >= this.least;
  }

  ask(least) {
    this.least = least;
    this.#count();
  }

  /** Stands on the field, which is wrong. */
  refuse() {
    setAttribute(this.area, "aria-invalid", "true");
    this.area.focus();
  }

  #count() {
    setText(this.counter, countWords(countOf(this.area.value), this.least));
    setAttribute(this.counter, "data-short", this.isEnough ? null : "true");
    if (this.isEnough) setAttribute(this.area, "aria-invalid", null);
  }
}

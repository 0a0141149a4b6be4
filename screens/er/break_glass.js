// Opens one patient who is routed elsewhere, for the one who asks and for a while: which, why, and what that means.
import { ask, problemKey } from "../parts/ask.js";
import { el, setHidden, setText } from "../parts/dom.js";
import { FormDialog, radios } from "../parts/form_dialog.js";
import { NoteField } from "../parts/note_field.js";
import { t } from "../parts/strings.js";
import { elsewhereWords, isMeant } from "./elsewhere.js";

// More than one looks over at a glance.
const FILTER_FROM = 7;
const OWN_WORDS = { 403: "break_glass_forbidden", 404: "break_glass_gone" };
const LIST_WORDS = { ...OWN_WORDS, 0: "break_glass_no_list", 503: "break_glass_no_list" };

export class BreakGlass {
  /** `onOpened(grant, label)`: the server has opened it. */
  constructor({ store, onOpened }) {
    Object.assign(this, { store, onOpened });
  }

  async open() {
    this.sessions = [];
    this.choice = null;
    this.list = el("div", { class: "elsewhere" });
    this.reason = new NoteField({ name: "break-glass-reason", label: t("break_glass_reason") });
    this.warning = el("p", { class: "warning", "data-testid": "break-glass-warning" });
    this.form = new FormDialog({
      name: "break-glass",
      title: t("break_glass"),
      sendWords: t("break_glass"),
      onSend: () => this.#send(),
    });
    this.form.body.append(this.list);
    setHidden(this.form.send, true);
    this.form.open();
    await this.#load();
  }

  async #load() {
    this.list.replaceChildren(el("p", { class: "quiet-words", role: "status" }, t("loading")));
    const { status, body } = await ask("/api/v1/elsewhere");
    if (status !== 200) return this.#cannot(t(problemKey(status, LIST_WORDS), { status }));
    this.sessions = body.sessions;
    if (body.sessions.length === 0) {
      this.list.replaceChildren(el("p", { class: "quiet-words", role: "status", "data-testid": "break-glass-none" }, t("break_glass_none")));
      return;
    }
    this.#show(body);
  }

  #cannot(words) {
    const again = el("button", { type: "button", "data-testid": "break-glass-again", onclick: () => this.#load() }, t("try_again"));
    this.list.replaceChildren(el("p", { class: "problem", role: "alert" }, words), again);
    again.focus();
  }

  #show({ sessions, truncated, minutes }) {
    const nowUs = this.store.serverUs(performance.now());
    const options = sessions.map((session) => ({ value: session.session_id, words: lineOf(session, nowUs) }));
    this.choice = radios("elsewhere", t("break_glass_which"), options);
    const filter = el("input", {
      type: "search",
      placeholder: t("break_glass_filter"),
      "aria-label": t("break_glass_filter"),
      "data-testid": "break-glass-filter",
      oninput: () => this.#filter(filter.value),
      // Enter would send the form.
      onkeydown: (event) => event.key === "Enter" && event.preventDefault(),
    });
    this.list.replaceChildren(
      ...(sessions.length < FILTER_FROM ? [] : [filter]),
      this.choice.node,
      ...(truncated ? [el("p", { class: "quiet-words" }, t("break_glass_first", { n: sessions.length }))] : []),
    );
    setText(this.warning, t("break_glass_warning", { n: minutes }));
    this.form.body.append(this.reason.node, this.warning);
    setHidden(this.form.send, false);
    (sessions.length < FILTER_FROM ? this.choice.inputs[0] : filter).focus();
  }

  /** What is out of sight is not chosen either. */
  #filter(text) {
    this.sessions.forEach((session, at) => {
      const isShown = isMeant(session, text);
      setHidden(this.choice.labels[at], !isShown);
      if (!isShown) this.choice.inputs[at].checked = false;
    });
  }

  async #send() {
    const at = this.choice.inputs.findIndex(({ checked }) => checked);
    if (at < 0) {
      this.choice.inputs.find((_, place) => !this.choice.labels[place].hidden)?.focus();
      return t("break_glass_choose");
    }
    if (!this.reason.isEnough) {
      this.reason.refuse();
      return t("note_short", { n: this.reason.least });
    }
    const session = this.sessions[at];
    const path = `/api/v1/sessions/${encodeURIComponent(session.session_id)}/break-glass`;
    const { status, body } = await ask(path, { reason: this.reason.text });
    if (status !== 201) return t(problemKey(status, OWN_WORDS), { status });
    this.onOpened(body.grant, elsewhereWords(session, 0).label);
    return "";
  }
}

function lineOf(session, nowUs) {
  const { label, kind, origin, opened } = elsewhereWords(session, nowUs);
  const badge = origin && el("span", { class: "origin-badge" }, origin);
  return [el("b", { "data-withheld": session.label ? null : "true" }, label), badge || null, el("span", { class: "quiet-words" }, `${kind} · ${opened}`)].filter(Boolean);
}

// A form over the screen: the browser keeps the keyboard within it, closes it by Esc and gives the focus back.
import { el, setAttribute, setText } from "./dom.js";
import { t } from "./strings.js";

export class FormDialog {
  #isBusy = false;

  /** `onSend` tells in words what is in the way, or "" when it is done and the dialog may close. */
  constructor({ name, title, sendWords, onSend }) {
    this.onSend = onSend;
    this.body = el("div", { class: "form-body" });
    this.problem = el("p", { class: "problem", role: "alert", "data-testid": `${name}-problem` });
    this.send = el("button", { type: "submit", class: "chief", "data-testid": `${name}-send` }, sendWords);
    this.node = el(
      "dialog",
      { class: "form-dialog", "aria-labelledby": `${name}-title`, "data-testid": `${name}-dialog`, onclose: () => this.node.remove() },
      el(
        "form",
        { novalidate: true, onsubmit: (event) => this.#submit(event) },
        el("h2", { id: `${name}-title` }, title),
        this.body,
        this.problem,
        el(
          "p",
          { class: "form-buttons" },
          el("button", { type: "button", "data-testid": `${name}-cancel`, onclick: () => this.node.close() }, t("cancel")),
          this.send,
        ),
      ),
    );
  }

  open() {
    document.body.append(this.node);
    this.node.showModal();
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isBusy) return;
    this.#isBusy = true;
    setAttribute(this.send, "aria-disabled", "true");
    setText(this.problem, "");
    const problem = await this.onSend();
    this.#isBusy = false;
    setAttribute(this.send, "aria-disabled", null);
    setText(this.problem, problem);
    if (!problem) this.node.close();
  }
}

/** Radio buttons of one name: options [{value, words}]; arrow keys move among them as everywhere. */
export function radios(name, legend, options, { chosen = null, onChange = () => {} } = {}) {
  const inputs = options.map(({ value }) => {
    const input = el("input", { type: "radio", name, value, checked: value === chosen, "data-testid": `${name}-${value}`, onchange: () => onChange(value) });
    return input;
  });
  const labels = inputs.map((input, at) => el("label", { class: "option" }, input, el("span", {}, ...[options[at].words].flat())));
  return { node: el("fieldset", { class: "options" }, el("legend", {}, legend), ...labels), inputs, labels };
}

// Records one act of consent: for what, what was said or done, and why.
import { ask, problemKey } from "../parts/ask.js";
import { FormDialog, radios } from "../parts/form_dialog.js";
import { NoteField, SHORTEST } from "../parts/note_field.js";
import { t } from "../parts/strings.js";

export const PURPOSES = ["care", "history"];
const BASES = ["emergency", "consent", "guardian", "refused", "withdrawn"];
// These want a reason (cloud/api/consent_routes.py).
const EXPLAINED = ["emergency", "refused", "withdrawn"];
const OWN_WORDS = { 403: "consent_forbidden", 404: "consent_not_yet" };

/** How many characters the note of a basis needs. */
export const leastNote = (basis) => (EXPLAINED.includes(basis) ? SHORTEST : 0);

export function openConsentForm({ path, label, onRecorded }) {
  const chosen = { purpose: "care", basis: null };
  const optionsOf = (values, prefix) => values.map((value) => ({ value, words: t(`${prefix}_${value}`) }));
  const note = new NoteField({ name: "consent-note", label: t("consent_note"), least: 0 });
  const purpose = radios("purpose", t("consent_purpose"), optionsOf(PURPOSES, "consent"), {
    chosen: "care",
    onChange: (value) => (chosen.purpose = value),
  });
  const basis = radios("basis", t("consent_basis"), optionsOf(BASES, "basis"), {
    onChange: (value) => {
      chosen.basis = value;
      note.ask(leastNote(value));
    },
  });

  async function send() {
    if (!chosen.basis) {
      basis.inputs[0].focus();
      return t("consent_choose");
    }
    if (!note.isEnough) {
      note.refuse();
      return t("note_short", { n: note.least });
    }
    const { status } = await ask(path, { ...chosen, note: note.text });
    if (status !== 201) return t(problemKey(status, OWN_WORDS), { status });
    onRecorded();
    return "";
  }

  const form = new FormDialog({ name: "consent", title: t("consent_title", { label }), sendWords: t("consent_send"), onSend: send });
  form.body.append(purpose.node, basis.node, note.node);
  form.open();
  basis.inputs[0].focus();
}

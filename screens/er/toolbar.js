// The bar on top: view, trace settings, screen calibration, language, clock.
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { LAYOUTS } from "../parts/lead_layout.js";
import { SignedIn } from "../parts/signed_in.js";
import { language, otherLanguage, setLanguage, t } from "../parts/strings.js";
import { clockText } from "../parts/time_text.js";
import { GAINS, NOMINAL_PX_PER_MM, SPEEDS } from "./settings.js";

const RULER_MM = 100;

export class Toolbar {
  constructor({ settings, onView, onLanguage, onBreakGlass }) {
    this.settings = settings;
    this.clock = el("time", { class: "clock", "data-testid": "clock" });
    this.signIn = el("span", { class: "auto-sign-in", "data-testid": "auto-sign-in", hidden: true });
    this.patient = el("button", { type: "button", "data-testid": "view-patient", onclick: () => onView(false) }, t("patient"));
    this.wall = el("button", { type: "button", "data-testid": "view-wall", onclick: () => onView(true) }, t("wall"));
    this.glass = el(
      "button",
      { type: "button", class: "glass", "data-testid": "break-glass", title: t("break_glass_hint"), hidden: true, onclick: onBreakGlass },
      t("break_glass"),
    );
    this.signedIn = new SignedIn();
    this.calibration = calibrationDialog(settings);
    this.node = el(
      "header",
      { class: "toolbar" },
      el("h1", { class: "brand" }, el("b", {}, "vitalwire"), el("span", {}, t("title"))),
      el("div", { class: "segments", role: "group" }, this.patient, this.wall),
      this.#choice("layout", LAYOUTS, (value) => value.replace("x", "×")),
      this.#choice("speed", SPEEDS, (value) => `${value} mm/s`),
      this.#choice("gain", GAINS, (value) => `${value} mm/mV`),
      el("button", { type: "button", onclick: () => this.calibration.showModal() }, t("calibrate")),
      this.glass,
      el("span", { class: "spring" }),
      this.signIn,
      this.signedIn.node,
      el(
        "button",
        {
          type: "button",
          "data-testid": "language-switch",
          title: t("language_hint"),
          lang: language() === "zh" ? "en" : "zh-CN",
          onclick: () => {
            setLanguage(otherLanguage());
            onLanguage();
          },
        },
        t("language"),
      ),
      this.clock,
      this.calibration,
    );
  }

  update({ wall, hello, nowUs }) {
    setText(this.clock, clockText(nowUs));
    setAttribute(this.patient, "aria-pressed", String(!wall));
    setAttribute(this.wall, "aria-pressed", String(wall));
    this.signedIn.update(hello);
    // Behind a token or in a demo is no person who could answer for it.
    setHidden(this.glass, !(hello?.can_sign_out && hello.role === "er_clinician"));
    setHidden(this.signIn, !hello?.auto_sign_in);
    setText(this.signIn, t("auto_sign_in"));
  }

  #choice(name, values, words) {
    const select = el("select", {
      "data-testid": `setting-${name}`,
      onchange: () => this.settings.set(name, values[select.selectedIndex]),
    });
    select.append(...values.map((value) => el("option", { selected: value === this.settings[name] }, words(value))));
    return el("label", { class: "choice" }, el("span", {}, t(name)), select);
  }
}

function calibrationDialog(settings) {
  const bar = el("div", { class: "ruler" });
  const show = () => (bar.style.width = `${slider.value * RULER_MM}px`);
  const slider = el("input", {
    type: "range",
    min: "2",
    max: "8",
    step: "0.005",
    value: String(settings.pxPerMm),
    "aria-label": t("calibrate"),
    oninput: show,
    onchange: () => settings.set("pxPerMm", Number(slider.value)),
  });
  const reset = () => {
    settings.set("pxPerMm", NOMINAL_PX_PER_MM);
    slider.value = String(NOMINAL_PX_PER_MM);
    show();
  };
  const dialog = el(
    "dialog",
    { class: "calibration" },
    el("h2", {}, t("calibrate")),
    el("p", {}, t("calibrate_text")),
    bar,
    slider,
    el(
      "p",
      { class: "dialog-buttons" },
      el("button", { type: "button", onclick: reset }, t("calibrate_reset")),
      el("button", { type: "button", onclick: () => dialog.close() }, t("close")),
    ),
  );
  show();
  return dialog;
}

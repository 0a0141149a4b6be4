// What is on the stage: one patient large, or up to six side by side.
import { el } from "../parts/dom.js";
import { t } from "../parts/strings.js";
import { PatientPanel } from "./patient_panel.js";

export const WALL_MAX = 6;

export class Stage {
  constructor({ store, settings, onOpen }) {
    Object.assign(this, { store, settings, onOpen });
    this.panels = new Map();
    this.nobody = el(
      "div",
      { class: "nobody" },
      el("strong", {}, t("no_sessions")),
      el("p", {}, t("no_sessions_hint")),
    );
    this.node = el("main", { class: "stage" }, this.nobody);
    this.shown = null;
  }

  /** Shows these sessions, in this order; panels that stay keep their traces. */
  show(sessionIds, compact) {
    const wanted = `${compact}/${sessionIds.join()}`;
    if (wanted === this.shown) return;
    this.shown = wanted;
    for (const [id, panel] of this.panels) {
      if (sessionIds.includes(id) && panel.compact === compact) continue;
      panel.dispose();
      this.panels.delete(id);
    }
    for (const id of sessionIds) if (!this.panels.has(id)) this.panels.set(id, this.#build(id, compact));
    this.node.replaceChildren(...sessionIds.map((id) => this.panels.get(id).node));
    if (sessionIds.length === 0) this.node.append(this.nobody);
    this.node.dataset.tiles = compact ? String(sessionIds.length) : "patient";
  }

  paint(nowMs) {
    for (const panel of this.panels.values()) panel.paint(nowMs);
  }

  refresh(link, nowMs) {
    for (const panel of this.panels.values()) panel.refresh(link, nowMs);
  }

  stats() {
    return Object.fromEntries([...this.panels].map(([id, panel]) => [id, panel.stats()]));
  }

  dispose() {
    for (const panel of this.panels.values()) panel.dispose();
  }

  #build(id, compact) {
    const patient = this.store.patients.get(id);
    return new PatientPanel({
      patient,
      store: this.store,
      settings: this.settings,
      compact,
      onOpen: () => this.onOpen(id),
    });
  }
}

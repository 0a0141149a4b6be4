// What is on the stage: one patient large, or up to six side by side.
import { el, setText } from "../parts/dom.js";
import { t } from "../parts/strings.js";
import { PatientPanel } from "./patient_panel.js";

export const WALL_MAX = 6;

export class Stage {
  constructor({ store, settings, onOpen }) {
    Object.assign(this, { store, settings, onOpen });
    this.panels = new Map();
    this.nobodyTitle = el("strong", {});
    this.nobodyHint = el("p", {});
    this.nobody = el("div", { class: "nobody" }, this.nobodyTitle, this.nobodyHint);
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
    this.#refreshNobody();
    for (const panel of this.panels.values()) panel.refresh(link, nowMs);
  }

  stats() {
    return Object.fromEntries([...this.panels].map(([id, panel]) => [id, panel.stats()]));
  }

  dispose() {
    for (const panel of this.panels.values()) panel.dispose();
  }

  /** A hospital that is sent nobody must not be told that there is nobody. */
  #refreshNobody() {
    const hospital = this.store.hello?.hospital;
    const isOneOfMany = hospital && hospital !== "*";
    setText(this.nobodyTitle, isOneOfMany ? t("none_routed", { hospital }) : t("no_sessions"));
    setText(this.nobodyHint, t(isOneOfMany ? "none_routed_hint" : "no_sessions_hint"));
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

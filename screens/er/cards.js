// The strip of incoming patients: one card each, always on screen.
import { byUrgency, conditionWords, stars } from "../parts/alarm_words.js";
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { isEnded, newestAgeMs } from "../parts/silence.js";
import { t } from "../parts/strings.js";
import { freshness, gatewayWords, glassWords, originName } from "./patient_words.js";

export class Cards {
  constructor({ onOpen, onPin }) {
    this.onOpen = onOpen;
    this.onPin = onPin;
    this.cards = new Map();
    this.node = el("nav", { class: "cards", "aria-label": t("incoming") });
  }

  /** alarmsOf(sessionId) → active alerts, this screen's own included; state: {selected, pinned: Set, wall}. */
  update(store, alarmsOf, state, link, nowMs) {
    for (const [id, card] of this.cards) {
      if (store.patients.has(id)) continue;
      card.node.remove();
      this.cards.delete(id);
    }
    for (const [id, patient] of store.patients) {
      const card = this.cards.get(id) ?? this.#build(id);
      this.#fill(card, patient, store, alarmsOf(id), state, link, nowMs);
    }
  }

  #build(id) {
    const part = (name) => el("span", { class: `card-${name}` });
    const card = {
      label: part("label"),
      kind: part("kind"),
      origin: el("span", { class: "origin-badge" }),
      gateway: part("gateway"),
      age: part("age"),
      alarm: part("alarm"),
      glass: el("span", { class: "glass-mark", "data-testid": "card-glass" }),
      pin: el("button", { class: "card-pin", type: "button", onclick: () => this.onPin(id) }),
    };
    card.open = el(
      "button",
      { class: "card-open", type: "button", onclick: () => this.onOpen(id) },
      el("span", { class: "card-line" }, card.label, card.origin, card.kind),
      el("span", { class: "card-line" }, card.gateway, card.age),
      el("span", { class: "card-line" }, card.alarm),
      card.glass,
    );
    card.node = el("div", { class: "card", "data-testid": "patient-card", "data-session": id }, card.open, card.pin);
    this.cards.set(id, card);
    this.node.append(card.node);
    return card;
  }

  #fill(card, patient, store, alarms, state, link, nowMs) {
    const { session } = patient;
    const gateway = store.gatewayOf(patient);
    const [worst] = [...alarms].sort(byUrgency);
    const isShown = state.wall ? state.pinned.has(session.session_id) : state.selected === session.session_id;
    setText(card.label, session.label || session.session_id);
    setText(card.kind, isEnded(patient) ? t("ended") : t(session.kind));
    setText(card.origin, originName(session.origin));
    setHidden(card.origin, session.origin === 0);
    const presence = gatewayWords(gateway, link.dead);
    setText(card.gateway, presence.words);
    setAttribute(card.gateway, "data-online", presence.state);
    const { words, level } = freshness(newestAgeMs(store, patient, nowMs), link.dead);
    setText(card.age, words);
    setAttribute(card.age, "data-level", level);
    setAttribute(card.age, "title", t("age"));
    const glass = glassWords(store.grantUntilUs(session.session_id, nowMs));
    setText(card.glass, glass);
    setHidden(card.glass, !glass);
    setText(card.alarm, worst ? `${stars(worst.priority)} ${conditionWords(worst.condition, store.vocabulary)}` : "");
    setAttribute(card.alarm, "data-priority", worst?.priority);
    setAttribute(card.node, "data-alarm", worst?.priority);
    setAttribute(card.open, "aria-current", isShown ? "true" : null);
    setAttribute(card.open, "title", t("open_patient"));
    const isPinned = state.pinned.has(session.session_id);
    setText(card.pin, isPinned ? "▣" : "▢");
    setAttribute(card.pin, "aria-pressed", String(isPinned));
    setAttribute(card.pin, "aria-label", t(isPinned ? "wall_remove" : "wall_add"));
    setAttribute(card.pin, "title", t(isPinned ? "wall_remove" : "wall_add"));
  }
}

// One patient: who, how fresh, the traces, the numbers, what was cleared. Full size, or compact as a tile of the wall.
import { byUrgency, conditionWords, isActive, stars } from "../parts/alarm_words.js";
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { Numerics } from "../parts/numerics.js";
import { isEnded, newestAgeMs, numericsSilence, streamSilence } from "../parts/silence.js";
import { both, codeWords, t } from "../parts/strings.js";
import { clockText } from "../parts/time_text.js";
import { ConsentLine } from "./consent_line.js";
import { freshness, gatewayWords, glassWords, originName } from "./patient_words.js";
import { StreamView } from "./stream_view.js";

const LISTED = 5;

export class PatientPanel {
  constructor({ patient, store, settings, compact, onOpen }) {
    Object.assign(this, { patient, store, settings, compact });
    this.views = [];
    this.revision = -1;
    this.numerics = new Numerics({ compact });
    this.head = {
      label: el("h2", { class: "panel-label" }),
      glass: el("span", { class: "glass-mark", "data-testid": "panel-glass" }),
      kind: el("span", { class: "panel-kind" }),
      origin: el("span", { class: "origin-badge" }),
      gateway: el("span", { class: "panel-gateway" }),
      age: el("span", { class: "panel-age" }),
      alarm: el("span", { class: "panel-alarm" }),
      trouble: el("span", { class: "panel-trouble" }),
    };
    this.waves = el("div", { class: "waves" });
    this.empty = el("div", { class: "waves-empty" });
    this.cleared = el("ul", { class: "quiet-list", "data-testid": "cleared-alarms" });
    this.events = el("ul", { class: "quiet-list" });
    const header = el("header", { class: "panel-head" }, ...Object.values(this.head));
    if (compact) {
      header.setAttribute("role", "button");
      header.setAttribute("tabindex", "0");
      header.addEventListener("click", onOpen);
      header.addEventListener("keydown", ({ key }) => (key === "Enter" || key === " ") && onOpen());
    }
    this.side = el("aside", { class: "side" }, this.numerics.node);
    if (!compact) {
      this.clearedTitle = el("h3", {}, t("cleared_list"));
      this.eventsTitle = el("h3", {}, t("events_list"));
      this.consent = new ConsentLine({ session: () => this.patient.session });
      this.side.append(this.consent.node, el("div", { class: "quiet" }, this.clearedTitle, this.cleared, this.eventsTitle, this.events));
    }
    // Over the waves the sheet itself carries the watermark (parts/paper.js); here it lies over all the rest.
    this.watermark = el(
      "div",
      { class: "watermark", hidden: true },
      el("div", { class: "watermark-ink" }),
    );
    this.node = el(
      "article",
      { class: compact ? "panel compact" : "panel", "data-testid": "patient-panel", "data-session": patient.session.session_id },
      header,
      el("div", { class: "panel-body" }, this.waves, this.side),
      this.watermark,
    );
    settings.addEventListener("change", (this.onSettings = () => this.views.forEach((view) => (view.dirty = true))));
  }

  dispose() {
    this.settings.removeEventListener("change", this.onSettings);
    for (const view of this.views) view.dispose();
  }

  paint(nowMs) {
    if (this.revision !== this.patient.revision) this.#rebuildViews();
    for (const view of this.views) view.paint(nowMs, this.store.vocabulary);
  }

  /** Everything that is text; a few times a second. */
  refresh(link, nowMs) {
    const { patient, store } = this;
    const nowUs = store.serverUs(nowMs);
    const active = [...patient.alerts.values()].filter(isActive).sort(byUrgency);
    this.#refreshHead(active, link, nowMs);
    for (const view of this.views) {
      view.showSilence(streamSilence(store, patient, view.stream, link, nowMs), nowUs);
      view.showOrigin(patient.session.origin);
      view.showLeadsOff(view.stream.kind === "ecg" ? patient.leadsOff : new Set());
    }
    this.numerics.update(patient, active, store.vocabulary, nowUs);
    this.#refreshEmpty(link, nowMs, nowUs);
    this.#refreshWatermark();
    if (this.compact) return;
    this.#refreshLists();
    this.consent.refresh(nowMs);
  }

  stats() {
    return Object.assign({}, ...this.views.map((view) => view.stats()));
  }

  #rebuildViews() {
    this.revision = this.patient.revision;
    for (const view of this.views) view.dispose();
    // ECG first, the rest below; a tile of the wall has room for the ECG only, if there is one.
    const streams = [...this.patient.streams.values()].sort((a, b) => (b.kind === "ecg") - (a.kind === "ecg"));
    const shown = this.compact ? streams.slice(0, 1) : streams;
    this.views = shown.map((stream) => new StreamView({ stream, settings: this.settings, compact: this.compact }));
    for (const view of this.views) {
      view.titles = this.store.vocabulary.waveforms[view.stream.kind];
      view.node.style.flexGrow = view.weight();
    }
    this.waves.replaceChildren(...this.views.map(({ node }) => node), this.empty);
  }

  #refreshHead(active, link, nowMs) {
    const { patient, store, head } = this;
    const { session } = patient;
    const gateway = store.gatewayOf(patient);
    setText(head.label, session.label || session.session_id);
    const glass = glassWords(store.grantUntilUs(session.session_id, nowMs));
    setText(head.glass, glass);
    setHidden(head.glass, !glass);
    setText(head.kind, isEnded(patient) ? t("ended") : t(session.kind));
    setText(head.origin, originName(session.origin));
    setHidden(head.origin, session.origin === 0);
    const presence = gatewayWords(gateway, link.dead);
    setText(head.gateway, presence.words);
    setAttribute(head.gateway, "data-online", presence.state);
    const { words, level } = freshness(newestAgeMs(store, patient, nowMs), link.dead);
    setText(head.age, `${t("age")} ${words}`);
    setAttribute(head.age, "data-level", level);
    const [worst] = active;
    setText(head.alarm, worst ? `${stars(worst.priority)} ${conditionWords(worst.condition, store.vocabulary)}` : "");
    setHidden(head.alarm, !worst || !this.compact);
    setAttribute(head.alarm, "data-priority", worst?.priority);
    setAttribute(this.node, "data-alarm", worst?.priority);
    const trouble = [];
    if (gateway?.clock_synchronised === false) trouble.push(t("clock_unsynchronised"));
    if (gateway?.backlog_records) trouble.push(t("backlog", { n: gateway.backlog_records }));
    if (patient.dropped) trouble.push(t("frames_dropped", { n: patient.dropped }));
    setText(head.trouble, this.compact ? "" : trouble.join(" · "));
  }

  #refreshEmpty(link, nowMs, nowUs) {
    const nothing = this.views.length === 0;
    setHidden(this.empty, !nothing);
    if (!nothing) return;
    const silence = numericsSilence(this.store, this.patient, link, nowMs);
    setAttribute(this.empty, "data-testid", silence ? "no-data" : "no-waveform");
    setText(this.empty, silence ? `${both("no_data")} — ${clockText(Math.min(silence.sinceUs, nowUs))}` : both("no_waveform"));
    this.empty.classList.toggle("no-data", silence !== null);
  }

  #refreshWatermark() {
    const { origin } = this.patient.session;
    setHidden(this.watermark, origin === 0);
    if (origin === 0) return;
    const name = origin === 1 ? "test" : "demo";
    setAttribute(this.watermark, "data-testid", `${name}-watermark`);
    setAttribute(this.watermark, "role", "img");
    setAttribute(this.watermark, "aria-label", t(`${name}_watermark`));
    setAttribute(this.watermark, "data-origin", name);
  }

  #refreshLists() {
    const { patient, store } = this;
    const cleared = [...patient.alerts.values()].filter((alert) => !isActive(alert));
    cleared.sort((a, b) => b.time_us - a.time_us);
    fillList(
      this.cleared,
      cleared.slice(0, LISTED).map(({ time_us, condition }) => [
        clockText(time_us),
        conditionWords(condition, store.vocabulary),
      ]),
    );
    const events = patient.events.slice(-LISTED).reverse();
    fillList(
      this.events,
      events.map(({ time_us, kind, leads, detail }) => [
        clockText(time_us),
        [codeWords(kind) ?? kind, ...leads, detail].filter(Boolean).join(" "),
      ]),
    );
    setHidden(this.clearedTitle, cleared.length === 0);
    setHidden(this.eventsTitle, events.length === 0);
  }
}

function fillList(list, lines) {
  const stamp = JSON.stringify(lines);
  if (list.dataset.stamp === stamp) return;
  list.dataset.stamp = stamp;
  list.replaceChildren(...lines.map(([time, words]) => el("li", {}, el("time", {}, time), ` ${words}`)));
}

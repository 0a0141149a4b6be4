// One waveform stream of one patient: a strip for each lead, the caption that says the scale, and "no data" when it stops.
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { arrange, sizePercent } from "../parts/lead_layout.js";
import { PULSE_ROOM_MM } from "../parts/paper.js";
import { both, language, t } from "../parts/strings.js";
import { Sweep } from "../parts/sweep.js";
import { ageText, clockText } from "../parts/time_text.js";

const COLOURS = { ecg: "#4dff9a", pleth: "#6cc7ff" };
// The same words and colours as parts/demo.svg and parts/test.svg.
const WATERMARKS = { 1: { words: "TEST 测试", colour: "#6cc7ff" }, 2: { words: "DEMO 演示", colour: "#ffb454" } };
const OTHER_COLOUR = "#f2dca0";

export class StreamView {
  constructor({ stream, settings, compact }) {
    this.stream = stream;
    this.settings = settings;
    this.compact = compact;
    this.canvas = el("canvas", { class: "trace", "aria-hidden": "true" });
    this.sweep = new Sweep(this.canvas);
    this.frames = new Map(); // strip id -> the element that names its place on the canvas
    this.dirty = true;
    this.caption = el("p", { class: "stream-caption" });
    this.sheet = el("div", { class: "sheet" }, this.canvas);
    this.since = el("span", { class: "no-data-since" });
    this.why = el("span", { class: "no-data-why" });
    this.noData = el(
      "div",
      { class: "no-data", "data-testid": "no-data", hidden: true },
      el("strong", { class: "no-data-words" }, both("no_data")),
      this.since,
      this.why,
    );
    this.node = el(
      "section",
      { class: "stream", "data-stream": stream.name, "data-kind": stream.kind },
      this.caption,
      el("div", { class: "sheet-frame" }, this.sheet, this.noData),
    );
    this.observer = new ResizeObserver(() => (this.dirty = true));
    this.observer.observe(this.sheet);
  }

  dispose() {
    this.observer.disconnect();
  }

  /** How many rows it would like beside other streams. */
  weight() {
    const count = this.stream.ring.leads.length;
    return this.stream.kind === "pleth" ? 0.8 : Math.max(1, Math.min(count, 4));
  }

  paint(nowMs, vocabulary) {
    if (this.dirty) this.#layOut(vocabulary);
    const { ring, playout } = this.stream;
    if (ring.takeLate() !== null) this.sweep.invalidate();
    this.sweep.paint(playout.head(nowMs, ring.end), nowMs);
  }

  showLeadsOff(leadsOff) {
    this.sweep.setWarnings((lead) => (leadsOff.has(lead) || leadsOff.has("*") ? t("lead_off") : ""));
  }

  showOrigin(origin) {
    const dpr = window.devicePixelRatio || 1;
    this.sweep.setWatermark(origin === 0 ? null : { ...WATERMARKS[origin], dpr });
  }

  showSilence(silence, nowUs) {
    setHidden(this.noData, silence === null);
    setAttribute(this.node, "data-frozen", silence !== null);
    this.sweep.setFrozen(silence !== null);
    if (silence === null) return;
    const age = ageText((nowUs - silence.sinceUs) / 1000);
    setText(this.since, t("since", { time: clockText(silence.sinceUs), age }));
    const reasons = { screen: "because_screen", offline: "because_offline", silent: "because_silent" };
    setText(this.why, t(reasons[silence.reason]));
  }

  stats() {
    const leads = {};
    for (const strip of this.sweep.strips) {
      if (strip.look.rhythm) continue;
      leads[strip.look.lead] = {
        stream: this.stream.name,
        samples: strip.drawn,
        gaps: strip.holes,
        duplicates: this.stream.ring.duplicates,
        lastDrawnMs: strip.drawnMs,
        lastDrawnUs: strip.drawnUs,
      };
    }
    return leads;
  }

  #layOut(vocabulary) {
    const { clientWidth, clientHeight } = this.sheet;
    if (clientWidth < 20 || clientHeight < 10) return;
    this.dirty = false;
    const { ring, kind } = this.stream;
    const hasUnit = kind === "ecg";
    const layout = this.compact ? "6x2" : this.settings.layout;
    const plan = arrange(ring.leads, layout, vocabulary.leads, hasUnit && !this.compact);
    const rows = plan.rows + (plan.rhythm ? 1 : 0);
    const dpr = window.devicePixelRatio || 1;
    const percent = hasUnit
      ? sizePercent(clientWidth / plan.columns, clientHeight / rows, this.settings.pxPerMm)
      : 100;
    const mm = (this.settings.pxPerMm * percent * dpr) / 100;
    const room = hasUnit ? Math.round(PULSE_ROOM_MM * mm) : 0;
    const width = Math.round(clientWidth * dpr);
    const height = Math.round(clientHeight * dpr);
    const cuts = (total, n, k) => Math.round((total * k) / n);
    const edge = (column) => (column === 0 ? 0 : room + cuts(width - room, plan.columns, column));
    const strips = plan.cells.map(({ lead, row, column }) => ({ lead, row, left: edge(column), right: edge(column + 1) }));
    if (plan.rhythm) strips.push({ lead: plan.rhythm, row: plan.rows, left: 0, right: width, rhythm: true });
    // Equal spans make every column wrap at the same moment.
    const span = Math.floor((width - room) / plan.columns);
    for (const strip of strips) {
      strip.top = cuts(height, rows, strip.row);
      strip.height = cuts(height, rows, strip.row + 1) - strip.top;
      strip.traceX = strip.left === 0 ? room : 0;
      strip.width = strip.rhythm ? width : strip.traceX + span;
    }
    this.#configure(strips, { width, height, dpr, mm, hasUnit });
    this.#caption(percent, hasUnit);
  }

  #configure(strips, { width, height, dpr, mm, hasUnit }) {
    const { ring, kind } = this.stream;
    const { speed, gain } = this.settings;
    Object.assign(this.canvas.style, { width: `${width / dpr}px`, height: `${height / dpr}px` });
    const looks = strips.map((strip) => ({
      ...strip,
      id: strip.rhythm ? `${strip.lead}/rhythm` : strip.lead,
      index: ring.leads.indexOf(strip.lead),
      dpr,
      mm,
      gain: hasUnit ? gain : null,
      label: strip.lead,
      note: strip.rhythm ? t("rhythm") : "",
      baselineNote: (shift) => t("baseline", { v: shift.toFixed(1) }),
      pulse: hasUnit && strip.left === 0,
      colour: COLOURS[kind] ?? OTHER_COLOUR,
      line: (this.compact ? 1.3 : 1.6) * dpr,
    }));
    this.sweep.configure(ring, { width, height, mm, speed }, looks);
    this.#placeFrames(looks, dpr);
  }

  #placeFrames(looks, dpr) {
    const frames = looks.map((look) => {
      const frame = this.frames.get(look.id) ?? newFrame(look);
      this.frames.set(look.id, frame);
      const { left, top, width, height } = look;
      const place = { left, top, width, height };
      for (const [side, length] of Object.entries(place)) frame.style[side] = `${length / dpr}px`;
      return frame;
    });
    this.sheet.replaceChildren(...frames, this.canvas); // the canvas last: what lies over it costs a layer
  }

  #caption(percent, hasUnit) {
    const { gain, speed, isCalibrated } = this.settings;
    const { ring, name } = this.stream;
    const title = this.titles?.[language()] ?? name;
    const scale = hasUnit ? `${gain} mm/mV` : t("auto_gain");
    const size = percent === 100 ? t(isCalibrated ? "calibrated" : "nominal") : t("size", { n: percent });
    setText(this.caption, `${title} · ${speed} mm/s · ${scale} · ${size} · ${ring.rate} Hz`);
  }
}

/** An empty box over a strip: names it for tests and for readers of the accessibility tree, costs nothing to paint. */
function newFrame({ lead, rhythm }) {
  return el("div", {
    class: "lead",
    "data-testid": rhythm ? "rhythm-canvas" : "lead-canvas",
    "data-lead": lead,
    role: "img",
    "aria-label": lead,
  });
}

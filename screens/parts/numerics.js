// The numbers of one patient: big value, unit, age, trend; what is old or missing looks it.
import { alarmedMetrics, metricTitle, unitText, valueText } from "./alarm_words.js";
import { el, setAttribute, setText } from "./dom.js";
import { isAhead, isEpisodic, pressureReading, reading, tilesFor } from "./numeric_rules.js";
import { t } from "./strings.js";
import { ageText, clockText } from "./time_text.js";
import { paintTrend } from "./trend.js";

export const ABSENT = "---";
export const COLOURS = {
  hr: "#4dff9a",
  spo2: "#6cc7ff",
  nibp: "#f4f1ea",
  art: "#ff9d8a",
  resp: "#f2dca0",
  temp: "#d3b5ff",
  other: "#c6d2d8",
};

const ON_RED = "#ffffff";

export class Numerics {
  /** `compact` leaves out trends and everything beyond the standing tiles: for the wall. */
  constructor({ compact }) {
    this.compact = compact;
    this.node = el("div", { class: compact ? "numerics compact" : "numerics" });
    this.tiles = new Map();
    this.shape = "";
  }

  update(patient, activeAlerts, vocabulary, nowUs) {
    let tiles = tilesFor(new Set(patient.numerics.keys()), Object.keys(vocabulary.metrics));
    if (this.compact) tiles = tiles.filter((tile) => !tile.small && tile.key !== "arterial").slice(0, 4);
    const shape = tiles.map((tile) => tile.key).join();
    if (shape !== this.shape) this.#rebuild(tiles, shape);
    const alarmed = alarmedMetrics(activeAlerts);
    for (const tile of tiles) this.#fill(tile, patient, alarmed, vocabulary, nowUs);
  }

  #rebuild(tiles, shape) {
    this.shape = shape;
    this.tiles.clear();
    this.node.replaceChildren(...tiles.map((tile) => this.#build(tile)));
  }

  #build({ key, small, colour }) {
    const parts = {
      title: el("span", { class: "numeric-title" }),
      unit: el("span", { class: "numeric-unit" }),
      value: el("span", { class: "numeric-value" }),
      mean: el("span", { class: "numeric-mean" }),
      age: el("span", { class: "numeric-age" }),
      tag: el("span", { class: "numeric-tag" }),
      trend: this.compact || small ? null : el("canvas", { class: "numeric-trend", "aria-hidden": "true" }),
    };
    const node = el(
      "section",
      { class: small ? "numeric small" : "numeric", "data-testid": "numeric", "data-metric": key, "data-colour": colour },
      el("header", {}, parts.title, parts.unit),
      el("div", { class: "numeric-body" }, parts.value, parts.mean, parts.trend),
      el("footer", {}, parts.age, parts.tag),
    );
    this.tiles.set(key, { ...parts, node });
    return node;
  }

  #fill(tile, patient, alarmed, vocabulary, nowUs) {
    const view = this.tiles.get(tile.key);
    const isPressure = tile.metrics.length === 3;
    const [metric] = tile.metrics;
    const facts = vocabulary.metrics[metric] ?? {};
    const shown = isPressure
      ? pressureReading(patient.numerics, tile.metrics, nowUs, vocabulary)
      : reading(patient.numerics.get(metric), metric, nowUs, vocabulary);
    const text = (value) => (value === null ? ABSENT : valueText(metric, value, vocabulary));
    if (isPressure) {
      const [systolic, diastolic, mean] = shown.values;
      const none = systolic === null && diastolic === null;
      setText(view.value, none ? ABSENT : `${text(systolic)}/${text(diastolic)}`);
      setText(view.mean, mean === null ? "" : `(${text(mean)})`);
    } else setText(view.value, text(shown.value));
    const title = isPressure ? t(tile.key) : metricTitle(metric, vocabulary);
    setText(view.title, this.compact ? shortTitle(tile.key, title) : title);
    setAttribute(view.title, "title", title);
    setText(view.unit, unitText(facts.unit));
    setText(view.age, ageLine(shown, isEpisodic(metric, vocabulary), nowUs));
    setText(view.tag, tagLine(shown));
    setAttribute(view.node, "data-state", shown.state);
    const priority = Math.max(...tile.metrics.map((name) => alarmed.get(name) ?? 0));
    setAttribute(view.node, "data-alarm", priority || null);
    this.#trend(view, tile, patient, nowUs, priority === 3 ? ON_RED : COLOURS[tile.colour], vocabulary);
  }

  #trend(view, tile, patient, nowUs, colour, vocabulary) {
    if (!view.trend) return;
    const points = patient.numerics.get(tile.metrics[0]) ?? [];
    const episodic = isEpisodic(tile.metrics[0], vocabulary);
    // A pixel of the sparkline is many seconds wide: paint when a point came or the window moved visibly.
    const stamp = `${points.length}/${points.at(-1)?.[0]}/${Math.floor(nowUs / 10e6)}/${view.trend.clientWidth}/${colour}/${episodic}`;
    if (view.stamp === stamp) return;
    view.stamp = stamp;
    paintTrend(view.trend, points, nowUs, { colour, episodic });
  }
}

function shortTitle(key, title) {
  const short = t(`short_${key}`);
  return short.startsWith("short_") ? title : short;
}

function ageLine({ state, timeUs }, episodic, nowUs) {
  if (state === "absent") return t("absent");
  const ahead = isAhead(timeUs, nowUs);
  const ago = t(ahead ? "clock_ahead" : "ago", { age: ageText(Math.abs(nowUs - timeUs) / 1000) });
  return episodic ? `${clockText(timeUs)} · ${ago}` : ago;
}

function tagLine({ state, reason }) {
  if (state === "old" || state === "wrong_clock") return t(state);
  if (state === "invalid" || state === "questionable") return reason ? `${t(state)} (${reason})` : t(state);
  return "";
}

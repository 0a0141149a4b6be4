// One box in full, beside the list: times, devices, counters and what waited on it over the last hour.
import { el, setAttribute, setHidden, setText } from "../parts/dom.js";
import { t } from "../parts/strings.js";
import { ageText, clockText, dateText } from "../parts/time_text.js";
import { paintChart, stretches } from "./backlog_chart.js";
import { countText, rowWords } from "./row_words.js";
import { sizeText, troublesOf, troubleWords } from "./troubles.js";

const ANSWER_MS = 10_000;

export class Details {
  constructor({ onClose }) {
    this.id = null;
    this.asked = ""; // the heartbeat that was asked for
    this.answer = null;
    this.request = null;
    this.name = el("h2", { tabindex: "-1" });
    this.asOf = el("p", { class: "as-of" });
    this.message = el("p", { class: "details-message", role: "status" });
    this.troubles = el("ul", { class: "details-troubles" });
    this.facts = el("dl", { class: "facts" });
    this.chart = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.chart.setAttribute("role", "img");
    this.chart.setAttribute("aria-label", t("waiting_trend"));
    this.chart.dataset.testid = "chart";
    this.noChart = el("p", { class: "quiet" }, t("no_trend"));
    this.devices = el("ul", { class: "devices" });
    this.counters = el("dl", { class: "facts counters" });
    this.node = el(
      "aside",
      { class: "details", "data-testid": "details", hidden: true, "aria-label": t("box") },
      el("header", {}, this.name, el("button", { type: "button", onclick: onClose, "data-testid": "close" }, t("close"))),
      this.asOf,
      this.troubles,
      this.message,
      el("h3", {}, t("waiting_trend")),
      this.chart,
      this.noChart,
      this.facts,
      el("h3", {}, t("devices_list")),
      this.devices,
      el("h3", {}, t("counters_list")),
      this.counters,
    );
  }

  open(id) {
    this.close();
    this.id = id;
    setHidden(this.node, false);
    setText(this.name, id);
    setText(this.message, t("details_loading"));
    this.node.scrollTop = 0;
    this.name.focus();
  }

  close() {
    this.request?.abort();
    Object.assign(this, { id: null, asked: "", answer: null, request: null });
    for (const part of [this.troubles, this.facts, this.devices, this.counters, this.chart]) part.replaceChildren();
    this.chart.dataset.stamp = "";
    setHidden(this.node, true);
  }

  /** Shows the row at once; the rest is asked for once a heartbeat, which is as often as it can change. */
  update(row, nowUs, dead) {
    if (this.id === null || !row) return;
    const heartbeat = `${this.id}/${row.status_received_us}/${row.state}`;
    if (!dead && heartbeat !== this.asked) {
      this.asked = heartbeat;
      this.#ask(this.id);
    }
    this.#fillRow(row, nowUs, dead);
    this.#fillChart(nowUs);
  }

  async #ask(id) {
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    const timer = setTimeout(() => request.abort(), ANSWER_MS);
    try {
      const answer = await fetch(`/api/v1/fleet/${encodeURIComponent(id)}`, { signal: request.signal });
      if (!answer.ok) throw new TypeError(`gateway: ${answer.status}`);
      const found = await answer.json();
      if (this.request !== request) return;
      this.answer = found;
      setText(this.message, "");
      this.#fillAnswer(found);
    } catch (error) {
      if (!(error instanceof TypeError || error.name === "AbortError")) throw error;
      if (this.request === request) setText(this.message, t("details_failed"));
    } finally {
      clearTimeout(timer);
    }
  }

  #fillRow(row, nowUs, dead) {
    const words = rowWords(row, nowUs, dead);
    setText(this.name, [row.gateway_id, words.box[1]].filter(Boolean).join(" · "));
    const age = (us) => ageText((nowUs - us) / 1000);
    const made = row.status_received_us;
    setText(this.asOf, made === null ? words.state.join(" ") : t("as_of", { time: dateText(made), age: age(made) }));
    const troubles = troublesOf(row, nowUs);
    const items = troubles.map((trouble) => [trouble.level, `${t(`level_${trouble.level}`)} ${troubleWords(trouble)}`]);
    fillList(this.troubles, items, ([level, text]) => el("li", { class: "trouble", "data-level": level }, text));
    const { gauges } = row;
    const seconds = (s) => (s === undefined ? "" : ageText(s * 1000));
    const when = (us) => (us ? `${dateText(us)} (${t("ago", { age: age(us) })})` : t("never"));
    const size = (mib) => (mib === undefined ? "?" : sizeText(mib));
    fillFacts(this.facts, [
      [t("state"), words.state.join(" ")],
      [t("last_heard"), when(row.last_seen_us)],
      [t("receipt_column"), when(row.last_receipt_us)],
      [t("box_receipt"), gauges.receipt_age_s === undefined ? t("unknown") : t("ago", { age: seconds(gauges.receipt_age_s) })],
      [t("backlog_column"), words.backlog.filter(Boolean).join(" · ")],
      [t("clock_column"), words.clock.filter(Boolean).join(" · ")],
      [t("box_time"), row.status_us === null ? "" : dateText(row.status_us)],
      [t("disk_row"), gauges.disk_free_mib === undefined ? "" : `${size(gauges.disk_free_mib)} / ${size(gauges.disk_total_mib)}`],
      [t("spool_row"), gauges.spool_mib === undefined ? "" : size(gauges.spool_mib)],
      [t("runs_column"), seconds(gauges.uptime_s)],
      [t("boot_for"), seconds(gauges.boot_uptime_s)],
      [t("starts_row"), String(row.starts_24h)],
      [t("gaps_named"), t("gaps_value", { n: countText(row.gaps), records: countText(row.lost_records) })],
      [t("version_column"), row.version],
    ]);
  }

  #fillAnswer({ gateway }) {
    const items = gateway.devices.map((device) => [
      device.device_id,
      device.driver,
      t(device.connected ? "device_connected" : "device_away"),
      device.silent_s === null ? t("device_mute") : t("device_silent", { age: ageText(device.silent_s * 1000) }),
      device.connected,
    ]);
    fillList(this.devices, items.length ? items : [[t("no_devices"), "", "", "", true]], ([id, driver, state, heard, connected]) =>
      el("li", { "data-connected": String(connected) }, el("b", {}, id), driver && ` · ${driver} · `, el("span", {}, state), heard && ` · ${heard}`),
    );
    fillFacts(this.counters, Object.entries(gateway.counters).map(([name, count]) => [name, countText(count)]));
  }

  #fillChart(nowUs) {
    const points = this.answer?.backlog ?? [];
    const isEmpty = stretches(points, nowUs).length === 0;
    setAttribute(this.chart, "hidden", isEmpty); // an SVG has no `hidden` of its own
    setHidden(this.noChart, !isEmpty || this.answer === null);
    // A pixel is 8 s wide: drawn when points came or the window moved visibly.
    const stamp = `${this.id}/${points.length}/${points.at(-1)?.[0]}/${Math.floor(nowUs / 10e6)}/${clockText(nowUs).slice(0, 5)}`;
    if (isEmpty || this.chart.dataset.stamp === stamp) return;
    this.chart.dataset.stamp = stamp;
    paintChart(this.chart, points, nowUs);
  }
}

function fillFacts(list, facts) {
  const shown = facts.filter(([, value]) => value !== "");
  fillList(list, shown, ([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
}

/** Rebuilds a list only when what it says changed. */
function fillList(list, items, build) {
  const stamp = JSON.stringify(items);
  if (list.childElementCount === items.length && list.dataset.stamp === stamp) return;
  list.dataset.stamp = stamp;
  list.replaceChildren(...items.map(build));
}

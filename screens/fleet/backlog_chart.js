// What waited on one box over the last hour, as a small SVG: an area for all lanes, holes where no heartbeat is stored.
import { clockText } from "../parts/time_text.js";

export const CHART_US = 3600e6;
// Twelve heartbeats: a longer pause is a hole, not a line.
const BRIDGE_US = 60e6;
const WIDTH = 440;
const HEIGHT = 120;
const FOOT = 16;
const SVG = "http://www.w3.org/2000/svg";

/** Points [time_us, urgent, routine, bulk, oldest_s] within the window, cut where a pause is too long to bridge. */
export function stretches(points, nowUs) {
  const found = [];
  let previousUs = -Infinity;
  for (const point of points) {
    const [timeUs] = point;
    if (timeUs < nowUs - CHART_US || timeUs > nowUs) continue;
    if (timeUs - previousUs > BRIDGE_US) found.push([]);
    found.at(-1).push({ timeUs, waiting: point[1] + point[2] + point[3] });
    previousUs = timeUs;
  }
  return found;
}

/** The next of 1, 2, 5 × 10ⁿ at or above a value, at least 10: small backlogs stay small on the chart. */
export function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 10)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= value);
}

export function paintChart(svg, points, nowUs) {
  const parts = stretches(points, nowUs);
  const top = niceTop(Math.max(0, ...parts.flat().map(({ waiting }) => waiting)));
  const x = (timeUs) => ((timeUs - nowUs + CHART_US) / CHART_US) * WIDTH;
  const y = (waiting) => (HEIGHT - FOOT) * (1 - waiting / top) + 0.5;
  const drawn = [];
  for (const share of [0, 0.5, 1]) {
    drawn.push(node("line", { class: "chart-line", x1: 0, x2: WIDTH, y1: y(top * share), y2: y(top * share) }));
  }
  for (const part of parts) {
    const line = part.map(({ timeUs, waiting }) => `${x(timeUs).toFixed(1)},${y(waiting).toFixed(1)}`);
    const [first, last] = [x(part[0].timeUs).toFixed(1), (x(part.at(-1).timeUs) + 1).toFixed(1)];
    const area = `M${first},${y(0)} L${line.join(" L")} L${last},${y(part.at(-1).waiting).toFixed(1)} L${last},${y(0)} Z`;
    drawn.push(node("path", { class: "chart-area", d: area }));
  }
  drawn.push(words(2, 11, String(top)), words(2, HEIGHT - 4, clockText(nowUs - CHART_US).slice(0, 5)));
  drawn.push(words(WIDTH / 2, HEIGHT - 4, clockText(nowUs - CHART_US / 2).slice(0, 5), "middle"));
  drawn.push(words(WIDTH - 2, HEIGHT - 4, clockText(nowUs).slice(0, 5), "end"));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.replaceChildren(...drawn);
}

function node(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function words(x, y, text, anchor = "start") {
  const made = node("text", { x, y, "text-anchor": anchor, class: "chart-words" });
  made.textContent = text;
  return made;
}

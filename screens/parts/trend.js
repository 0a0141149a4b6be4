// A sparkline of the last 30 minutes: holes stay holes, single readings are dots.

export const TREND_MS = 30 * 60_000;
// A pause longer than this is not bridged by a line.
const BRIDGE_US = 60e6;
const INVALID = 2;

export function paintTrend(canvas, points, nowUs, { colour, episodic, low, high }) {
  const dpr = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * dpr);
  const height = Math.round(canvas.clientHeight * dpr);
  if (width === 0 || height === 0) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const g = canvas.getContext("2d");
  g.clearRect(0, 0, width, height);
  const startUs = nowUs - TREND_MS * 1000;
  const seen = points.filter(([timeUs, , quality]) => timeUs >= startUs && quality !== INVALID);
  const [bottom, top] = trendRange(seen, low, high);
  const pad = 2.5 * dpr;
  const x = (timeUs) => ((timeUs - startUs) / (TREND_MS * 1000)) * (width - 2 * pad) + pad;
  const y = (value) => height - pad - ((value - bottom) / (top - bottom)) * (height - 2 * pad);
  g.fillStyle = "#1c2a30";
  g.fillRect(0, height - dpr, width, dpr);
  for (const minute of [10, 20]) g.fillRect(Math.round((width * minute) / 30), 0, dpr, height);
  g.strokeStyle = g.fillStyle = colour;
  g.lineWidth = 1.5 * dpr;
  if (episodic) drawDots(g, seen, x, y, 2.2 * dpr);
  else drawLine(g, seen, x, y, dpr);
}

/** At least a tenth of the value tall, so that noise does not look like a crisis. */
export function trendRange(points, low, high) {
  if (points.length === 0) return [low ?? 0, high ?? 1];
  let bottom = Infinity;
  let top = -Infinity;
  for (const [, value] of points) {
    bottom = Math.min(bottom, value);
    top = Math.max(top, value);
  }
  const room = Math.max(top - bottom, Math.abs(top) * 0.1, 1e-6);
  const middle = (top + bottom) / 2;
  return [middle - room * 0.6, middle + room * 0.6];
}

function drawDots(g, points, x, y, radius) {
  for (const [timeUs, value] of points) {
    g.beginPath();
    g.arc(x(timeUs), y(value), radius, 0, 2 * Math.PI);
    g.fill();
  }
}

function drawLine(g, points, x, y, dpr) {
  g.beginPath();
  let previousUs = -Infinity;
  for (const [timeUs, value] of points) {
    if (timeUs - previousUs > BRIDGE_US) g.moveTo(x(timeUs) - dpr, y(value));
    g.lineTo(x(timeUs), y(value));
    previousUs = timeUs;
  }
  g.stroke();
}

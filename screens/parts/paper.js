// The sheet under a trace: a true millimetre grid, the lead's name, the 1 mV pulse, the watermark. Painted once, copied often.

const GROUND = "#04090b";
const MINOR = "#0b1f1c";
const MAJOR = "#15403a";
const LABEL = "#e9f2ef";
const QUIET = "#8fa5a0";
const WARN = "#ffd60a";
const FONT = 'system-ui, "Noto Sans CJK SC", sans-serif';
// Closer than this and 1 mm lines turn to fog.
const MINOR_MIN_PX = 2.4;
const PULSE_MM = 5; // 0.2 s at 25 mm/s, as on paper
export const PULSE_ROOM_MM = 8;

/**
 * The paper of a whole sheet, as an image that is cheap to copy from.
 * strips: [{left, top, width, height, dpr, mm (device px), gain (mm/mV, null for no unit), label, note, warning, pulse,
 *           baselineY, traceX, colour}]; all lengths in device px. watermark: {words, colour, dpr} or null.
 */
export function paintPaper(width, height, strips, watermark) {
  const canvas = new OffscreenCanvas(width, height);
  const g = canvas.getContext("2d", { alpha: false });
  g.fillStyle = GROUND;
  g.fillRect(0, 0, width, height);
  for (const strip of strips) {
    g.save();
    g.beginPath();
    g.rect(strip.left, strip.top, strip.width, strip.height);
    g.clip();
    g.translate(strip.left, strip.top);
    if (strip.gain !== null) paintGrid(g, strip);
    if (strip.pulse && strip.gain !== null) paintPulse(g, strip);
    paintLabel(g, strip);
    g.restore();
  }
  if (watermark) paintWatermark(g, width, height, watermark);
  return canvas.transferToImageBitmap();
}

/** In the paper, not over it: nothing to remove, and blending a layer over moving traces costs half the frames. */
function paintWatermark(g, width, height, { words, colour, dpr }) {
  g.font = `700 ${34 * dpr}px ${FONT}`;
  g.textAlign = "center";
  g.fillStyle = colour;
  g.globalAlpha = 0.17;
  const stepX = 300 * dpr;
  const stepY = 190 * dpr;
  for (let y = stepY / 2; y < height + stepY / 2; y += stepY) {
    for (let x = stepX / 2; x < width + stepX / 2; x += stepX) {
      g.setTransform(1, 0, 0, 1, x, y);
      g.rotate((-28 * Math.PI) / 180);
      g.fillText(words, 0, 0);
    }
  }
}

function paintGrid(g, { width, height, mm, dpr, baselineY, traceX }) {
  const line = Math.max(1, Math.round(dpr));
  for (const [step, colour] of mm >= MINOR_MIN_PX * dpr ? [[1, MINOR], [5, MAJOR]] : [[5, MAJOR]]) {
    g.fillStyle = colour;
    const pitch = step * mm;
    for (let k = -Math.floor(traceX / pitch); traceX + k * pitch < width; k++) {
      g.fillRect(Math.round(traceX + k * pitch), 0, line, height);
    }
    for (let k = -Math.floor(baselineY / pitch); baselineY + k * pitch < height; k++) {
      g.fillRect(0, Math.round(baselineY + k * pitch), width, line);
    }
  }
}

function paintPulse(g, { mm, gain, dpr, baselineY, colour }) {
  const x = Math.round(mm * 1.5);
  const top = baselineY - gain * mm;
  g.strokeStyle = colour;
  g.lineWidth = 1.25 * dpr;
  g.beginPath();
  g.moveTo(x - mm, baselineY);
  g.lineTo(x, baselineY);
  g.lineTo(x, top);
  g.lineTo(x + PULSE_MM * mm, top);
  g.lineTo(x + PULSE_MM * mm, baselineY);
  g.lineTo(x + PULSE_MM * mm + mm, baselineY);
  g.stroke();
}

function paintLabel(g, { dpr, height, label, note, warning, pulse, traceX }) {
  const size = Math.round(Math.max(11, Math.min(15, height / dpr / 5)) * dpr);
  const x = (pulse ? traceX : 0) + 4 * dpr;
  g.textBaseline = "top";
  g.font = `600 ${size}px ${FONT}`;
  g.fillStyle = LABEL;
  g.fillText(label, x, 4 * dpr);
  const after = x + g.measureText(label).width + 6 * dpr;
  g.font = `${Math.round(size * 0.8)}px ${FONT}`;
  g.fillStyle = warning ? WARN : QUIET;
  if (warning || note) g.fillText(warning || note, after, 5 * dpr);
}

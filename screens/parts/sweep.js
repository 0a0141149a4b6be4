// The sweep of a whole sheet on one canvas: only new columns are painted, an erase bar goes ahead, holes stay empty.
//
// One canvas for a stream, not one for each lead: with 72 canvases software rendering fell from 60 frames/s to 2.
import { paintPaper } from "./paper.js";
import { Strip } from "./strip.js";

const BAR_MM = 4;
const FIRST_CHECK_S = 0.5;

export class Sweep {
  constructor(canvas) {
    this.canvas = canvas;
    this.g = canvas.getContext("2d", { alpha: false });
    this.strips = [];
    this.pens = [];
    this.frozen = false;
    this.watermark = null; // {words, colour, dpr}: what parts/paper.js writes across the sheet
  }

  /** looks: one for each strip (parts/paper.js); strips with the same left edge and width share a pen. */
  configure(ring, { width, height, mm, speed }, looks) {
    this.ring = ring;
    this.step = (speed * mm) / ring.rate; // px a sample
    this.bar = Math.round(BAR_MM * mm);
    this.canvas.width = width;
    this.canvas.height = height;
    const before = new Map(this.strips.map((strip) => [strip.look.id, strip]));
    this.strips = looks.map((look) => {
      const strip = new Strip(look, ring);
      const old = before.get(look.id);
      if (old?.ring === ring) strip.inherit(old);
      return strip;
    });
    this.pens = groupByPen(this.strips, this.step);
    this.repaper = true;
  }

  /** Everything visible is painted again with the next frame. */
  invalidate() {
    for (const pen of this.pens) pen.at = null;
  }

  setFrozen(frozen) {
    if (this.frozen === frozen) return;
    this.frozen = frozen;
    this.invalidate();
  }

  setWatermark(watermark) {
    if (this.watermark?.words === watermark?.words) return;
    this.watermark = watermark;
    this.repaper = true;
  }

  /** warningOf(lead) → text beside the lead's name, or "". */
  setWarnings(warningOf) {
    for (const { look } of this.strips) {
      const warning = warningOf(look.lead);
      if (look.warning !== warning) this.repaper = true;
      look.warning = warning;
    }
  }

  /** Paints up to sample index `head` (exclusive). Cheap when there is nothing new. */
  paint(head, nowMs) {
    const to = Math.floor(head);
    for (const pen of this.pens) this.#check(pen, to);
    if (this.repaper) this.#paintPaper();
    for (const pen of this.pens) this.#advance(pen, to, nowMs);
  }

  /** Once a sweep (sooner while little has been seen): does each trace still fit its strip? */
  #check(pen, to) {
    if (to < pen.nextCheck && to >= pen.checked) return;
    pen.checked = to;
    const from = Math.max(this.ring.oldest(), to - pen.windowSamples);
    pen.nextCheck = to + Math.min(pen.windowSamples, Math.max(to - from, FIRST_CHECK_S * this.ring.rate));
    for (const strip of pen.strips) if (strip.refit(from, to)) this.repaper = true;
  }

  #advance(pen, to, nowMs) {
    // Only whole columns: each is painted once and for all, with every sample that belongs to it.
    const column = Math.max(0, Math.floor((to - 1) * this.step));
    for (const strip of pen.strips) strip.count(to, nowMs);
    let from = pen.at;
    if (from === null || column < from || column - from > pen.span - this.bar) from = this.#startOver(pen, column);
    if (column <= from) return;
    this.#erase(pen, column);
    const axis = { step: this.step, span: pen.span, frozen: this.frozen };
    for (const strip of pen.strips) strip.trace(this.g, from, column, axis);
    pen.at = column;
  }

  #startOver(pen, column) {
    this.#copyPaper(pen, pen.left - pen.room, pen.room + pen.span);
    pen.erased = column;
    pen.at = column;
    return Math.max(Math.floor(this.ring.oldest() * this.step), column - pen.span + this.bar);
  }

  #erase(pen, column) {
    const until = column + this.bar;
    let from = Math.max(pen.erased, until - pen.span);
    while (from < until) {
      const x = from % pen.span;
      const width = Math.min(until - from, pen.span - x);
      this.#copyPaper(pen, pen.left + x, width);
      from += width;
    }
    pen.erased = until;
  }

  #copyPaper({ top, height }, left, width) {
    this.g.drawImage(this.paper, left, top, width, height, left, top, width, height);
  }

  #paintPaper() {
    this.repaper = false;
    this.paper?.close();
    const looks = this.strips.map(({ look }) => look);
    this.paper = paintPaper(this.canvas.width, this.canvas.height, looks, this.watermark);
    this.g.drawImage(this.paper, 0, 0);
    this.invalidate();
  }
}

/** A pen sweeps one column of strips: they share the time axis and are erased together. */
function groupByPen(strips, step) {
  const pens = new Map();
  for (const strip of strips) {
    const { left, top, width, height, traceX } = strip.look;
    const key = `${left}/${width}`;
    const pen = pens.get(key) ?? { left: left + traceX, room: traceX, span: width - traceX, top, bottom: 0, strips: [] };
    pen.top = Math.min(pen.top, top);
    pen.bottom = Math.max(pen.bottom, top + height);
    pen.height = pen.bottom - pen.top;
    pen.windowSamples = Math.floor(pen.span / step);
    pen.at = null;
    pen.checked = pen.nextCheck = 0;
    pen.strips.push(strip);
    pens.set(key, pen);
  }
  return [...pens.values()];
}

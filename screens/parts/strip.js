// One lead on the sheet: turns samples into a line, keeps the line on its strip, counts what was drawn.

const FROZEN = "#6d7a80";
const QUESTIONABLE = "#ffb454";
const INVALID = "#5b666b";
// Where zero sits on the strip: most complexes point up.
const BASELINE = 0.56;
// A lead whose resting level lies further out than this part of the strip's height is moved back, and says so.
const RECENTRE = 0.3;
const AUTO_GAIN_FILL = 0.7;

export class Strip {
  /** look: what parts/paper.js paints, with `index` of the lead in the ring and `line` width in device px. */
  constructor(look, ring) {
    this.look = look;
    this.ring = ring;
    this.values = ring.values[look.index];
    look.baselineY = Math.round(look.height * BASELINE);
    look.warning = "";
    this.shift = 0; // in the stream's unit: taken off so that the trace is on the strip
    this.range = 1; // height of an auto-gain trace in its own unit
    this.drawn = 0; // samples painted for the first time
    this.holes = 0; // runs of missing samples passed
    this.drawnMs = null;
    this.drawnUs = null;
    this.counted = -Infinity;
    this.inHole = false;
    this.plainNote = look.note;
  }

  /** Carries counts over from the strip this one replaces after a change of size or scale. */
  inherit({ drawn, holes, drawnMs, drawnUs, counted, inHole, run }) {
    Object.assign(this, { drawn, holes, drawnMs, drawnUs, counted, inHole, run });
  }

  /**
   * Draws pixel columns [from, to) of a time axis of `step` px a sample that wraps every `span` px.
   *
   * A column is one upright bar from the lowest to the highest point of the line within it. Stroking a path instead
   * costs many times as much in software rendering, and ever more a frame the later the frame comes.
   */
  trace(g, from, to, { step, span, frozen }) {
    const { ring, look } = this;
    const scale = this.#pxPerUnit();
    const zero = this.#zero(scale);
    const left = look.left + look.traceX;
    const half = look.line / 2;
    const highest = look.top + half;
    const lowest = look.top + look.height - half;
    let quality = -1;
    for (let column = from; column < to; column++) {
      const at = Math.ceil(column / step);
      this.#span(column, step);
      if (this.low > this.high) continue; // a hole: nothing is drawn where nothing came
      if (ring.quality[at % ring.capacity] !== quality) {
        quality = ring.quality[at % ring.capacity];
        g.fillStyle = frozen ? FROZEN : this.#ink(quality);
      }
      const top = Math.min(lowest, Math.max(highest, zero - this.high * scale)) - half;
      const bottom = Math.min(lowest, Math.max(highest, zero - this.low * scale)) + half;
      g.fillRect(left + (column % span), top, 1, bottom - top);
    }
  }

  /** Sets low and high to the range of the line within one column; low > high when nothing of it is there. */
  #span(column, step) {
    this.low = Infinity;
    this.high = -Infinity;
    const first = Math.ceil(column / step);
    const last = Math.ceil((column + 1) / step); // the first sample beyond
    this.#include(this.#between(first - 1, column / step));
    for (let i = first; i < last; i++) this.#include(this.#value(i));
    this.#include(this.#between(last - 1, (column + 1) / step));
  }

  #include(value) {
    if (value < this.low) this.low = value;
    if (value > this.high) this.high = value;
  }

  /** Where the line from sample i to i + 1 is at `position`; NaN beside a hole. */
  #between(i, position) {
    const before = this.#value(i);
    return before + (this.#value(i + 1) - before) * (position - i);
  }

  #value(i) {
    return i < this.ring.oldest() || i >= this.ring.end ? NaN : this.values[i % this.ring.capacity];
  }

  count(to, nowMs) {
    const { ring } = this;
    if (ring.run !== this.run) {
      this.run = ring.run;
      this.counted = -Infinity;
    }
    if (to <= this.counted) return;
    for (let i = Math.max(this.counted, ring.oldest()); i < to; i++) {
      const missing = Number.isNaN(this.values[i % ring.capacity]);
      if (missing && !this.inHole) this.holes += 1;
      if (!missing) this.drawn += 1;
      this.inHole = missing;
    }
    this.counted = to;
    this.drawnMs = nowMs;
    this.drawnUs = ring.endUs - ((ring.end - to) / ring.rate) * 1e6;
  }

  /** Looks at samples [from, to) and moves or scales the trace if it left its strip; true when it did. */
  refit(from, to) {
    const seen = [];
    const stride = Math.max(1, Math.floor((to - from) / 400));
    for (let i = from; i < to; i += stride) {
      const value = this.values[i % this.ring.capacity];
      if (!Number.isNaN(value)) seen.push(value);
    }
    if (seen.length === 0) return false;
    seen.sort((a, b) => a - b);
    const { gain, mm, height } = this.look;
    if (gain === null) return this.#fitRange(seen[0], seen[seen.length - 1]);
    const median = seen[seen.length >> 1];
    if (Math.abs(median - this.shift) * gain * mm <= RECENTRE * height) return false;
    this.shift = Math.abs(median) * gain * mm > RECENTRE * height ? median : 0;
    this.look.note = this.shift ? this.look.baselineNote(this.shift) : this.plainNote;
    return true;
  }

  #fitRange(lowest, highest) {
    const range = Math.max(1e-9, highest - lowest);
    const middle = (lowest + highest) / 2;
    const fits = Math.abs(range / this.range - 1) < 0.25 && Math.abs(middle - this.shift) < 0.15 * range;
    if (fits) return false;
    this.range = range;
    this.shift = middle;
    return true;
  }

  #ink(quality) {
    return [this.look.colour, QUESTIONABLE, INVALID][quality] ?? INVALID;
  }

  #pxPerUnit() {
    const { gain, mm, height } = this.look;
    return gain !== null ? gain * mm : (height * AUTO_GAIN_FILL) / this.range;
  }

  #zero(scale) {
    const { gain, top, height, baselineY } = this.look;
    return top + (gain !== null ? baselineY : height * 0.5) + this.shift * scale;
  }
}

// The last minute of one stream, addressed by sample index: what never came stays a hole (NaN), what came twice counts once.

// Longest visible strip: 12.5 mm/s on a 4K-wide screen is about 40 s.
const KEEP_S = 64;
// A block this far from where its index says it belongs is another run of the device, not a late block.
const RUN_BREAK_US = 2_000_000;
const REMEMBERED_BLOCKS = 4096;

export class SampleRing {
  constructor(leads, sampleRateHz) {
    this.leads = leads;
    this.rate = sampleRateHz;
    this.capacity = Math.ceil(KEEP_S * sampleRateHz);
    this.values = leads.map(() => new Float32Array(this.capacity).fill(NaN));
    this.quality = new Uint8Array(this.capacity);
    this.run = 0; // grows when the device starts to count again
    this.begin = 0; // first index of this run that came
    this.end = 0; // one past the newest sample
    this.endUs = 0;
    this.lateFrom = Infinity; // oldest index filled in behind the newest since takeLate()
    this.seen = new Set();
    this.duplicates = 0;
    this.stale = 0;
    this.empty = true;
  }

  matches(block) {
    return this.rate === block.sampleRateHz && this.leads.join() === block.leads.join();
  }

  /** Writes a decoded block; returns how many samples are newer than all before. */
  write(block, quality) {
    const { firstIndex, sampleCount, startUs } = block;
    if (!this.empty && this.#belongsToAnotherRun(block)) {
      if (startUs < this.endUs) {
        this.stale += 1;
        return 0;
      }
      this.#restart();
    }
    if (this.seen.has(firstIndex)) {
      this.duplicates += 1;
      return 0;
    }
    this.#remember(firstIndex);
    if (this.empty) {
      this.begin = this.end = firstIndex;
      this.empty = false;
    }
    const before = this.end;
    const last = firstIndex + sampleCount;
    this.#openHole(before, Math.min(firstIndex, last));
    this.#copy(block, quality, Math.max(firstIndex, Math.max(before, last) - this.capacity));
    if (firstIndex < this.begin) this.begin = Math.max(firstIndex, this.end - this.capacity);
    if (firstIndex < before) this.lateFrom = Math.min(this.lateFrom, firstIndex);
    if (last > before) {
      this.end = last;
      this.endUs = startUs + (sampleCount / this.rate) * 1e6;
    }
    return Math.max(0, last - Math.max(before, firstIndex));
  }

  /** Oldest index that changed behind the newest sample since last asked, or null. */
  takeLate() {
    const from = this.lateFrom;
    this.lateFrom = Infinity;
    return from === Infinity ? null : from;
  }

  oldest() {
    return Math.max(this.begin, this.end - this.capacity);
  }

  #belongsToAnotherRun({ firstIndex, startUs }) {
    if (firstIndex === this.end) return false; // the clock was set, the count went on
    const expectedUs = this.endUs + ((firstIndex - this.end) / this.rate) * 1e6;
    return Math.abs(startUs - expectedUs) > RUN_BREAK_US;
  }

  #restart() {
    this.run += 1;
    this.seen.clear();
    for (const lead of this.values) lead.fill(NaN);
    this.empty = true;
    this.lateFrom = Infinity;
  }

  #remember(firstIndex) {
    if (this.seen.size >= REMEMBERED_BLOCKS) this.seen.delete(this.seen.values().next().value);
    this.seen.add(firstIndex);
  }

  #openHole(from, to) {
    const start = Math.max(from, to - this.capacity);
    for (const lead of this.values) for (let i = start; i < to; i++) lead[i % this.capacity] = NaN;
  }

  #copy({ samples, sampleCount, firstIndex, scale, offset }, quality, from) {
    const count = this.leads.length;
    for (let k = 0; k < count; k++) {
      const lead = this.values[k];
      for (let i = from; i < firstIndex + sampleCount; i++) {
        lead[i % this.capacity] = samples[(i - firstIndex) * count + k] * scale[k] + offset[k];
      }
    }
    for (let i = from; i < firstIndex + sampleCount; i++) this.quality[i % this.capacity] = quality;
  }
}

// The playout clock of one stream: blocks arrive in bursts, the pen moves with time.
//
// Every arrival says how late the newest sample was; the earliest arrivals of the last seconds tell the stream's own
// time, and the pen follows it by one block plus a jitter allowance, so it never has to wait for a block on a sound link.

const WINDOW_MS = 10_000;
// Budget from the last sample of a block to the pixel is block length + 150 ms; this leaves half of it to the network.
const JITTER_MIN_MS = 40;
const JITTER_MAX_MS = 75;
// Beyond this the pen does not hurry, it jumps: what was delivered late is painted at once.
const JUMP_MS = 400;
// The pen runs at most this much faster or slower than time: invisible to the eye.
const SLEW = 0.05;

export class Playout {
  constructor(sampleRateHz) {
    this.rate = sampleRateHz;
    this.arrivals = []; // {at, offset}: ms; offset = arrival minus the newest sample's own stream time
    this.delay = null; // ms from stream time zero to pen at sample zero
    this.lastMs = null;
    this.blockMs = 0;
  }

  arrived(end, sampleCount, nowMs) {
    this.blockMs = Math.max((sampleCount / this.rate) * 1000, this.blockMs * 0.98);
    this.arrivals.push({ at: nowMs, offset: nowMs - (end / this.rate) * 1000 });
    while (this.arrivals[0].at < nowMs - WINDOW_MS) this.arrivals.shift();
  }

  /** Index up to which the pen may have drawn at nowMs; never beyond `end`. */
  head(nowMs, end) {
    const wanted = this.#wantedDelay();
    if (wanted === null) return end;
    const passed = this.lastMs === null ? 0 : nowMs - this.lastMs;
    this.lastMs = nowMs;
    if (this.delay === null || Math.abs(wanted - this.delay) > JUMP_MS) this.delay = wanted;
    else this.delay += Math.max(-passed * SLEW, Math.min(passed * SLEW, wanted - this.delay));
    return Math.min(end, ((nowMs - this.delay) / 1000) * this.rate);
  }

  #wantedDelay() {
    if (this.arrivals.length === 0) return null;
    let earliest = Infinity;
    for (const { offset } of this.arrivals) earliest = Math.min(earliest, offset);
    // A burst of history arrives "late" by its age; only lateness a link can cause counts as jitter.
    const late = this.arrivals.map(({ offset }) => offset - earliest).filter((ms) => ms < 2 * JITTER_MAX_MS);
    const jitter = Math.max(JITTER_MIN_MS, Math.min(JITTER_MAX_MS, Math.max(...late) + 10));
    return earliest + this.blockMs + jitter;
  }
}

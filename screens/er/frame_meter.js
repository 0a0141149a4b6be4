// Counts what the browser really painted: frames a second, the worst frame, script time in each.

export class FrameMeter {
  constructor() {
    this.recent = []; // ms of the frames of the last second
    this.reset();
  }

  reset() {
    this.frames = 0;
    this.startMs = null;
    this.lastMs = null;
    this.worstMs = 0;
    this.scriptMs = 0;
  }

  frame(nowMs, scriptMs) {
    this.recent.push(nowMs);
    while (this.recent[0] < nowMs - 1000) this.recent.shift();
    if (this.startMs === null) this.startMs = nowMs;
    else {
      this.frames += 1;
      this.scriptMs += scriptMs;
      this.worstMs = Math.max(this.worstMs, nowMs - this.lastMs);
    }
    this.lastMs = nowMs;
  }

  stats() {
    const tookMs = (this.lastMs ?? 0) - (this.startMs ?? 0);
    return {
      fps: this.recent.length,
      frames: this.frames,
      seconds: tookMs / 1000,
      meanFps: tookMs > 0 ? (this.frames * 1000) / tookMs : 0,
      worstFrameMs: this.worstMs,
      scriptMsPerFrame: this.frames ? this.scriptMs / this.frames : 0,
    };
  }
}

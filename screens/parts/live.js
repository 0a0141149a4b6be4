// The live channel (docs/live.md): one WebSocket, its silence watched, opened again with jittered back-off.

import { SIGNED_OUT } from "./signed_in.js";

// The server ticks every second: three missing ticks mean this screen has lost it.
export const SILENCE_MS = 3000;
// A half-open socket never closes by itself.
const GIVE_UP_MS = 6000;
const BACK_OFF_MS = 500;
const BACK_OFF_MAX_MS = 10_000;
const FRAME_VERSION = 1;

/** Splits a binary frame into its address and the waveform block; throws RangeError when it is not one. */
export function parseFrame(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 4 || bytes[0] !== FRAME_VERSION) throw new RangeError("not a live frame");
  const idEnd = 2 + bytes[1];
  const streamEnd = idEnd + 1 + bytes[idEnd];
  if (!(streamEnd + 1 < bytes.length)) throw new RangeError("live frame cut short");
  const text = new TextDecoder();
  return {
    sessionId: text.decode(bytes.subarray(2, idEnd)),
    stream: text.decode(bytes.subarray(idEnd + 1, streamEnd)),
    quality: bytes[streamEnd],
    block: bytes.subarray(streamEnd + 1),
  };
}

/** Full jitter, capped exponential. */
export const backOffMs = (attempt, random = Math.random) =>
  random() * Math.min(BACK_OFF_MAX_MS, BACK_OFF_MS * 2 ** attempt);

export class LiveLink {
  #hasSpoken = false;
  #isStopped = false;

  /**
   * Without `onBlock` no waveform is expected: a binary frame counts as bad. `onRefused` hears that a channel never
   * spoke or that the sign-in ended: a refused handshake tells a page nothing, so it may ask why.
   */
  constructor(url, { onMessage, onBlock = null, onRefused = () => {} }) {
    this.url = url;
    this.onRefused = onRefused;
    this.onMessage = onMessage;
    this.onBlock = onBlock;
    this.worker = null;
    if (onBlock) {
      this.worker = new Worker(new URL("./decode_worker.js", import.meta.url), { type: "module" });
      this.worker.onmessage = ({ data }) => this.#decoded(data);
    }
    this.socket = null;
    this.attempt = 0;
    this.heardMs = null; // page clock of the last word from the server
    this.openedMs = 0;
    this.badFrames = 0;
    this.retryTimer = 0;
  }

  start() {
    this.#open();
    window.addEventListener("online", () => this.#retryNow());
    setInterval(() => this.#watch(), 500);
  }

  /** No channel any more, and none opened again. */
  stop() {
    this.#isStopped = true;
    clearTimeout(this.retryTimer);
    this.socket?.close();
  }

  silentMs(nowMs) {
    return nowMs - (this.heardMs ?? 0);
  }

  isDead(nowMs) {
    return this.heardMs !== null && (this.silentMs(nowMs) > SILENCE_MS || this.socket === null);
  }

  #open() {
    clearTimeout(this.retryTimer);
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.openedMs = performance.now();
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code }) => {
      if (!this.#hasSpoken || code === SIGNED_OUT) this.onRefused();
      this.#lost(socket);
    };
    this.#hasSpoken = false;
  }

  #heard(data) {
    const nowMs = performance.now();
    this.#hasSpoken = true;
    this.heardMs = nowMs;
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.type === "hello") this.attempt = 0;
      this.onMessage(message, nowMs);
      return;
    }
    try {
      if (!this.worker) throw new RangeError("no waveform is expected here");
      const { block, ...address } = parseFrame(data);
      this.worker.postMessage({ frame: { ...address, heardMs: nowMs }, bytes: block }, [data]);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#badFrame(error);
    }
  }

  #decoded({ frame, block, error }) {
    if (error) this.#badFrame(error);
    else this.onBlock(frame, block);
  }

  /** One bad block must not stop the ward; it stays a visible hole and a count. */
  #badFrame(error) {
    this.badFrames += 1;
    if (this.badFrames === 1) console.error("bad waveform frame", error);
  }

  #lost(socket) {
    if (this.socket !== socket) return;
    this.socket = null;
    if (this.#isStopped) return;
    this.retryTimer = setTimeout(() => this.#open(), backOffMs(this.attempt));
    this.attempt += 1;
  }

  #watch() {
    const nowMs = performance.now();
    const lastSign = Math.max(this.heardMs ?? 0, this.openedMs);
    if (this.socket && nowMs - lastSign > GIVE_UP_MS) {
      const dead = this.socket;
      dead.close();
      this.#lost(dead);
    }
  }

  #retryNow() {
    if (this.socket === null && !this.#isStopped) this.#open();
  }
}

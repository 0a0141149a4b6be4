// What the server said, merged: sessions, numerics, alerts, events, gateways and sample streams. No DOM, no socket.
import { isAhead } from "./numeric_rules.js";
import { Playout } from "./playout.js";
import { SampleRing } from "./sample_ring.js";

const TREND_US = 30 * 60e6;
const CLEARED_KEPT_US = 10 * 60e6;
const EVENTS_KEPT = 20;
// Sessions that no snapshot confirms this long after a hello were closed while this screen was away.
const CONFIRM_MS = 3000;
// After a snapshot the last 10 s of each stream follow: history, though it arrives now.
const REPLAY_MS = 2000;

export class Store {
  constructor() {
    this.patients = new Map();
    this.gateways = new Map();
    this.vocabulary = { metrics: {}, waveforms: {}, leads: [] };
    this.hello = null;
    this.grants = new Map(); // session id -> µs until which the one who looks sees it by break-glass
    this.serverOffsetUs = null; // server time minus this page's monotonic clock
    this.helloMs = null;
  }

  /** Server time now, µs; before the first tick this screen's own clock has to do. */
  serverUs(nowMs) {
    return this.serverOffsetUs === null ? Date.now() * 1000 : nowMs * 1000 + this.serverOffsetUs;
  }

  apply(message, nowMs) {
    switch (message.type) {
      case "hello":
        this.hello = message;
        this.grants = new Map(Object.entries(message.break_glass ?? {}));
        this.helloMs = nowMs;
        this.serverOffsetUs = null;
        this.#setClock(message.server_us, nowMs);
        for (const patient of this.patients.values()) patient.confirmed = false;
        break;
      case "tick":
        this.#setClock(message.server_us, nowMs);
        break;
      case "snapshot":
        this.#snapshot(message, nowMs);
        break;
      case "session":
        this.#patient(message.session, nowMs).session = message.session;
        break;
      case "numeric":
        this.#numeric(message, nowMs);
        break;
      case "event":
        this.#event(this.patients.get(message.session_id), message);
        break;
      case "alert":
        this.#alert(this.patients.get(message.session_id), message.alert);
        break;
      case "gateway":
        this.gateways.set(message.gateway.gateway_id, message.gateway);
        break;
      case "dropped":
        this.#count(message.session_id, message.frames);
        break;
    }
  }

  applyBlock({ sessionId, stream, quality }, block, nowMs) {
    const patient = this.patients.get(sessionId);
    if (!patient) return;
    let state = patient.streams.get(stream);
    if (!state || !state.ring.matches(block)) {
      state = newStream(stream, block);
      patient.streams.set(stream, state);
      patient.revision += 1;
    }
    const run = state.ring.run;
    const fresh = state.ring.write(block, quality);
    if (state.ring.run !== run) state.playout = new Playout(block.sampleRateHz);
    if (fresh === 0) return;
    state.playout.arrived(state.ring.end, block.sampleCount, nowMs);
    const ageMs = Math.max(0, (this.serverUs(nowMs) - state.ring.endUs) / 1000);
    const isHistory = nowMs - patient.snapshotMs < REPLAY_MS;
    state.freshMs = Math.max(state.freshMs, isHistory ? nowMs - ageMs : nowMs);
  }

  /** Forgets what is over: sessions no snapshot confirmed, cleared alerts, old trend points. */
  sweep(nowMs) {
    const nowUs = this.serverUs(nowMs);
    for (const [id, patient] of this.patients) {
      const closedUs = patient.session.closed_us;
      const unconfirmed = !patient.confirmed && this.helloMs !== null && nowMs - this.helloMs > CONFIRM_MS;
      if (unconfirmed || (closedUs && nowUs - closedUs > CLEARED_KEPT_US)) this.patients.delete(id);
      for (const [alertId, alert] of patient.alerts) {
        if (alert.phase === "cleared" && nowUs - alert.time_us > CLEARED_KEPT_US) patient.alerts.delete(alertId);
      }
      for (const points of patient.numerics.values()) {
        while (points.length > 1 && points[0][0] < nowUs - TREND_US) points.shift();
      }
    }
  }

  gatewayOf(patient) {
    return this.gateways.get(patient.session.gateway_id) ?? null;
  }

  /** When the break-glass ends by which this patient is seen, µs; null when it stands no longer, or never did. */
  grantUntilUs(sessionId, nowMs) {
    const untilUs = this.grants.get(sessionId);
    return untilUs > this.serverUs(nowMs) ? untilUs : null;
  }

  #setClock(serverUs, nowMs) {
    const offset = serverUs - nowMs * 1000;
    // The quickest message tells best; the slow decay follows a drifting clock.
    if (this.serverOffsetUs === null || Math.abs(offset - this.serverOffsetUs) > 5e6) this.serverOffsetUs = offset;
    else this.serverOffsetUs = Math.max(offset, this.serverOffsetUs - 1000);
  }

  #patient(session, nowMs) {
    let patient = this.patients.get(session.session_id);
    if (!patient) {
      patient = newPatient(session, this.#cameMs(session.opened_us, nowMs));
      this.patients.set(session.session_id, patient);
    }
    patient.confirmed = true;
    return patient;
  }

  #snapshot(message, nowMs) {
    const patient = this.#patient(message.session, nowMs);
    patient.session = message.session;
    patient.snapshotMs = nowMs;
    if (message.gateway) this.gateways.set(message.gateway.gateway_id, message.gateway);
    this.#replaceNumerics(patient, message.numerics ?? {}, nowMs);
    patient.alerts.clear();
    for (const alert of message.alerts ?? []) this.#alert(patient, alert);
    patient.events.length = 0;
    patient.leadsOff.clear();
    for (const event of message.events ?? []) this.#event(patient, event);
  }

  /** What a snapshot leaves out of a metric is gone, such as the future of a clock since set back. A metric of which it
   * has nothing was measured before its 30 minutes: what is known of it stands. */
  #replaceNumerics(patient, numerics, nowMs) {
    const nowUs = this.serverUs(nowMs);
    const before = patient.numerics;
    patient.numerics = new Map();
    for (const [metric, points] of before) {
      const kept = points.filter(([timeUs]) => !isAhead(timeUs, nowUs));
      if (kept.length && !numerics[metric]?.length) patient.numerics.set(metric, kept);
    }
    for (const [metric, points] of Object.entries(numerics)) {
      const isKnown = new Set(before.get(metric)?.map(([timeUs]) => timeUs));
      for (const point of points) {
        insertPoint(patient, metric, point);
        if (!isKnown.has(point[0])) this.#heard(patient, point[0], nowMs);
      }
    }
  }

  #numeric({ session_id, metric, time_us, value, quality, reason }, nowMs) {
    const patient = this.patients.get(session_id);
    if (!patient) return;
    insertPoint(patient, metric, [time_us, value, quality, reason]);
    this.#heard(patient, time_us, nowMs);
  }

  #heard(patient, timeUs, nowMs) {
    patient.numericMs = Math.max(patient.numericMs, this.#cameMs(timeUs, nowMs));
  }

  /** Page clock when something of this time came, or would have come if it is history; of the future: came now. */
  #cameMs(timeUs, nowMs) {
    return nowMs - Math.max(0, (this.serverUs(nowMs) - timeUs) / 1000);
  }

  /** Steps are told in the order of the log, whatever their times: a clock may be set back. */
  #alert(patient, alert) {
    if (patient?.alerts.get(alert.alert_id)?.phase === "cleared") return;
    patient?.alerts.set(alert.alert_id, alert);
  }

  #event(patient, { kind, time_us, detail, leads }) {
    if (!patient) return;
    const at = patient.events.findIndex((event) => event.time_us > time_us);
    patient.events.splice(at < 0 ? patient.events.length : at, 0, { kind, time_us, detail, leads: leads ?? [] });
    if (patient.events.length > EVENTS_KEPT) patient.events.shift();
    if (kind !== "leads_off" && kind !== "leads_on") return;
    patient.leadsOff.clear();
    for (const event of patient.events) {
      const names = event.leads.length ? event.leads : ["*"];
      if (event.kind === "leads_off") names.forEach((name) => patient.leadsOff.add(name));
      else if (event.kind === "leads_on" && names[0] === "*") patient.leadsOff.clear();
      else if (event.kind === "leads_on") names.concat("*").forEach((name) => patient.leadsOff.delete(name));
    }
  }

  #count(sessionId, frames) {
    const patient = this.patients.get(sessionId);
    if (patient) patient.dropped += frames;
  }
}

function newPatient(session, openedMs) {
  return {
    session,
    numerics: new Map(), // metric -> [[time_us, value, quality, reason], …] oldest first
    numericMs: openedMs, // page clock when the newest numeric came, or would have come; until one has, the opening
    alerts: new Map(),
    events: [],
    leadsOff: new Set(),
    streams: new Map(),
    snapshotMs: -Infinity,
    revision: 0, // grows when a stream appears or changes shape
    dropped: 0,
    confirmed: true,
  };
}

function newStream(name, block) {
  return {
    name,
    kind: name.split(/[^a-z0-9]/i)[0],
    ring: new SampleRing(block.leads, block.sampleRateHz),
    playout: new Playout(block.sampleRateHz),
    freshMs: -Infinity, // page clock when the newest sample came, or would have come if it is history
  };
}

function insertPoint(patient, metric, point) {
  let points = patient.numerics.get(metric);
  if (!points) patient.numerics.set(metric, (points = []));
  let at = points.length;
  while (at > 0 && points[at - 1][0] > point[0]) at -= 1;
  if (at > 0 && points[at - 1][0] === point[0]) points[at - 1] = point;
  else points.splice(at, 0, point);
}

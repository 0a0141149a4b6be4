// When a patient's data is not current, since when and why. Pure.

// IEC 60601-2-27 speaks of seconds; a trace that stands still this long must say so.
export const NO_DATA_MS = 3000;
// Numbers alone (no waveform) come more slowly than samples.
const NUMERICS_SILENCE_MS = 15_000;

export const isEnded = (patient) => Boolean(patient.session.closed_us);

/** link: {dead: bool, silentMs}. Returns null, or {reason: screen|offline|silent, sinceUs}. */
export function streamSilence(store, patient, stream, link, nowMs) {
  if (isEnded(patient)) return null;
  const quietMs = nowMs - stream.freshMs;
  const reason = whyNotCurrent(store, patient, link) ?? (quietMs > NO_DATA_MS ? "silent" : null);
  return reason && { reason, sinceUs: store.serverUs(nowMs) - quietMs * 1000 };
}

/** The same for a patient without any waveform. */
export function numericsSilence(store, patient, link, nowMs) {
  if (isEnded(patient)) return null;
  const quietMs = nowMs - patient.numericMs;
  const limitMs = patient.numerics.size ? NUMERICS_SILENCE_MS : NO_DATA_MS;
  const reason = whyNotCurrent(store, patient, link) ?? (quietMs > limitMs ? "silent" : null);
  return reason && { reason, sinceUs: store.serverUs(nowMs) - quietMs * 1000 };
}

export function patientSilence(store, patient, link, nowMs) {
  if (patient.streams.size === 0) return numericsSilence(store, patient, link, nowMs);
  let earliest = null;
  for (const stream of patient.streams.values()) {
    const silence = streamSilence(store, patient, stream, link, nowMs);
    if (silence && (earliest === null || silence.sinceUs < earliest.sinceUs)) earliest = { ...silence, stream };
  }
  return earliest;
}

/** Age of the newest thing this patient sent, ms; null when nothing came yet. */
export function newestAgeMs(store, patient, nowMs) {
  const nowUs = store.serverUs(nowMs);
  const clockTrusted = store.gatewayOf(patient)?.clock_synchronised !== false;
  const ages = [];
  if (patient.numerics.size) ages.push(nowMs - patient.numericMs);
  for (const { ring, freshMs } of patient.streams.values()) {
    ages.push(Math.max(nowMs - freshMs, clockTrusted ? (nowUs - ring.endUs) / 1000 : 0));
  }
  return ages.length ? Math.max(0, Math.min(...ages)) : null;
}

function whyNotCurrent(store, patient, link) {
  if (link.dead) return "screen";
  return store.gatewayOf(patient)?.online === false ? "offline" : null;
}

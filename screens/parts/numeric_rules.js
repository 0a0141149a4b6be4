// Which numerics a patient shows, and when a value stops being current. Pure.

const CONTINUOUS_LIMIT_MS = 15_000;
// Skin and core temperature drift slowly and many monitors report them once a minute.
const TEMPERATURE_LIMIT_MS = 5 * 60_000;
const EPISODIC_LIMIT_MS = 30 * 60_000;
// Body measures and scores do not change within a mission.
const STANDING_LIMIT_MS = 24 * 3_600_000;
// Pressures of one cuff reading carry one time; what lies further apart belongs to different readings.
const SAME_READING_US = 60e6;
// What lies further in the future of the server's clock has its time from a wrong one: network delay and drift are far
// below. The server's own limit (cloud/window.py).
const AHEAD_LIMIT_US = 60e6;
const INVALID = 2;

const STANDING = /^(weight|height|bmi|body_fat)/;

export const isEpisodic = (metric, vocabulary) => vocabulary.metrics[metric]?.episodic === true;

/** Until the vocabulary has come every value counts as continuous: rather old too early than current too long. */
export function ageLimitMs(metric, vocabulary) {
  if (isEpisodic(metric, vocabulary)) return STANDING.test(metric) ? STANDING_LIMIT_MS : EPISODIC_LIMIT_MS;
  return metric.startsWith("temperature") ? TEMPERATURE_LIMIT_MS : CONTINUOUS_LIMIT_MS;
}

export const isAhead = (timeUs, nowUs) => timeUs - nowUs > AHEAD_LIMIT_US;

/** state: absent | invalid | wrong_clock | old | questionable | current; value only when it may be shown. */
export function reading(points, metric, nowUs, vocabulary) {
  const last = points?.[points.length - 1];
  if (!last) return { state: "absent", value: null, timeUs: null, reason: "" };
  const [timeUs, value, quality, reason] = last;
  const base = { timeUs, reason: reason ?? "" };
  if (quality === INVALID) return { ...base, state: "invalid", value: null };
  if (isAhead(timeUs, nowUs)) return { ...base, state: "wrong_clock", value };
  if ((nowUs - timeUs) / 1000 > ageLimitMs(metric, vocabulary)) return { ...base, state: "old", value };
  return { ...base, state: quality === 0 ? "current" : "questionable", value };
}

const STANDING_TILES = [
  { key: "heart_rate", metrics: ["heart_rate"], colour: "hr" },
  { key: "spo2", metrics: ["spo2"], colour: "spo2" },
  { key: "nibp", metrics: ["nibp_systolic", "nibp_diastolic", "nibp_mean"], colour: "nibp" },
  { key: "respiratory_rate", metrics: ["respiratory_rate"], colour: "resp" },
  { key: "temperature", metrics: ["temperature"], colour: "temp" },
];
// One of these stands in when the plain metric never came.
const STAND_INS = {
  heart_rate: ["pulse_rate_pleth", "pulse_rate", "pulse_rate_nibp"],
  respiratory_rate: ["respiratory_rate_impedance", "respiratory_rate_co2"],
  temperature: [
    "temperature_body",
    "temperature_tympanic",
    "temperature_ear",
    "temperature_oral",
    "temperature_axillary",
    "temperature_rectal",
  ],
};
const ARTERIAL = ["arterial_systolic", "arterial_diastolic", "arterial_mean"];
// Beat-to-beat values are for algorithms: a number that changes each beat cannot be read.
const NEVER = new Set(["rr_interval", "spo2_signal_quality"]);

/** The tiles of a patient: the five that are always there, then whatever else was measured, vocabulary order. */
export function tilesFor(present, vocabularyOrder) {
  const tiles = STANDING_TILES.map((tile) => {
    if (tile.key === "nibp" || present.has(tile.key)) return tile;
    const instead = STAND_INS[tile.key]?.find((metric) => present.has(metric));
    return instead ? { ...tile, key: instead, metrics: [instead] } : tile;
  });
  if (ARTERIAL.some((metric) => present.has(metric))) {
    tiles.splice(3, 0, { key: "arterial", metrics: ARTERIAL, colour: "art" });
  }
  const used = new Set(tiles.flatMap((tile) => tile.metrics));
  const order = [...vocabularyOrder, ...[...present].filter((metric) => !vocabularyOrder.includes(metric))];
  for (const metric of order) {
    if (present.has(metric) && !used.has(metric) && !NEVER.has(metric)) {
      tiles.push({ key: metric, metrics: [metric], colour: "other", small: true });
    }
  }
  return tiles;
}

/** Systolic, diastolic and mean of one and the same reading; a part that is missing stays null. */
export function pressureReading(numerics, metrics, nowUs, vocabulary) {
  const parts = metrics.map((metric) => reading(numerics.get(metric), metric, nowUs, vocabulary));
  const lead = parts.reduce((newest, part) => ((part.timeUs ?? -1) > (newest.timeUs ?? -1) ? part : newest), parts[0]);
  const values = parts.map((part) =>
    part.timeUs !== null && Math.abs(part.timeUs - lead.timeUs) <= SAME_READING_US ? part.value : null,
  );
  return { state: lead.state, values, timeUs: lead.timeUs, reason: lead.reason };
}

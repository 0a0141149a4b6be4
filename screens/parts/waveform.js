// Decodes waveform blocks as the box encoded them (docs/wire.md). Pure: bytes in, counts out; throws RangeError.

const RAW = 0;
const PREDICTIVE = 1;
const MAX_LEADS = 64;
// Silence packs a thousandfold, so the count is checked before anything is allocated.
const MAX_VALUES = 262_144;
const MAX_EXACT = 2 ** 53;
const WIDE_HEADER = 1;
const UNUSED_FLAGS = 0x82;
const COMPACT_BYTES = 18;
const WIDE_BYTES = 31;

const NAMES = [
  "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
  "AVR", "AVL", "AVF", "i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6",
  "V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R", "MLII", "ECG", "ecg", "pleth", "resp",
]; // prettier-ignore
const LEAD_SETS = [
  [],
  NAMES.slice(0, 12),
  [...NAMES.slice(0, 3), ...NAMES.slice(12, 15), ...NAMES.slice(6, 12)],
  NAMES.slice(15, 27),
  [...NAMES.slice(0, 2), ...NAMES.slice(6, 12)],
];

const PREDICTORS = [
  [4, 0, 0, 0], [8, -4, 0, 0], [12, -12, 4, 0], [6, -2, 0, 0],
  [7, -3, 0, 0], [10, -8, 2, 0], [8, -5, 1, 0], [6, -1, 0, -1],
]; // prettier-ignore
const COUPLINGS = [-4, -3, -2, -1, 1, 2, 3, 4];
const ROLES = ["iii", "avr", "avl", "avf"];
const UNITY = 16_384;
const CEIL = 1;
const NEAREST = 3;

// Contexts: numbered places in one table of probabilities.
const LEVELS = 25;
const FIRST = LEVELS - 1;
const LEVEL_CAP = 255;
const SIZES = 32;
const ZERO = 0;
const ZERO_DERIVED = ZERO + LEVELS;
const SIGN = ZERO_DERIVED + 30;
const SIGN_DERIVED = SIGN + 25;
const MORE = SIGN_DERIVED + 30;
const MORE_DERIVED = MORE + LEVELS * SIZES;
const MANTISSA = MORE_DERIVED + LEVELS * SIZES;
const IS_DERIVED = MANTISSA + (SIZES + 1) * 7 * 3;
const ROUNDING = IS_DERIVED + 3;
const STEP = ROUNDING + 9;
const BASE = STEP + 3;
const PREDICTOR = BASE + 2;
const COUPLED = PREDICTOR + 7;
const COUPLING = COUPLED + 1;
const SHIFTED = COUPLING + 7;
const CONTEXTS = SHIFTED + 1;

// The range coder: spans of 2^32 to 2^40 and counts in units of 1/32 stay below 2^53, so doubles are exact.
const UNIT = 32;
const SURE = 32;
const TOP = 2 ** 32;
const LAST_BYTES = 2;

const bitLength = (value) => 32 - Math.clz32(value);

function levelOf(weight) {
  if (weight < 8) return weight;
  const size = bitLength(weight);
  return 8 + 2 * (size - 4) + ((weight >> (size - 2)) & 1);
}

const LEVEL = Uint8Array.from({ length: 8 * LEVEL_CAP + 1 }, (_, weight) => levelOf(weight));

const clamp = (odds) => Math.min(Math.max(odds, 5120), 64_512);

/** Counts of every context before its first bit: ones and all, in units of 1/32. */
function firstGuesses() {
  const odds = new Int32Array(CONTEXTS).fill(32_768);
  const ages = new Uint8Array(CONTEXTS).fill(1);
  for (let level = 0; level < LEVELS; level++) {
    const weight = level === FIRST ? 5000 : Math.floor((LEVEL.indexOf(level) * 5) / 4);
    let fall = Math.floor(((weight + 8) * 65_536) / (weight + 20));
    odds[ZERO + level] = clamp(Math.floor((fall * 131_072) / (65_536 + fall)));
    ages[ZERO + level] = 6;
    for (let size = 0; size < SIZES; size++) {
      for (const bank of [MORE, MORE_DERIVED]) {
        odds[bank + level * SIZES + size] = clamp(fall);
        ages[bank + level * SIZES + size] = 6;
      }
      fall = Math.floor((fall * fall) / 65_536);
    }
  }
  odds[ZERO] = 30_000;
  odds.fill(26_000, ZERO_DERIVED, SIGN);
  ages.fill(5, SIGN, SIGN_DERIVED);
  for (let place = MANTISSA; place < IS_DERIVED; place++) odds[place] = (place - MANTISSA) % 3 ? 27_000 : 24_000;
  ages.fill(8, MANTISSA, IS_DERIVED);
  odds.fill(60_000, IS_DERIVED, ROUNDING);
  odds[STEP] = odds[BASE] = odds[SHIFTED] = 4000;
  const ones = Float64Array.from(odds, (chance, context) => Math.floor((chance * ages[context] * UNIT) / 65_536));
  return { ones, totals: Float64Array.from(ages, (age) => age * UNIT) };
}

const GUESSES = firstGuesses();

const CHECK_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 8;
  for (let i = 0; i < 8; i++) value = value & 0x8000 ? (value << 1) ^ 0x1021 : value << 1;
  return value & 0xffff;
});

function checksum(bytes) {
  let value = 0xffff;
  for (const byte of bytes) value = ((value << 8) & 0xffff) ^ CHECK_TABLE[(value >> 8) ^ byte];
  return value;
}

/**
 * Decodes one block (Uint8Array): {codec, leads, sampleCount, sampleRateHz, firstIndex, startUs, scale, offset,
 * samples: Int32Array of counts, sample i of lead k at i * leads.length + k}.
 */
export function decodeBlock(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = readHeader(view);
  const content = bytes.subarray(0, bytes.length - 2);
  if (bytes.length < header.at + 2 || checksum(content) !== view.getUint16(bytes.length - 2, true)) {
    throw new RangeError("waveform: checksum differs");
  }
  const reader = { bytes: content, view: new DataView(bytes.buffer, bytes.byteOffset, content.length), at: header.at };
  const { codec, leadCount, sampleCount, sampleRateHz, firstIndex, startUs } = header;
  const leads = readLeads(reader, leadCount);
  const scale = readScale(reader, leadCount, (header.flags >> 2) & 3);
  const offset = readOffset(reader, scale, (header.flags >> 4) & 7);
  if (![...scale, ...offset].every(Number.isFinite)) throw new RangeError("waveform: scale or offset is not a number");
  let columns = leads.map(() => new Int32Array(0));
  if (sampleCount === 0) {
    if (reader.at !== content.length) throw new RangeError("waveform: bytes after an empty block");
  } else if (codec === RAW) columns = readRaw(reader, leadCount, sampleCount);
  else columns = new Body(content.subarray(reader.at), leads, scale, sampleCount).columns();
  const samples = new Int32Array(leadCount * sampleCount);
  columns.forEach((column, k) => {
    for (let i = 0; i < sampleCount; i++) samples[i * leadCount + k] = column[i];
  });
  return { codec, leads, sampleCount, sampleRateHz, firstIndex, startUs, scale, offset, samples };
}

function readHeader(view) {
  const flags = view.byteLength > 1 ? view.getUint8(1) : 0;
  const wide = flags & WIDE_HEADER;
  const at = wide ? WIDE_BYTES : COMPACT_BYTES;
  if (view.byteLength < at) throw new RangeError("waveform: shorter than its header");
  const codec = view.getUint8(0);
  const leadCount = view.getUint8(2);
  let sampleCount, sampleRateHz, firstIndex, startUs;
  if (wide) {
    sampleCount = view.getUint32(3, true);
    sampleRateHz = view.getFloat64(7, true);
    firstIndex = view.getUint32(15, true) + view.getUint32(19, true) * 2 ** 32;
    startUs = view.getUint32(23, true) + view.getInt32(27, true) * 2 ** 32;
  } else {
    sampleCount = view.getUint16(3, true);
    sampleRateHz = view.getUint16(5, true);
    firstIndex = view.getUint32(7, true);
    startUs = view.getUint32(11, true) + view.getUint16(15, true) * 2 ** 32 + view.getInt8(17) * 2 ** 48;
  }
  if (codec !== RAW && codec !== PREDICTIVE) throw new RangeError(`waveform: unknown codec ${codec}`);
  if (flags & UNUSED_FLAGS || flags >> 4 > 4) throw new RangeError(`waveform: unknown flags ${flags}`);
  if (leadCount < 1 || leadCount > MAX_LEADS) throw new RangeError(`waveform: ${leadCount} leads`);
  if (leadCount * sampleCount > MAX_VALUES) throw new RangeError(`waveform: ${leadCount} x ${sampleCount} values`);
  if (!(sampleRateHz > 0 && sampleRateHz < Infinity)) throw new RangeError(`waveform: sample rate ${sampleRateHz}`);
  if (firstIndex >= MAX_EXACT || Math.abs(startUs) >= MAX_EXACT) throw new RangeError("waveform: beyond 2^53");
  return { codec, flags, leadCount, sampleCount, sampleRateHz, firstIndex, startUs, at };
}

function readLeads(reader, count) {
  const set = reader.view.getUint8(reader.at++);
  if (set) {
    if (LEAD_SETS[set]?.length !== count) throw new RangeError(`waveform: lead set ${set} for ${count} leads`);
    return LEAD_SETS[set];
  }
  const leads = [];
  while (leads.length < count) {
    const place = reader.view.getUint8(reader.at++);
    if (place > NAMES.length) throw new RangeError(`waveform: unknown lead id ${place}`);
    if (place) leads.push(NAMES[place - 1]);
    else {
      const end = reader.at + 1 + reader.view.getUint8(reader.at);
      if (end > reader.bytes.length) throw new RangeError("waveform: lead name cut short");
      leads.push(utf8(reader.bytes.subarray(reader.at + 1, end)));
      reader.at = end;
    }
  }
  return leads;
}

function utf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new RangeError("waveform: lead name is not UTF-8");
  }
}

function readNumbers(reader, count, size, read) {
  const start = reader.at;
  reader.at += count * size;
  return Array.from({ length: count }, (_, k) => read(start + k * size));
}

const float64 = (reader) => (at) => reader.view.getFloat64(at, true);

function readScale(reader, count, form) {
  const each = form < 2 ? 1 : count;
  const whole = form === 0 || form === 2;
  const values = whole
    ? readNumbers(reader, each, 2, (at) => 1 / reader.view.getUint16(at, true))
    : readNumbers(reader, each, 8, float64(reader));
  return each < count ? new Array(count).fill(values[0]) : values;
}

function readOffset(reader, scale, form) {
  const count = scale.length;
  if (form === 0) return new Array(count).fill(0);
  const each = form === 1 || form === 4 ? 1 : count;
  const baselines = form === 2 || form === 4;
  const values = baselines
    ? readNumbers(reader, each, 2, (at) => reader.view.getInt16(at, true))
    : readNumbers(reader, each, 8, float64(reader));
  return scale.map((step, k) => (baselines ? -values[each < count ? 0 : k] * step : values[each < count ? 0 : k]));
}

function readRaw(reader, leadCount, sampleCount) {
  const width = reader.bytes[reader.at];
  const start = reader.at + 1;
  if (![1, 2, 4].includes(width) || reader.bytes.length - start !== leadCount * sampleCount * width) {
    throw new RangeError("waveform: raw samples of the wrong length");
  }
  const { view } = reader;
  const read = { 1: (at) => view.getInt8(at), 2: (at) => view.getInt16(at, true), 4: (at) => view.getInt32(at, true) };
  return Array.from({ length: leadCount }, (_, k) =>
    Int32Array.from({ length: sampleCount }, (_, i) => read[width](start + (k * sampleCount + i) * width)),
  );
}

/** Leads in coding order: [lead, null] or [lead, [lead a, weight a, lead b, weight b]] where it follows from others. */
function codingOrder(leads, scale) {
  const place = new Map();
  leads.forEach((name, lead) => {
    const role = name.toLowerCase();
    if (!place.has(role)) place.set(role, lead);
  });
  const derived = [];
  if (place.has("i") && place.has("ii")) {
    const [one, two, three] = [place.get("i"), place.get("ii"), place.get("iii")];
    const recipes = {
      iii: [two, 1, one, -1],
      avr: [one, -0.5, two, -0.5],
      avl: three === undefined ? [one, 1, two, -0.5] : [one, 0.5, three, -0.5],
      avf: three === undefined ? [two, 1, one, -0.5] : [two, 0.5, three, 0.5],
    };
    for (const role of ROLES) {
      const lead = place.get(role);
      if (lead === undefined) continue;
      const [a, partA, b, partB] = recipes[role];
      const weightA = weightOf(partA, scale[a], scale[lead]);
      const weightB = weightOf(partB, scale[b], scale[lead]);
      if (weightA && weightB) derived.push([lead, [a, weightA, b, weightB]]);
    }
  }
  const taken = new Set(derived.map(([lead]) => lead));
  return [...leads.keys()].filter((lead) => !taken.has(lead)).map((lead) => [lead, null]).concat(derived);
}

function weightOf(part, source, target) {
  if (target === 0) return 0;
  const weight = UNITY * part * (source / target) + 0.5;
  return Math.abs(weight) <= 2 ** 20 ? Math.floor(weight) : 0;
}

const groupOf = (name) => ({ iii: 0, avf: 1 })[name.toLowerCase()] ?? 2;

/** One predictive body: the range coder's bytes from its front, the plain bits from its back. */
class Body {
  constructor(bytes, leads, scale, count) {
    this.bytes = bytes;
    this.leads = leads;
    this.count = count;
    this.order = codingOrder(leads, scale);
    this.ones = GUESSES.ones.slice();
    this.totals = GUESSES.totals.slice();
    this.span = 2 ** 40 - 1;
    this.value = 0;
    for (let i = 0; i < 5; i++) this.value = this.value * 256 + (bytes[i] ?? 0);
    this.at = 5;
    this.plainAt = 0;
  }

  columns() {
    const columns = this.leads.map(() => new Int32Array(this.count));
    let neighbour = new Int32Array(this.count);
    const plans = this.#readPlans();
    for (const plan of plans) {
      const column = columns[plan.lead];
      const mix = plan.derived ? this.#mix(columns, plan.recipe) : null;
      if (plan.step === 0) column.fill(plan.base);
      else {
        const errors = this.#readErrors(plan, mix?.halves);
        if (!mix) {
          const first = errors[0];
          errors[0] = 0;
          if (plan.coupling >= 0) couple(errors, neighbour, COUPLINGS[plan.coupling]);
          neighbour = errors;
          integrate(column, first, errors, PREDICTORS[plan.predictor]);
        } else column.set(errors);
        for (let i = 0; i < this.count; i++) column[i] = column[i] * plan.step + plan.base;
      }
      if (mix) addRounded(column, mix, plan.rounding);
    }
    if (this.at - 5 + LAST_BYTES + ((this.plainAt + 7) >> 3) !== this.bytes.length) {
      throw new RangeError("waveform: samples of the wrong length");
    }
    return columns;
  }

  #readPlans() {
    let lastStep = 1;
    let coupledPossible = false;
    return this.order.map(([lead, recipe]) => {
      const group = recipe ? groupOf(this.leads[lead]) : -1;
      const derived = recipe !== null && this.#bit(IS_DERIVED + group) === 1;
      const rounding = derived ? this.#tree(ROUNDING + 3 * group, 2) : 0;
      let step = 1;
      if (this.#bit(STEP)) {
        if (this.#bit(STEP + 1)) step = 0;
        else {
          step = this.#bit(STEP + 2) ? lastStep : this.#number();
          if (step < 2 || step >= 2 ** 32) throw new RangeError(`waveform: step ${step}`);
          lastStep = step;
        }
      }
      const base = this.#base(derived);
      let [predictor, coupling, shift] = [0, -1, 0];
      if (step) {
        if (!derived) {
          predictor = this.#tree(PREDICTOR, 3);
          if (coupledPossible && this.#bit(COUPLED)) coupling = this.#tree(COUPLING, 3);
          coupledPossible = true;
        }
        if (this.#bit(SHIFTED)) shift = this.#take(5);
      }
      return { lead, recipe, group, derived, rounding, step, base, predictor, coupling, shift };
    });
  }

  #base(derived) {
    const zigzag = this.#bit(BASE + (derived ? 1 : 0)) ? this.#number() : 0;
    if (zigzag > 2 ** 32) throw new RangeError("waveform: base beyond 32 bits");
    return zigzag % 2 ? -(zigzag + 1) / 2 : zigzag / 2;
  }

  #mix(columns, [a, weightA, b, weightB]) {
    const mixed = new Float64Array(this.count); // below 2^53, so exact
    const halves = new Uint8Array(this.count);
    for (let i = 0; i < this.count; i++) {
      mixed[i] = weightA * columns[a][i] + weightB * columns[b][i];
      halves[i] = mixed[i] % UNITY === 0 ? 0 : 1;
    }
    return { mixed, halves };
  }

  #take(width) {
    let value = 0;
    for (let left = width; left > 0; ) {
      const inByte = 8 - (this.plainAt & 7);
      const count = Math.min(inByte, left);
      const byte = this.bytes[this.bytes.length - 1 - (this.plainAt >> 3)] ?? 0;
      value = value * 2 ** count + ((byte >> (inByte - count)) & ((1 << count) - 1));
      this.plainAt += count;
      left -= count;
    }
    return value;
  }

  #number() {
    return this.#take(this.#take(6));
  }

  #tree(context, depth) {
    let node = 1;
    for (let i = 0; i < depth; i++) node = node * 2 + this.#bit(context + node - 1);
    return node - (1 << depth);
  }

  #bit(context) {
    const { ones, totals } = this;
    const chance = Math.min(Math.max(Math.floor((ones[context] * 65_536) / totals[context]), SURE), 65_536 - SURE);
    const bound = Math.floor(this.span / 65_536) * chance;
    const found = this.value < bound ? 1 : 0;
    totals[context] += UNIT;
    if (found) {
      this.span = bound;
      ones[context] += UNIT;
    } else {
      this.value -= bound;
      this.span -= bound;
    }
    while (this.span < TOP) {
      this.span *= 256;
      this.value = this.value * 256 + (this.bytes[this.at] ?? 0);
      this.at += 1;
    }
    return found;
  }

  /** The errors of one lead; the first is a value and leaves no trace in the contexts. */
  #readErrors({ derived, group, shift }, halves) {
    const zeroBank = derived ? ZERO_DERIVED + 10 * group : ZERO;
    const signBank = derived ? SIGN_DERIVED + 10 * group : SIGN;
    const moreBank = derived ? MORE_DERIVED : MORE;
    const errors = new Int32Array(this.count);
    let level = derived ? 0 : FIRST;
    let [capped, cappedTwo, cappedThree, near, nearTwo] = [0, 0, 0, 2, 2];
    for (let i = 0; i < this.count; i++) {
      const place = derived ? 2 * near + halves[i] : 5 * near + nearTwo;
      const error = this.#readError(zeroBank + (derived ? place : level), signBank + place, moreBank, level, shift);
      errors[i] = error;
      if (i > 0) {
        const trace = errors[i] >> shift;
        nearTwo = near;
        near = Math.min(Math.max(trace, -2), 2) + 2;
        cappedThree = cappedTwo;
        cappedTwo = capped;
        capped = Math.min(Math.abs(trace), LEVEL_CAP);
      }
      level = LEVEL[5 * capped + 2 * cappedTwo + cappedThree];
    }
    return errors;
  }

  #readError(zero, sign, moreBank, level, shift) {
    if (!this.#bit(zero)) return shift ? this.#take(shift) : 0;
    const positive = this.#bit(sign);
    let size = 1;
    while (this.#bit(moreBank + level * SIZES + size - 1)) {
      size += 1;
      if (size > SIZES - shift) throw new RangeError("waveform: an error beyond 32 bits");
    }
    let error = 1;
    if (size > 1) {
      const mantissa = MANTISSA + 3 * (size * 7 + (level >> 2));
      error = 2 + this.#bit(mantissa);
      if (size > 2) error = 2 * error + this.#bit(mantissa + error - 1);
    }
    const low = Math.max(size - 3, 0);
    const unit = 2 ** shift;
    const plain = low + shift ? this.#take(low + shift) : 0;
    const magnitude = error * 2 ** low + Math.floor(plain / unit);
    return ((positive ? magnitude : -magnitude) * unit + (plain % unit)) | 0;
  }
}

function couple(errors, neighbour, coupling) {
  for (let i = 1; i < errors.length; i++) errors[i] += Math.floor((coupling * neighbour[i]) / 4);
}

// Every store into an Int32Array wraps modulo 2^32; everything before it stays below 2^53.
function integrate(column, first, errors, [one, two, three, four]) {
  let [x1, x2, x3, x4] = [first, first, first, first];
  column[0] = first;
  for (let i = 1; i < column.length; i++) {
    column[i] = errors[i] + Math.floor((one * x1 + two * x2 + three * x3 + four * x4) / 4);
    x4 = x3;
    x3 = x2;
    x2 = x1;
    x1 = column[i];
  }
}

function addRounded(column, { mixed, halves }, rounding) {
  for (let i = 0; i < column.length; i++) {
    let rounded = Math.floor((rounding === NEAREST ? mixed[i] + UNITY / 2 : mixed[i]) / UNITY);
    if (halves[i] && rounding !== NEAREST && rounding !== 0 && (rounding === CEIL || mixed[i] < 0)) rounded += 1;
    column[i] += rounded;
  }
}

"""The waveform codec: a SampleBlock as the few bytes that travel, are stored, and are drawn (docs/wire.md).

Every block stands alone. Lossless: each lead is predicted from its past, its neighbour or leads I and II; the errors go
through an adaptive binary range coder, and what is noise anyway goes beside it as plain bits.
"""

from __future__ import annotations

import binascii
import math
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wire.messages import DecodeError
from wire.readings import Acquisition, Quality, SampleBlock

RAW, PREDICTIVE = 0, 1  # codec ids, the first byte of a block
MAX_LEADS = 64
# 43 s of a 12-lead ECG at 500 Hz. Silence packs a thousandfold, so the count is checked before anything is allocated.
MAX_VALUES = 262_144
MAX_EXACT = 2**53  # integers are exact in JavaScript up to here

# codec, flags, leads, samples, rate, first index, start: the compact form cuts the start into 32, 16 and 8 bits.
_COMPACT, _WIDE = struct.Struct("<BBBHHIIHb"), struct.Struct("<BBBIdQq")
_WIDE_HEADER = 0x01
_GAIN, _ONE_SCALE, _GAINS, _SCALES = range(4)  # flags bits 2-3
_NO_OFFSET, _ONE_OFFSET, _BASELINES, _OFFSETS, _BASELINE = range(5)  # flags bits 4-6
_UNUSED_FLAGS = 0x82
_CHECK_BYTES = 2

# A known lead is one byte: its place here, counted from 1. Only ever appended to.
_NAMES = (
    *("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("AVR", "AVL", "AVF", "i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6"),
    *("V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R", "MLII", "ECG", "ecg", "pleth", "resp"),
)
_NAME_ID = {name: place for place, name in enumerate(_NAMES, 1)}
# The usual sets are one byte in all; 0 means that the leads follow one by one.
_LEAD_SETS: tuple[tuple[str, ...], ...] = (
    (),
    _NAMES[:12],
    _NAMES[:3] + _NAMES[12:15] + _NAMES[6:12],
    _NAMES[15:27],
    _NAMES[:2] + _NAMES[6:12],
)

# Weights of the last four samples, in quarters: orders 1 to 3, steps between them, and one line through more samples,
# which lets less of the noise into the prediction.
_PREDICTORS = np.array(
    [
        *((4, 0, 0, 0), (8, -4, 0, 0), (12, -12, 4, 0), (6, -2, 0, 0)),
        *((7, -3, 0, 0), (10, -8, 2, 0), (8, -5, 1, 0), (6, -1, 0, -1)),
    ],
    dtype=np.int64,
)
_PLAIN_ORDERS = {0: 1, 1: 2, 2: 3}  # predictors that undo by plain summing
_COUPLINGS = np.array((-4, -3, -2, -1, 1, 2, 3, 4), dtype=np.int64)  # of the neighbour's error, in quarters
_ROLES = ("iii", "avr", "avl", "avf")
_UNITY = 16_384  # fixed point of the derived leads' weights
_FLOOR, _CEIL, _TRUNCATE, _NEAREST = range(4)

# Contexts of the range coder: numbered places in one table of probabilities.
_LEVELS = 25  # how large the last errors were: 24 steps of half an octave, and one for a lead's first sample
_FIRST = _LEVELS - 1
_LEVEL_CAP = 255  # an error counts at most this much in the level
_SIZES = 32
_ZERO = 0
_ZERO_DERIVED = _ZERO + _LEVELS
_SIGN = _ZERO_DERIVED + 30
_SIGN_DERIVED = _SIGN + 25
_MORE = _SIGN_DERIVED + 30
_MORE_DERIVED = _MORE + _LEVELS * _SIZES
_MANTISSA = _MORE_DERIVED + _LEVELS * _SIZES
_IS_DERIVED = _MANTISSA + (_SIZES + 1) * 7 * 3
_ROUNDING = _IS_DERIVED + 3
_STEP = _ROUNDING + 9
_BASE = _STEP + 3
_PREDICTOR = _BASE + 2
_COUPLED = _PREDICTOR + 7
_COUPLING = _COUPLED + 1
_SHIFTED = _COUPLING + 7
_CONTEXTS = _SHIFTED + 1

_TOP = 1 << 24
_WRAP, _HALF = 1 << 32, 1 << 31
# A probability moves by 1/(n + 1.5) after its n-th bit, and never by less than the last: old beats count for less.
_RATES = [131_072 // (2 * n + 3) for n in range(29)]
_SLOWEST = len(_RATES) - 1

Ints = NDArray[np.int64]


class BlockHeader(NamedTuple):
    """What `peek` reads: enough to index a block without decoding it."""

    codec: int
    lead_count: int
    sample_count: int
    sample_rate_hz: float
    first_index: int
    start_us: int


class _Plan(NamedTuple):
    """How one lead is coded; `errors` are what the range coder sees, int64, shape (n,)."""

    lead: int
    group: int  # 0 III, 1 aVF, 2 aVR and aVL; -1 where nothing derives it
    derived: bool
    rounding: int
    step: int  # 0: constant
    base: int
    predictor: int
    coupling: int  # index into _COUPLINGS, or -1
    coupled_possible: bool
    shift: int
    errors: Ints
    halves: Ints


def _level(weight: int) -> int:
    """The context of a weighted sum of the last errors: exact below 8, then half octaves."""
    if weight < 8:
        return weight
    size = weight.bit_length()
    return 8 + 2 * (size - 4) + (weight >> (size - 2) & 1)


_LEVEL = [_level(weight) for weight in range(8 * _LEVEL_CAP + 1)]
_LEVEL_ARRAY = np.array(_LEVEL, dtype=np.int64)


def _first_guesses() -> tuple[list[int], list[int]]:
    """Every probability (of a 1, in 1/65536) and its age before the first bit: errors fall off geometrically."""
    odds, ages = [32_768] * _CONTEXTS, [1] * _CONTEXTS
    weights = [_LEVEL.index(level) * 5 // 4 for level in range(_FIRST)] + [5000]
    for level, weight in enumerate(weights):
        fall = (weight + 8) * 65_536 // (weight + 20)
        odds[_ZERO + level], ages[_ZERO + level] = _clamp((fall << 17) // (65_536 + fall)), 6
        for size in range(_SIZES):
            for bank in (_MORE, _MORE_DERIVED):
                odds[bank + level * _SIZES + size], ages[bank + level * _SIZES + size] = _clamp(fall), 6
            fall = fall * fall >> 16
    odds[_ZERO] = 30_000  # after errors of nothing the lead is often flat
    for place in range(_ZERO_DERIVED, _SIGN):
        odds[place] = 26_000
    for place in range(_SIGN, _SIGN_DERIVED):
        ages[place] = 5
    for place in range(_MANTISSA, _IS_DERIVED):
        odds[place], ages[place] = 24_000 if (place - _MANTISSA) % 3 == 0 else 27_000, 8
    for place in range(_IS_DERIVED, _ROUNDING):
        odds[place] = 60_000
    odds[_STEP] = odds[_BASE] = odds[_SHIFTED] = 4_000
    return odds, ages


def _clamp(odds: int) -> int:
    return min(max(odds, 5120), 64_512)


_ODDS, _AGES = _first_guesses()


# ---------------------------------------------------------------------------------------------- header


def peek(data: bytes) -> BlockHeader:
    """Reads the fixed header only. Raises DecodeError."""
    return _read_header(data)[0]


def _read_header(data: bytes) -> tuple[BlockHeader, int, int]:
    """The header, its flags, and where the rest starts."""
    if len(data) < 2:
        raise DecodeError("waveform: shorter than its header", data)
    layout = _WIDE if data[1] & _WIDE_HEADER else _COMPACT
    if len(data) < layout.size:
        raise DecodeError("waveform: shorter than its header", data)
    codec, flags, leads, samples, rate, first_index, *start = layout.unpack_from(data)
    start_us = start[0] if len(start) == 1 else start[0] | start[1] << 32 | start[2] << 48
    if codec not in (RAW, PREDICTIVE):
        raise DecodeError(f"waveform: unknown codec {codec}", data)
    if flags & _UNUSED_FLAGS or flags >> 4 > _BASELINE:
        raise DecodeError(f"waveform: unknown flags {flags:#x}", data)
    if not 1 <= leads <= MAX_LEADS:
        raise DecodeError(f"waveform: {leads} leads, 1 to {MAX_LEADS} allowed", data)
    if leads * samples > MAX_VALUES:
        raise DecodeError(f"waveform: {leads} x {samples} values, at most {MAX_VALUES} allowed", data)
    if not 0 < rate < math.inf:
        raise DecodeError(f"waveform: sample rate {rate}", data)
    if first_index >= MAX_EXACT or abs(start_us) >= MAX_EXACT:
        raise DecodeError("waveform: index or time beyond 2^53", data)
    return BlockHeader(codec, leads, samples, float(rate), first_index, start_us), flags, layout.size


def _write_header(block: SampleBlock, codec: int) -> bytes:
    count, leads = block.samples.shape[0], len(block.leads)
    scale_form, scales = _scale_bytes(block.scale)
    offset_form, offsets = _offset_bytes(block.offset, block.scale)
    flags = scale_form << 2 | offset_form << 4
    rate, start = block.sample_rate_hz, block.start_us
    if count < 1 << 16 and rate < 1 << 16 and rate == int(rate) and block.first_index < 1 << 32:
        when = (start & 0xFFFFFFFF, start >> 32 & 0xFFFF, start >> 48)
        head = _COMPACT.pack(codec, flags, leads, count, int(rate), block.first_index, *when)
    else:
        head = _WIDE.pack(codec, flags | _WIDE_HEADER, leads, count, rate, block.first_index, start)
    return head + _lead_bytes(block.leads) + scales + offsets


def _lead_bytes(leads: tuple[str, ...]) -> bytes:
    if leads in _LEAD_SETS:
        return bytes((_LEAD_SETS.index(leads),))
    out = bytearray(1)
    for lead in leads:
        if lead in _NAME_ID:
            out.append(_NAME_ID[lead])
            continue
        name = lead.encode()
        if len(name) > 255:
            raise ValueError(f"lead name of {len(name)} bytes, at most 255 allowed")
        out += bytes((0, len(name))) + name
    return bytes(out)


def _gain(scale: float) -> int:
    """The whole number of counts in a unit, if the scale is exactly its inverse and it fits 16 bits; otherwise 0."""
    if not 1e-5 < scale <= 1:
        return 0
    gain = round(1 / scale)
    return gain if gain < 1 << 16 and 1 / gain == scale else 0


def _scale_bytes(scale: tuple[float, ...]) -> tuple[int, bytes]:
    gains = [_gain(value) for value in scale]
    if len(set(scale)) == 1:
        return (_GAIN, struct.pack("<H", gains[0])) if gains[0] else (_ONE_SCALE, struct.pack("<d", scale[0]))
    if all(gains):
        return _GAINS, struct.pack(f"<{len(gains)}H", *gains)
    return _SCALES, struct.pack(f"<{len(scale)}d", *scale)


def _offset_bytes(offset: tuple[float, ...], scale: tuple[float, ...]) -> tuple[int, bytes]:
    """Offsets as the count that means zero, where that is exact; otherwise as they are."""
    if not any(offset):
        return _NO_OFFSET, b""
    counts = [value / step if step else math.inf for value, step in zip(offset, scale, strict=True)]
    if all(abs(count) < 32_767 for count in counts):
        baselines = [-round(count) for count in counts]
        if all(-low * step == value for low, step, value in zip(baselines, scale, offset, strict=True)):
            if len(set(baselines)) == 1:
                return _BASELINE, struct.pack("<h", baselines[0])
            return _BASELINES, struct.pack(f"<{len(baselines)}h", *baselines)
    if len(set(offset)) == 1:
        return _ONE_OFFSET, struct.pack("<d", offset[0])
    return _OFFSETS, struct.pack(f"<{len(offset)}d", *offset)


def _read_leads(data: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    lead_set, at = data[at], at + 1
    if lead_set:
        if lead_set >= len(_LEAD_SETS) or len(_LEAD_SETS[lead_set]) != count:
            raise DecodeError(f"waveform: lead set {lead_set} for {count} leads", data)
        return _LEAD_SETS[lead_set], at
    leads = []
    for _ in range(count):
        place, at = data[at], at + 1
        if place > len(_NAMES):
            raise DecodeError(f"waveform: unknown lead id {place}", data)
        if place:
            leads.append(_NAMES[place - 1])
        else:
            end = at + 1 + data[at]
            leads.append(data[at + 1 : end].decode())
            at = end
    return tuple(leads), at


def _read_scales(data: bytes, at: int, count: int, flags: int) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    scale_form, offset_form = flags >> 2 & 3, flags >> 4 & 7
    layout = ("<H", "<d", f"<{count}H", f"<{count}d")[scale_form]
    scale = struct.unpack_from(layout, data, at)
    at += struct.calcsize(layout)
    if scale_form in (_GAIN, _GAINS):
        scale = tuple(1 / gain for gain in scale)
    if len(scale) < count:
        scale *= count
    layout = ("<", "<d", f"<{count}h", f"<{count}d", "<h")[offset_form]
    offset = struct.unpack_from(layout, data, at) or (0.0,)
    at += struct.calcsize(layout)
    if len(offset) < count:
        offset *= count
    if offset_form in (_BASELINE, _BASELINES):
        offset = tuple(-low * step for low, step in zip(offset, scale, strict=True))
    if not all(map(math.isfinite, scale + offset)):
        raise DecodeError("waveform: scale or offset is not a number", data)
    return scale, offset, at


# ---------------------------------------------------------------------------------------------- encode


def encode(block: SampleBlock) -> bytes:
    """The block as bytes, the smaller of predictive and raw. Raises ValueError for a block the format cannot hold."""
    _check(block)
    columns = np.ascontiguousarray(block.samples.T, dtype=np.int32)
    body = b""
    codec = RAW
    if columns.size:
        codec = PREDICTIVE
        body = _encode_predictive(block.leads, block.scale, columns.astype(np.int64))
        width = next(w for w in (1, 2, 4) if -(1 << 8 * w - 1) <= columns.min() and columns.max() < 1 << 8 * w - 1)
        if len(body) > columns.size * width:
            codec, body = RAW, bytes((width,)) + columns.astype(f"<i{width}").tobytes()
    out = _write_header(block, codec) + body
    return out + binascii.crc_hqx(out, 0xFFFF).to_bytes(_CHECK_BYTES, "little")


def _check(block: SampleBlock) -> None:
    count = len(block.leads)
    if block.samples.ndim != 2 or block.samples.dtype != np.int32 or block.samples.shape[1] != count:
        raise ValueError(f"samples {block.samples.dtype} {block.samples.shape}, int32 (n, {count}) expected")
    if not 1 <= count <= MAX_LEADS or len(block.scale) != count or len(block.offset) != count:
        raise ValueError(f"{count} leads, {len(block.scale)} scales, {len(block.offset)} offsets")
    if block.samples.size > MAX_VALUES:
        raise ValueError(f"{block.samples.size} values, at most {MAX_VALUES} allowed")
    if not 0 < block.sample_rate_hz < math.inf or not all(map(math.isfinite, block.scale + block.offset)):
        raise ValueError("rate, scales and offsets are finite numbers, the rate above 0")
    if not 0 <= block.first_index < MAX_EXACT or abs(block.start_us) >= MAX_EXACT:
        raise ValueError("index or time beyond 2^53")


def _wrap(values: Ints) -> Ints:
    """Modulo 2^32, as int32."""
    wrapped: Ints = values.astype(np.int32).astype(np.int64)
    return wrapped


def _order(leads: tuple[str, ...], scale: tuple[float, ...]) -> list[tuple[int, tuple[int, int, int, int] | None]]:
    """Leads in coding order, with (lead a, weight a, lead b, weight b) where one follows from two others."""
    place: dict[str, int] = {}
    for lead, name in enumerate(leads):
        place.setdefault(name.lower(), lead)
    derived: dict[int, tuple[int, int, int, int]] = {}
    if "i" in place and "ii" in place:
        one, two, three = place["i"], place["ii"], place.get("iii")
        recipes = {
            "iii": (two, 1.0, one, -1.0),
            "avr": (one, -0.5, two, -0.5),
            "avl": (one, 1.0, two, -0.5) if three is None else (one, 0.5, three, -0.5),
            "avf": (two, 1.0, one, -0.5) if three is None else (two, 0.5, three, 0.5),
        }
        for role in _ROLES:
            if role in place:
                lead = place[role]
                a, part_a, b, part_b = recipes[role]
                weight_a, weight_b = (_weight(p, scale[s], scale[lead]) for p, s in ((part_a, a), (part_b, b)))
                if weight_a and weight_b:
                    derived[lead] = (a, weight_a, b, weight_b)
    rest: list[tuple[int, tuple[int, int, int, int] | None]] = [
        (k, None) for k in range(len(leads)) if k not in derived
    ]
    return rest + list(derived.items())


def _weight(part: float, source: float, target: float) -> int:
    """A recipe's part in counts of the target lead, fixed point; 0 where the scales do not allow it."""
    if not target:
        return 0
    weight = _UNITY * part * (source / target) + 0.5
    return math.floor(weight) if abs(weight) <= 1 << 20 else 0


def _group(name: str) -> int:
    return {"iii": 0, "avf": 1}.get(name.lower(), 2)


def _mix(columns: Ints, recipe: tuple[int, int, int, int]) -> Ints:
    a, weight_a, b, weight_b = recipe
    return weight_a * columns[a] + weight_b * columns[b]


def _rounded(mixed: Ints, rounding: int) -> Ints:
    if rounding == _NEAREST:
        mixed = mixed + _UNITY // 2
    down: Ints = mixed >> 14
    if rounding in (_FLOOR, _NEAREST):
        return down
    partial = (mixed & (_UNITY - 1)) != 0
    return down + (partial if rounding == _CEIL else partial & (mixed < 0))


def _encode_predictive(leads: tuple[str, ...], scale: tuple[float, ...], columns: Ints) -> bytes:
    plans = _plan(leads, scale, columns)
    bits, plain = _describe(plans)
    active = [plan for plan in plans if plan.step]
    if active:
        contexts, decisions, values, widths = _decisions(active)
    else:
        contexts, decisions, values, widths = [], [], np.zeros(0, np.int64), np.zeros(0, np.int64)
    coded = _range_encode([c for c, _ in bits] + contexts, [b for _, b in bits] + decisions)
    head_values = np.array([v for v, _ in plain] or [0], dtype=np.int64)
    head_widths = np.array([w for _, w in plain] or [0], dtype=np.int64)
    return coded + _pack(np.concatenate((head_values, values)), np.concatenate((head_widths, widths)))[::-1]


def _cost(errors: Ints) -> NDArray[np.float64]:
    """About the bits each row will take; only the comparison matters."""
    total: NDArray[np.float64] = np.log2(np.abs(errors) + 0.5).sum(axis=-1)
    return total


def _plan(leads: tuple[str, ...], scale: tuple[float, ...], columns: Ints) -> list[_Plan]:
    plans: list[_Plan] = []
    neighbour: Ints | None = None
    for lead, recipe in _order(leads, scale):
        plan, errors = _plan_own(lead, columns[lead], neighbour)
        if recipe is not None:
            group = _group(leads[lead])
            derived = _plan_derived(lead, group, columns, recipe)
            plan = plan._replace(group=group)
            if _bits_of(derived) <= _bits_of(plan):
                plan, errors = derived, None
        if errors is not None:
            neighbour = errors
        plans.append(plan)
    return plans


def _bits_of(plan: _Plan) -> float:
    """About what a plan costs, a lead's first value counted as 10 bits."""
    if not plan.step:
        return 2.0 * plan.base.bit_length()
    return float(_cost(plan.errors)) if plan.derived else 10 + float(_cost(plan.errors[1:]))


def _steps(values: Ints) -> int:
    """The greatest common divisor of all differences: 0 for a constant lead."""
    differences = np.diff(values)
    if int(np.gcd.reduce(differences[:64], initial=0)) == 1:
        return 1
    return int(np.gcd.reduce(differences, initial=0))


def _predicted(values: Ints) -> Ints:
    """What each predictor expects of samples 1 to n - 1: int64, shape (predictors, n - 1)."""
    past = np.concatenate((values[:1], values[:1], values[:1], values))
    lags = np.stack((past[3:-1], past[2:-2], past[1:-3], past[:-4]))
    expected: Ints = (_PREDICTORS @ lags) >> 2
    return expected


def _plan_own(lead: int, values: Ints, neighbour: Ints | None) -> tuple[_Plan, Ints | None]:
    step = _steps(values)
    base = int(values[0]) if step == 0 else int(values[0]) % step
    empty = np.zeros(0, np.int64)
    plan = _Plan(lead, -1, False, 0, step, base, 0, -1, neighbour is not None, 0, empty, empty)
    if not step:
        return plan, None
    reduced = (values - base) // step if step > 1 else values
    tries = _wrap(reduced[1:] - _predicted(reduced))
    predictor = int(np.argmin(_cost(tries)))
    own = tries[predictor]
    errors, coupling = own, -1
    if neighbour is not None:
        coupled = _wrap(own - (_COUPLINGS[:, None] * neighbour[1:] >> 2))
        costs = _cost(coupled)
        best = int(np.argmin(costs))
        if costs[best] + 4 < float(_cost(own)):  # naming the coupling takes about 4 bits
            errors, coupling = coupled[best], best
    shift = _noise_bits(errors)
    full = np.concatenate((reduced[:1], errors))
    own = np.concatenate((np.zeros(1, np.int64), own))
    halves = np.zeros(len(values), np.int64)
    return plan._replace(predictor=predictor, coupling=coupling, shift=shift, errors=full, halves=halves), own


def _noise_bits(errors: Ints) -> int:
    """Low bits that no model would predict: more than 6 bits of the median error."""
    return max(0, int(np.median(np.abs(errors))).bit_length() - 6)


def _plan_derived(lead: int, group: int, columns: Ints, recipe: tuple[int, int, int, int]) -> _Plan:
    mixed = _mix(columns, recipe)
    rests = _wrap(columns[lead] - np.stack([_rounded(mixed, rounding) for rounding in range(4)]))
    bases = np.partition(rests, rests.shape[1] // 2, axis=1)[:, rests.shape[1] // 2]
    rounding = int(np.argmin(_cost(rests - bases[:, None])))
    base = int(bases[rounding])
    rest = rests[rounding]
    step = _steps(rest)
    errors = _wrap(rest - base) if step < 2 else (rest - base) // step
    halves = ((mixed & (_UNITY - 1)) != 0).astype(np.int64)
    return _Plan(lead, group, True, rounding, step, base, 0, -1, False, _noise_bits(errors), errors, halves)


def _describe(plans: list[_Plan]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The plans as (context, bit) for the range coder and (value, width) beside it."""
    bits: list[tuple[int, int]] = []
    plain: list[tuple[int, int]] = []

    def tree(context: int, value: int, depth: int) -> None:
        node = 1
        for level in reversed(range(depth)):
            bit = value >> level & 1
            bits.append((context + node - 1, bit))
            node = node * 2 + bit

    def number(value: int) -> None:
        plain.extend(((value.bit_length(), 6), (value, value.bit_length())))

    last_step = 1
    for plan in plans:
        if plan.group >= 0:
            bits.append((_IS_DERIVED + plan.group, int(plan.derived)))
            if plan.derived:
                tree(_ROUNDING + 3 * plan.group, plan.rounding, 2)
        bits.append((_STEP, int(plan.step != 1)))
        if plan.step != 1:
            bits.append((_STEP + 1, int(plan.step == 0)))
            if plan.step:
                bits.append((_STEP + 2, int(plan.step == last_step)))
                if plan.step != last_step:
                    number(plan.step)
                last_step = plan.step
        bits.append((_BASE + plan.derived, int(plan.base != 0)))
        if plan.base:
            number(plan.base * 2 if plan.base > 0 else -plan.base * 2 - 1)
        if not plan.step:
            continue
        if not plan.derived:
            tree(_PREDICTOR, plan.predictor, 3)
            if plan.coupled_possible:
                bits.append((_COUPLED, int(plan.coupling >= 0)))
                if plan.coupling >= 0:
                    tree(_COUPLING, plan.coupling, 3)
        bits.append((_SHIFTED, int(plan.shift > 0)))
        if plan.shift:
            plain.append((plan.shift, 5))
    return bits, plain


def _decisions(plans: list[_Plan]) -> tuple[list[int], list[int], Ints, Ints]:
    """Every binary decision of every sample, in order, and the plain bits beside them."""
    whole = np.stack([plan.errors for plan in plans])
    shift = np.array([plan.shift for plan in plans], np.int64)[:, None]
    derived = np.array([plan.derived for plan in plans])[:, None]
    group = np.array([plan.group for plan in plans], np.int64)[:, None]
    halves = np.stack([plan.halves for plan in plans])
    errors = whole >> shift
    rows, count = errors.shape
    past = np.zeros((rows, count + 3), np.int64)  # the first sample is a value, not an error: it leaves no trace
    past[:, 4:] = errors[:, 1:]
    capped = np.minimum(np.abs(past), _LEVEL_CAP)
    level = _LEVEL_ARRAY[5 * capped[:, 2:-1] + 2 * capped[:, 1:-2] + capped[:, :-3]]
    level[:, :1] = np.where(derived, level[:, :1], _FIRST)
    near = np.clip(past, -2, 2) + 2
    place = 10 * group + 2 * near[:, 2:-1] + halves
    zero = np.where(derived, _ZERO_DERIVED + place, _ZERO + level).ravel()
    sign = np.where(derived, _SIGN_DERIVED + place, _SIGN + 5 * near[:, 2:-1] + near[:, 1:-2]).ravel()
    more = (np.where(derived, _MORE_DERIVED, _MORE) + level * _SIZES).ravel()
    flat = errors.ravel()
    size = np.frexp(np.abs(flat).astype(np.float64))[1].astype(np.int64)  # bit length, exact below 2^53
    mantissa = (_MANTISSA + 3 * (size.reshape(rows, count) * 7 + (level >> 2))).ravel()

    lengths = np.where(size > 0, 2 + size + np.minimum(size - 1, 2), 1)
    ends = np.cumsum(lengths)
    contexts = np.empty(int(ends[-1]), np.int64)
    bits = np.zeros(int(ends[-1]), np.int8)
    at = ends - lengths
    contexts[at] = zero
    some = np.flatnonzero(size)
    bits[at[some]] = 1
    contexts[at[some] + 1] = sign[some]
    bits[at[some] + 1] = flat[some] > 0
    alive, reached = some, 1
    while alive.size:
        contexts[at[alive] + 1 + reached] = more[alive] + reached - 1
        going = size[alive] > reached
        bits[at[alive] + 1 + reached] = going
        alive = alive[going]
        reached += 1
    magnitude = np.abs(flat)
    two = np.flatnonzero(size >= 2)
    top = magnitude[two] >> (size[two] - 2) & 1
    where = at[two] + 2 + size[two]
    contexts[where], bits[where] = mantissa[two], top
    keep = size[two] >= 3
    three, where = two[keep], where[keep] + 1
    contexts[where], bits[where] = mantissa[three] + 1 + top[keep], magnitude[three] >> (size[three] - 3) & 1

    low = np.maximum(size - 3, 0)
    shifts = np.broadcast_to(shift, (rows, count)).ravel()
    values = (magnitude & ((1 << low) - 1)) << shifts | whole.ravel() & ((1 << shifts) - 1)
    widths = low + shifts
    used = widths > 0
    return contexts.tolist(), bits.tolist(), values[used], widths[used]


def _range_encode(contexts: list[int], bits: list[int]) -> bytes:
    odds, ages, rates, slowest = _ODDS.copy(), _AGES.copy(), _RATES, _SLOWEST
    low, high = 0, 0xFFFFFFFF
    out = bytearray()
    for context, bit in zip(contexts, bits, strict=True):
        chance, age = odds[context], ages[context]
        middle = low + ((high - low) * chance >> 16)
        if bit:
            high = middle
            odds[context] = chance + ((65_536 - chance) * rates[age] >> 16)
        else:
            low = middle + 1
            odds[context] = chance - (chance * rates[age] >> 16)
        if age < slowest:
            ages[context] = age + 1
        while low ^ high < _TOP:
            out.append(high >> 24)
            low, high = (low & 0xFFFFFF) << 8, (high & 0xFFFFFF) << 8 | 0xFF
    last = _last_bytes(low, high)
    return bytes(out) + ((low + (1 << 32 - 8 * last) - 1) >> (32 - 8 * last)).to_bytes(last, "big")


def _last_bytes(low: int, high: int) -> int:
    """How many bytes name a number between low and high whatever follows them."""
    for count in (1, 2, 3):
        rest = (1 << 32 - 8 * count) - 1
        if (low + rest | rest) <= high:
            return count
    return 4


def _pack(values: Ints, widths: Ints) -> bytes:
    """The low `widths` bits of each value, most significant first."""
    total = int(widths.sum())
    ends = np.cumsum(widths)
    down = np.repeat(ends, widths) - 1 - np.arange(total)
    return np.packbits((np.repeat(values, widths) >> down & 1).astype(np.uint8)).tobytes()


# ---------------------------------------------------------------------------------------------- decode


def decode(
    data: bytes,
    *,
    stream: str,
    acquisition: Acquisition | None = None,
    quality: Quality = Quality.GOOD,
    quality_reason: str = "",
) -> SampleBlock:
    """The block that was encoded, for the stream its envelope names. Raises DecodeError."""
    header, flags, at = _read_header(data)
    content = data[:-_CHECK_BYTES]
    if binascii.crc_hqx(content, 0xFFFF) != int.from_bytes(data[-_CHECK_BYTES:], "little"):
        raise DecodeError("waveform: checksum differs", data)
    try:
        leads, at = _read_leads(content, at, header.lead_count)
        scale, offset, at = _read_scales(content, at, header.lead_count, flags)
    except (IndexError, UnicodeDecodeError, ZeroDivisionError, struct.error) as error:
        raise DecodeError(f"waveform: leads or scales: {error}", data) from error
    count = header.sample_count
    if not count:
        if at != len(content):
            raise DecodeError("waveform: bytes after an empty block", data)
        columns = np.zeros((header.lead_count, 0), np.int64)
    elif header.codec == RAW:
        columns = _decode_raw(content, at, header)
    else:
        columns = _Decoder(content[at:], leads, scale, count).columns()
    return SampleBlock(
        stream=stream,
        leads=leads,
        samples=np.ascontiguousarray(columns.T, dtype=np.int32),
        sample_rate_hz=header.sample_rate_hz,
        scale=scale,
        offset=offset,
        first_index=header.first_index,
        start_us=header.start_us,
        acquisition=acquisition,
        quality=quality,
        quality_reason=quality_reason,
    )


def _decode_raw(content: bytes, at: int, header: BlockHeader) -> Ints:
    values = header.lead_count * header.sample_count
    width = content[at] if at < len(content) else 0
    if width not in (1, 2, 4) or len(content) - at - 1 != values * width:
        raise DecodeError(f"waveform: {len(content) - at} raw bytes for {values} values", content)
    samples = np.frombuffer(content, f"<i{width}", values, at + 1).astype(np.int64)
    return samples.reshape(header.lead_count, header.sample_count)


class _RangeDecoder:
    """The bits the range coder wrote, one for each context asked for."""

    def __init__(self, body: bytes) -> None:
        odds, ages, rates, slowest = _ODDS.copy(), _AGES.copy(), _RATES, _SLOWEST
        low, high = 0, 0xFFFFFFFF
        value = int.from_bytes(body[:4].ljust(4, b"\0"), "big")
        rest = iter(body[4:])
        taken = 0

        # A closure over plain variables: called ten thousand times a block, it takes half the time of a method.
        def bit(context: int) -> int:
            nonlocal low, high, value, taken
            chance, age = odds[context], ages[context]
            middle = low + ((high - low) * chance >> 16)
            if value <= middle:
                high, found = middle, 1
                odds[context] = chance + ((65_536 - chance) * rates[age] >> 16)
            else:
                low, found = middle + 1, 0
                odds[context] = chance - (chance * rates[age] >> 16)
            if age < slowest:
                ages[context] = age + 1
            while low ^ high < _TOP:
                low, high = (low & 0xFFFFFF) << 8, (high & 0xFFFFFF) << 8 | 0xFF
                value = (value & 0xFFFFFF) << 8 | next(rest, 0)
                taken += 1
            return found

        def used() -> int:
            return taken + _last_bytes(low, high)

        self.bit = bit
        self.used = used


class _Decoder:
    """Reads one predictive body: the range coder's bytes from its front, the plain bits from its back."""

    def __init__(self, body: bytes, leads: tuple[str, ...], scale: tuple[float, ...], count: int) -> None:
        self._body, self._count = body, count
        self._leads, self._recipes = leads, _order(leads, scale)
        self._range = _RangeDecoder(body)
        self._bit = self._range.bit
        self._plain, self._plain_at = body[::-1], 0

    def columns(self) -> Ints:
        """int64, shape (leads, n)."""
        columns = np.zeros((len(self._leads), self._count), np.int64)
        neighbour = np.zeros(self._count, np.int64)
        for plan, (_, recipe) in zip(self._read_plans(), self._recipes, strict=True):
            mixed = _mix(columns, recipe) if recipe and plan.derived else None
            if not plan.step:
                values = np.full(self._count, plan.base, np.int64)
            elif mixed is not None:
                halves = ((mixed & (_UNITY - 1)) != 0).astype(np.int64).tolist()
                values = _wrap(np.array(self._read_errors(plan, halves), np.int64) * plan.step + plan.base)
            else:
                errors = np.array(self._read_errors(plan, [0] * self._count), np.int64)
                first, errors[0] = int(errors[0]), 0
                if plan.coupling >= 0:
                    errors[1:] = _wrap(errors[1:] + (_COUPLINGS[plan.coupling] * neighbour[1:] >> 2))
                neighbour = errors
                values = _wrap(_integrate(first, errors, plan.predictor) * plan.step + plan.base)
            columns[plan.lead] = values if mixed is None else _wrap(values + _rounded(mixed, plan.rounding))
        used = self._range.used() + (self._plain_at + 7) // 8
        if used != len(self._body):
            raise DecodeError(f"waveform: {len(self._body)} bytes of samples, {used} expected", self._body)
        return columns

    def _read_plans(self) -> list[_Plan]:
        plans: list[_Plan] = []
        last_step, coupled_possible = 1, False
        nothing = np.zeros(0, np.int64)
        for lead, recipe in self._recipes:
            group, derived, rounding = -1, False, 0
            if recipe:
                group = _group(self._leads[lead])
                derived = bool(self._bit(_IS_DERIVED + group))
                rounding = self._tree(_ROUNDING + 3 * group, 2) if derived else 0
            step = 1
            if self._bit(_STEP):
                step = 0 if self._bit(_STEP + 1) else self._step(last_step)
                last_step = step or last_step
            base = self._base(derived)
            predictor, coupling, shift, possible = 0, -1, 0, coupled_possible and not derived
            if step:
                if not derived:
                    predictor = self._tree(_PREDICTOR, 3)
                    if possible and self._bit(_COUPLED):
                        coupling = self._tree(_COUPLING, 3)
                    coupled_possible = True
                shift = self._take(5) if self._bit(_SHIFTED) else 0
            choice = (step, base, predictor, coupling, possible, shift)
            plans.append(_Plan(lead, group, derived, rounding, *choice, nothing, nothing))
        return plans

    def _step(self, last_step: int) -> int:
        step = last_step if self._bit(_STEP + 2) else self._number()
        if not 1 < step < _WRAP:
            raise DecodeError(f"waveform: step {step}", self._body)
        return step

    def _base(self, derived: bool) -> int:
        zigzag = self._number() if self._bit(_BASE + derived) else 0
        if zigzag > _WRAP:
            raise DecodeError("waveform: base beyond 32 bits", self._body)
        return -(zigzag + 1 >> 1) if zigzag & 1 else zigzag >> 1

    def _take(self, width: int) -> int:
        at = self._plain_at
        self._plain_at = end = at + width
        return int.from_bytes(self._plain[at >> 3 : (end + 7) >> 3], "big") >> (-end & 7) & ((1 << width) - 1)

    def _number(self) -> int:
        return self._take(self._take(6))

    def _tree(self, context: int, depth: int) -> int:
        node = 1
        for _ in range(depth):
            node = node * 2 + self._bit(context + node - 1)
        return node - (1 << depth)

    def _read_errors(self, plan: _Plan, halves: list[int]) -> list[int]:
        """The errors of one lead; the first is a value and leaves no trace in the contexts."""
        bit, levels, shift, derived = self._bit, _LEVEL, plan.shift, plan.derived
        zero_bank = _ZERO_DERIVED + 10 * plan.group if derived else _ZERO
        sign_bank = _SIGN_DERIVED + 10 * plan.group if derived else _SIGN
        more_bank = _MORE_DERIVED if derived else _MORE
        level = 0 if derived else _FIRST
        low_mask = (1 << shift) - 1
        errors: list[int] = []
        capped = capped_two = capped_three = 0
        near = near_two = 2
        for half in halves:
            place = 2 * near + half if derived else 5 * near + near_two
            error = 0
            plain = shift
            if bit(zero_bank + (place if derived else level)):
                positive = bit(sign_bank + place)
                more, size = more_bank + level * _SIZES, 1
                while bit(more):
                    more, size = more + 1, size + 1
                    if size > _SIZES - shift:
                        raise DecodeError("waveform: an error beyond 32 bits", self._body)
                error = 1
                if size > 1:
                    mantissa = _MANTISSA + 3 * (size * 7 + (level >> 2))
                    error = 2 + bit(mantissa)
                    if size > 2:
                        error = 2 * error + bit(mantissa + error - 1)
                        plain += size - 3
                if plain:
                    low = self._take(plain)
                    error = error << plain - shift | low >> shift
                    error = (error if positive else -error) << shift | low & low_mask
                elif not positive:
                    error = -error
            elif plain:
                error = self._take(plain)
            errors.append(error)
            if len(errors) > 1:
                trace = error >> shift
                near_two, near = near, 4 if trace > 1 else 0 if trace < -1 else trace + 2
                capped_three, capped_two = capped_two, capped
                capped = min(abs(trace), _LEVEL_CAP)
            level = levels[5 * capped + 2 * capped_two + capped_three]
        return errors


def _integrate(first: int, errors: Ints, predictor: int) -> Ints:
    """The samples that a predictor's errors stand for; errors[0] is 0."""
    order = _PLAIN_ORDERS.get(predictor)
    if order is not None:
        for _ in range(order):
            errors = np.cumsum(errors)  # modulo 2^64, so modulo 2^32 as well
        return _wrap(errors + first)
    weight_one, weight_two, weight_three, weight_four = _PREDICTORS[predictor].tolist()
    one = two = three = four = first
    values = [first]
    for error in errors.tolist()[1:]:
        value = error + (weight_one * one + weight_two * two + weight_three * three + weight_four * four >> 2)
        if not -_HALF <= value < _HALF:
            value = (value + _HALF) % _WRAP - _HALF
        one, two, three, four = value, one, two, three
        values.append(value)
    return np.array(values, np.int64)

"""How the leads of a block are predicted and their errors coded: the inside of the waveform codec (docs/wire.md).

A lead follows from leads I and II where physics says so, otherwise from its own past and its neighbour's error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from wire.messages import DecodeError
from wire.range_coder import UNIT, Guesses, Ints, RangeDecoder, pack_bits, range_encode

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

_WRAP, _HALF = 1 << 32, 1 << 31


Recipe = tuple[int, int, int, int]  # lead a, weight a, lead b, weight b


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


def _first_guesses() -> Guesses:
    """Chances of a 1 (in 1/65536) and how many bits each guess is worth; errors are taken to fall off geometrically."""
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
    ones = [chance * age * UNIT >> 16 for chance, age in zip(odds, ages, strict=True)]
    return Guesses(ones, [age * UNIT for age in ages])


def _clamp(odds: int) -> int:
    return min(max(odds, 5120), 64_512)


_GUESSES = _first_guesses()


def _wrap(values: Ints) -> Ints:
    """Modulo 2^32, as int32."""
    wrapped: Ints = values.astype(np.int32).astype(np.int64)
    return wrapped


def _order(leads: tuple[str, ...], scale: tuple[float, ...]) -> list[tuple[int, Recipe | None]]:
    """Leads in coding order, with (lead a, weight a, lead b, weight b) where one follows from two others."""
    place: dict[str, int] = {}
    for lead, name in enumerate(leads):
        place.setdefault(name.lower(), lead)
    derived: dict[int, Recipe] = {}
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
    rest: list[tuple[int, Recipe | None]] = [(k, None) for k in range(len(leads)) if k not in derived]
    return rest + list(derived.items())


def _weight(part: float, source: float, target: float) -> int:
    """A recipe's part in counts of the target lead, fixed point; 0 where the scales do not allow it."""
    if not target:
        return 0
    weight = _UNITY * part * (source / target) + 0.5
    return math.floor(weight) if abs(weight) <= 1 << 20 else 0


def _group(name: str) -> int:
    return {"iii": 0, "avf": 1}.get(name.lower(), 2)


def _mix(columns: Ints, recipe: Recipe) -> Ints:
    a, weight_a, b, weight_b = recipe
    mixed: Ints = weight_a * columns[a] + weight_b * columns[b]
    return mixed


def _rounded(mixed: Ints, rounding: int) -> Ints:
    if rounding == _NEAREST:
        mixed = mixed + _UNITY // 2
    down: Ints = mixed >> 14
    if rounding in (_FLOOR, _NEAREST):
        return down
    partial = (mixed & (_UNITY - 1)) != 0
    up: Ints = down + (partial if rounding == _CEIL else partial & (mixed < 0))
    return up


def encode_leads(leads: tuple[str, ...], scale: tuple[float, ...], columns: Ints) -> bytes:
    """The columns, int64 within 32 bits, shape (leads, n), n at least 1."""
    plans = _plan(leads, scale, columns)
    choices, plain = _describe(plans)
    head = np.array(choices, np.int64)
    plain_head = np.array(plain or [(0, 0)], np.int64)
    active = [plan for plan in plans if plan.step]
    contexts, bits, values, widths = _decisions(active) if active else [np.zeros(0, np.int64)] * 4
    coded = range_encode(np.concatenate((head[:, 0], contexts)), np.concatenate((head[:, 1], bits)), _GUESSES)
    values = np.concatenate((plain_head[:, 0], values))
    widths = np.concatenate((plain_head[:, 1], widths))
    return coded + pack_bits(values, widths)[::-1]


def _cost(errors: Ints) -> Ints:
    """About the bits each row will take, in 1/2048: log2 read off the float's own bits, the same on every machine."""
    logarithms = (np.abs(errors) + 0.5).astype(np.float32).view(np.int32) >> 12
    total: Ints = logarithms.sum(axis=-1, dtype=np.int64) - (127 << 11) * errors.shape[-1]
    return total


def _plan(leads: tuple[str, ...], scale: tuple[float, ...], columns: Ints) -> list[_Plan]:
    """How each lead is best coded, in coding order; all leads are tried at once, since numpy calls are what costs."""
    order = _order(leads, scale)
    recipes = {lead: recipe for lead, recipe in order if recipe is not None}
    plans = _plan_derived(leads, columns, recipes) if recipes else {}
    # At a bit a sample there is no need to look for better.
    doubtful = [lead for lead, _ in order if lead not in plans or _bits_of(plans[lead]) > columns.shape[1]]
    for lead, own in _plan_own(doubtful, columns).items():
        if lead not in plans:
            plans[lead] = own
        elif _bits_of(own) < _bits_of(plans[lead]):
            plans[lead] = own._replace(group=plans[lead].group)
    ordered = [plans[lead] for lead, _ in order]
    return _coupled(ordered)


def _bits_of(plan: _Plan) -> float:
    """About what a plan costs, a lead's first value counted as 10 bits."""
    if not plan.step:
        return 2.0 * plan.base.bit_length()
    bits = float(_cost(plan.errors if plan.derived else plan.errors[1:])) / 2048
    return bits if plan.derived else bits + 10


def _steps(rows: Ints) -> Ints:
    """The greatest common divisor of all differences of each row: 0 for a constant one."""
    differences = np.diff(rows)
    steps: Ints = np.gcd.reduce(differences[:, :32], axis=1, initial=0)
    unsure = np.flatnonzero(steps != 1)
    if unsure.size:
        steps[unsure] = np.gcd.reduce(differences[unsure], axis=1, initial=0)
    return steps


def _predicted(rows: Ints) -> Ints:
    """What each predictor expects of samples 1 to n - 1: int64, shape (predictors, rows, n - 1)."""
    past = np.concatenate((rows[:, :1], rows[:, :1], rows[:, :1], rows), axis=1)
    lags = np.stack((past[:, 3:-1], past[:, 2:-2], past[:, 1:-3], past[:, :-4])).astype(np.float64)
    # Exact in floats, and those multiply faster: 2^31 times weights of 28 at most.
    expected: Ints = np.floor(np.tensordot(_PREDICTORS / 4, lags, axes=1)).astype(np.int64)
    return expected


def _plan_own(leads: list[int], columns: Ints) -> dict[int, _Plan]:
    """Each lead by its own past alone."""
    if not leads:
        return {}
    rows = columns[leads]
    steps = _steps(rows)
    bases = np.where(steps == 0, rows[:, 0], rows[:, 0] % np.maximum(steps, 1))
    reduced = np.where(steps[:, None] > 1, (rows - bases[:, None]) // np.maximum(steps, 1)[:, None], rows)
    tries = _wrap(reduced[:, 1:] - _predicted(reduced))
    best = np.argmin(_cost(tries), axis=0)
    errors = np.concatenate((reduced[:, :1], tries[best, np.arange(len(leads))]), axis=1)
    halves = np.zeros(rows.shape[1], np.int64)
    return {
        lead: _Plan(lead, -1, False, 0, int(steps[k]), int(bases[k]), int(best[k]), -1, False, 0, errors[k], halves)
        for k, lead in enumerate(leads)
    }


def _coupled(plans: list[_Plan]) -> list[_Plan]:
    """Takes from each lead what its neighbour's error says about it, and sets the noise bits apart."""
    own = [k for k, plan in enumerate(plans) if plan.step and not plan.derived]
    if len(own) > 1:
        errors = np.stack([plans[k].errors[1:] for k in own])
        tries = _wrap(errors[1:] - (_COUPLINGS[:, None, None] * errors[:-1] >> 2))
        costs, alone = _cost(tries), _cost(errors[1:])
        best = np.argmin(costs, axis=0)
        for row, k in enumerate(own[1:]):
            plans[k] = plans[k]._replace(coupled_possible=True)
            if costs[best[row], row] + 4 * 2048 < alone[row]:  # naming the coupling takes about 4 bits
                full = np.concatenate((plans[k].errors[:1], tries[best[row], row]))
                plans[k] = plans[k]._replace(coupling=int(best[row]), errors=full)
    active = [k for k, plan in enumerate(plans) if plan.step]
    if active:
        # Low bits that no model would predict: more than 6 bits of the median error.
        medians = np.median(np.abs([plans[k].errors for k in active]), axis=1)
        for k, median in zip(active, medians.tolist(), strict=True):
            plans[k] = plans[k]._replace(shift=max(0, int(median).bit_length() - 6))
    return plans


def _plan_derived(leads: tuple[str, ...], columns: Ints, recipes: dict[int, Recipe]) -> dict[int, _Plan]:
    """Each lead by the two leads it follows from."""
    mixed = np.stack([_mix(columns, recipe) for recipe in recipes.values()])
    targets = columns[list(recipes)]
    rests = _wrap(targets - np.stack([_rounded(mixed, rounding) for rounding in range(4)]))
    middle = rests.shape[2] // 2
    bases = np.partition(rests, middle, axis=2)[:, :, middle]
    best = np.argmin(_cost(rests - bases[:, :, None]), axis=0)
    rows = np.arange(len(recipes))
    rest, bases = rests[best, rows], bases[best, rows]
    steps = _steps(rest)
    errors = np.where(
        steps[:, None] > 1, (rest - bases[:, None]) // np.maximum(steps, 1)[:, None], _wrap(rest - bases[:, None])
    )
    halves = ((mixed & (_UNITY - 1)) != 0).astype(np.int64)
    plans = {}
    for k, lead in enumerate(recipes):
        choice = (int(best[k]), int(steps[k]), int(bases[k]), 0, -1, False, 0)
        plans[lead] = _Plan(lead, _group(leads[lead]), True, *choice, errors[k], halves[k])
    return plans


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


def _decisions(plans: list[_Plan]) -> tuple[Ints, Ints, Ints, Ints]:
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
    bits = np.zeros(int(ends[-1]), np.int64)
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
    return contexts, bits, values[used], widths[used]


def decode_leads(body: bytes, leads: tuple[str, ...], scale: tuple[float, ...], count: int) -> Ints:
    """The columns again. Raises DecodeError."""
    return _LeadReader(body, leads, scale, count).columns()


class _LeadReader:
    """Reads one predictive body: the range coder's bytes from its front, the plain bits from its back."""

    def __init__(self, body: bytes, leads: tuple[str, ...], scale: tuple[float, ...], count: int) -> None:
        self._body, self._count = body, count
        self._leads, self._recipes = leads, _order(leads, scale)
        self._range = RangeDecoder(body, _GUESSES)
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

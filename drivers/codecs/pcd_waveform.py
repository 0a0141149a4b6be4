"""Waveforms of IHE PCD messages: one OBR group's sample rows and their facets become sample blocks.

`read_group` is pure; `StreamPlacer` holds, per connection, where each stream's samples stand.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.codecs.hl7 import Coded, Message, Segment, coded
from drivers.codecs.mdc_units import UnitError, convert, read_number, read_unit
from wire.clock import MICROSECONDS
from wire.readings import Acquisition, SampleBlock
from wire.vocabulary import LEAD_BY_MDC, PLETH_MDC, WAVEFORMS

# Facets go by name: monitors send MDC_ATTR_SAMP_RATE with code 0 and MDC_ATTR_NU_MSMT_RES with 2327 as well.
_RATE, _RESOLUTION, _OFFSET, _BAND, _INVALID = "rate", "resolution", "offset", "band", "invalid"
_FACETS = {
    "MDC_ATTR_SAMP_RATE": _RATE,
    "MDC_ATTR_NU_MSMT_RES": _RESOLUTION,
    "MDC_EVT_INOP": _INVALID,  # Mindray: the count that stands for "no sample"
    "MDC_ATTR_SCALE_RANGE": "range",  # informational
    "VW_SAMPLE_OFFSET": _OFFSET,
    "VW_BAND": _BAND,
}
_FACET_BY_MDC = {"68320": _RATE, "67945": _RESOLUTION, "68323": "range"}
_LEAD_PREFIX = "MDC_ECG_ELEC_POTL_"
_LEAD_NAME = re.compile(r"[^\s|^~&\\]{1,16}")
_PLETH_LEAD = "PLETH"

MISSING_COUNTS = (197376, 197378)  # MDC "invalid" and "missing" among samples (CLINICAL.md §7): never plotted
_COUNT_LETTERS = b"0123456789-"
_INT32 = np.iinfo(np.int32)
MAX_SAMPLE_RATE_HZ = 100_000  # no vital sign is sampled faster; a faster rate is a misread unit
# A lead that comes and goes more often within half a second is a broken cable, and each change would cost a block.
MAX_HOLES = 8
# Bounds on what one message may make us hold: twelve leads with five facets each and a minute at 1000 Hz fit well.
MAX_LEADS, MAX_FACETS, MAX_SAMPLES = 64, 512, 65_536
MAX_STREAMS = 16  # ECG, pleth and a few rates; more is a monitor that does not know its own rate

Skip = Callable[[str], None]


class Lead(NamedTuple):
    """One row of samples. `counts`: int64, shape (n,); `present`: bool, shape (n,), False where no sample is."""

    kind: str  # "ecg" or "pleth"
    name: str
    counts: NDArray[np.int64]
    present: NDArray[np.bool_]
    rate: Fraction
    scale: float
    offset: float
    acquisition: Acquisition | None


class Group(NamedTuple):
    """What one OBR group said: leads with samples, and leads that said they have none, by (kind, name)."""

    leads: list[Lead]
    silent: list[tuple[str, str]]


# The facets of a group by kind, each with its containment path.
_Facets = dict[str, list[tuple[tuple[str, ...], Segment]]]


def facet_kind(triplets: Sequence[Coded]) -> str | None:
    """Which facet of a waveform an OBX-3 names."""
    for triplet in triplets:
        kind = _FACETS.get(triplet.text) or _FACETS.get(triplet.code)
        if kind is None and triplet.system == "MDC":
            kind = _FACET_BY_MDC.get(triplet.code)
        if kind:
            return kind
    return None


def read_group(message: Message, rows: Sequence[Segment], facets: Sequence[Segment], skip: Skip) -> Group:
    """The leads of one OBR group; rows that cannot be read are counted with `skip`, never guessed."""
    group = Group([], [])
    declared: _Facets = {}
    if len(facets) > MAX_FACETS:
        skip("waveform with too many facets")
    for facet in facets[:MAX_FACETS]:
        if kind := facet_kind(coded(message, facet.field(3))):
            declared.setdefault(kind, []).append((_path(facet.field(4)), facet))
    seen: set[tuple[str, str]] = set()
    for row in rows:
        name = _lead_name(message, row)
        if name is None:
            skip("unknown waveform")
        elif name in seen:
            skip("waveform lead sent twice")
        elif len(seen) >= MAX_LEADS:
            skip("waveform with too many leads")
        else:
            seen.add(name)
            _read_row(message, row, name, declared, group, skip)
    return group


def _lead_name(message: Message, row: Segment) -> tuple[str, str] | None:
    """("ecg", "II") and the like; None for a waveform we do not know."""
    for code, text, system in coded(message, row.field(3)):
        if system == "MDC":
            number = int(code) if code.isascii() and code.isdecimal() and len(code) < 10 else -1
            if number in LEAD_BY_MDC:
                return "ecg", LEAD_BY_MDC[number]
            if number == PLETH_MDC:
                return "pleth", _PLETH_LEAD
            # V3R, V7 and the like: no code we could verify, but the name says which lead it is.
            name = text.removeprefix(_LEAD_PREFIX)
            if text.startswith(_LEAD_PREFIX) and name and name not in LEAD_BY_MDC.values() and _is_lead_name(name):
                return "ecg", name
        elif _is_lead_name(text or code):
            return "ecg", text or code
    return None


def _is_lead_name(name: str) -> bool:
    return name.isprintable() and _LEAD_NAME.fullmatch(name) is not None


def _read_row(
    message: Message, row: Segment, name: tuple[str, str], declared: _Facets, group: Group, skip: Skip
) -> None:
    kind, lead = name
    path = _path(row.field(4))
    facets = {
        facet: _nearest(declared.get(facet, []), path) for facet in (_RATE, _RESOLUTION, _OFFSET, _BAND, _INVALID)
    }
    try:
        counts, present = _read_counts(message, row, facets[_INVALID])
        if not present.any():
            group.silent.append(name)
        if not len(counts):
            return
        rate = _read_rate(message, facets[_RATE])
        scale, offset = _read_scale(message, row, kind, facets[_RESOLUTION], facets[_OFFSET])
    except UnitError as error:
        skip(f"waveform {error}")
        return
    except ValueError as error:
        skip(str(error))
        return
    if np.count_nonzero(present[1:] != present[:-1]) > 2 * MAX_HOLES:
        skip("waveform lead in shreds")
        present = np.zeros_like(present)
    group.leads.append(Lead(kind, lead, counts, present, rate, scale, offset, _read_band(message, facets[_BAND], skip)))


def _read_counts(
    message: Message, row: Segment, invalid: Segment | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    counts = _read_integers(row.field(5), message.marks[0])
    present = (counts != MISSING_COUNTS[0]) & (counts != MISSING_COUNTS[1])
    if invalid is not None:
        value = read_number(invalid.field(5)) if invalid.field(5) else None
        if value is not None and value.denominator == 1:
            present &= counts != int(value)
    if ((counts[present] < _INT32.min) | (counts[present] > _INT32.max)).any():
        raise ValueError("waveform samples are too large")
    return counts, present


def _read_integers(text: str, mark: str) -> NDArray[np.int64]:
    """The integers between the marks, an empty one as missing. Raises ValueError.

    numpy reads them four times faster than int() does, but takes a lone minus for 0: hence the checks around it.
    """
    if not text:
        return np.empty(0, np.int64)
    if text.count(mark) >= MAX_SAMPLES:
        raise ValueError("waveform with too many samples")
    if text.encode(errors="replace").translate(None, _COUNT_LETTERS + mark.encode()):
        raise ValueError("waveform samples are not integers")
    if text[0] == mark or text[-1] == mark or mark * 2 in text:
        text = mark.join(number or str(MISSING_COUNTS[1]) for number in text.split(mark))
    if text[-1] == "-" or f"-{mark}" in text:
        raise ValueError("waveform samples are not integers")
    try:
        counts = np.fromstring(text, np.int64, sep=mark)
    except ValueError as error:
        raise ValueError("waveform samples are not integers") from error
    if len(counts) != text.count(mark) + 1:
        raise ValueError("waveform samples are not integers")
    return counts


def _read_rate(message: Message, facet: Segment | None) -> Fraction:
    if facet is None:
        raise ValueError("waveform without a sample rate")
    rate = convert(read_number(facet.field(5)), read_unit(coded(message, facet.field(6))), "Hz")
    if not 0 < rate <= MAX_SAMPLE_RATE_HZ:
        raise ValueError("waveform sample rate is impossible")
    return rate


def _read_scale(
    message: Message, row: Segment, kind: str, resolution: Segment | None, offset: Segment | None
) -> tuple[float, float]:
    """Scale and offset that lead from counts to the stream's canonical unit."""
    if resolution is None or not resolution.field(5):
        if kind == "pleth":
            return 1.0, 0.0  # arbitrary units: any scale is as good
        raise ValueError("waveform without a resolution")
    scales: list[float] = []
    for facet in (resolution, offset):
        if facet is None:
            scales.append(0.0)
            continue
        value = read_number(facet.field(5))
        if kind != "pleth":
            # The facet's own unit says what its number is; without one it is that of the samples.
            unit = read_unit(coded(message, facet.field(6) or row.field(6)))
            value = convert(value, unit, WAVEFORMS[kind].unit)
        scales.append(float(value))
    if scales[0] == 0.0:
        raise ValueError("waveform without a resolution")
    return scales[0], scales[1]


def _read_band(message: Message, facet: Segment | None, skip: Skip) -> Acquisition | None:
    if facet is None:
        return None
    try:
        low, high = (float(read_number(part)) for part in message.components(facet.field(5))[:2])
        if facet.field(6):
            unit = read_unit(coded(message, facet.field(6)))
            low, high = (float(convert(Fraction(edge), unit, "Hz")) for edge in (low, high))
    except ValueError:
        skip("waveform band unreadable")
        return None
    if not 0 <= low < high:
        skip("waveform band unreadable")
        return None
    return Acquisition(low_hz=low, high_hz=high)


def _path(containment: str) -> tuple[str, ...]:
    """OBX-4 as its levels; trailing zeros say "this whole level"."""
    levels = [level for level in containment.strip().split(".") if level]
    while levels and levels[-1] == "0":
        levels.pop()
    return tuple(levels)


def _nearest(facets: list[tuple[tuple[str, ...], Segment]], path: tuple[str, ...]) -> Segment | None:
    """The facet of this lead (its path extends the lead's), else of the nearest level above it."""
    best, best_depth = None, -1
    for facet_path, facet in facets:
        if facet_path[: len(path)] == path:
            depth = len(path) + 1
        elif path[: len(facet_path)] == facet_path:
            depth = len(facet_path)
        else:
            continue
        if depth > best_depth:
            best, best_depth = facet, depth
    return best


class _Position:
    """Where one stream stands: the next unused index and the device time expected there."""

    def __init__(self, next_index: int, next_us: int) -> None:
        self.next_index = next_index
        self.next_us = next_us


class StreamPlacer:
    """Names the streams of one connection and gives their samples absolute indices.

    The first block stands at round(device time * rate), so a restart goes on where time is. Then samples are counted
    while the device's start times agree within half a block; a larger jump forward is a hole, a jump back (the
    device's clock was set) goes on counting, so no index is ever used twice.
    """

    def __init__(self) -> None:
        self._positions: dict[str, _Position] = {}
        self._streams: dict[tuple[str, Fraction], str] = {}

    def place(self, group: Group, start_us: int, skip: Skip) -> list[SampleBlock]:
        """The blocks of one group; where leads are missing a block holds those that are present."""
        by_rate: dict[tuple[str, Fraction], list[Lead]] = {}
        for lead in group.leads:
            by_rate.setdefault((lead.kind, lead.rate), []).append(lead)
        blocks: list[SampleBlock] = []
        # The stream of most leads is the one with the plain name, and keeps it for the connection.
        for key, leads in sorted(by_rate.items(), key=lambda item: (-len(item[1]), -item[0][1])):
            if key not in self._streams and len(self._streams) >= MAX_STREAMS:
                skip("waveform with too many rates")
                continue
            blocks += self._place_leads(self._stream_name(key), leads, start_us, skip)
        return blocks

    def _stream_name(self, key: tuple[str, Fraction]) -> str:
        kind, rate = key
        if key not in self._streams:
            is_first = all(known != kind for known, _ in self._streams)
            self._streams[key] = kind if is_first else f"{kind}@{float(rate):g}"
        return self._streams[key]

    def _place_leads(self, stream: str, leads: list[Lead], start_us: int, skip: Skip) -> list[SampleBlock]:
        rate = leads[0].rate
        length = max(len(lead.counts) for lead in leads)
        first_index = self._index(stream, start_us, length, rate, skip)
        # Leads of one group start together, so a shorter one is missing its end.
        present = np.zeros((length, len(leads)), np.bool_)
        samples = np.zeros((length, len(leads)), np.int32)
        for column, lead in enumerate(leads):
            n = len(lead.counts)
            present[:n, column] = lead.present
            samples[:n, column] = np.where(lead.present, lead.counts, 0)
        changes = np.flatnonzero((present[1:] != present[:-1]).any(axis=1)) + 1
        edges = [0, *(int(change) for change in changes), length]
        blocks = []
        for begin, end in itertools.pairwise(edges):
            columns = np.flatnonzero(present[begin])
            if len(columns):
                held = [leads[column] for column in columns]
                blocks.append(
                    _block(
                        stream,
                        held,
                        samples[begin:end, columns],
                        first_index + begin,
                        start_us + _round(begin * MICROSECONDS / rate),
                    )
                )
        return blocks

    def _index(self, stream: str, start_us: int, length: int, rate: Fraction, skip: Skip) -> int:
        """Index of the first of `length` samples starting at device time `start_us`."""
        by_time = _round(start_us * rate / MICROSECONDS)
        position = self._positions.get(stream)
        if position is None:
            index = by_time
        else:
            index = position.next_index
            half_block = length / rate * MICROSECONDS / 2
            jump_us = start_us - position.next_us
            if jump_us < -half_block:
                skip("waveform clock went back")
            elif jump_us > half_block:
                skip("waveform gap")
                index = self._after_gap(index, by_time, jump_us, length, rate)
        self._positions[stream] = _Position(index + length, start_us + _round(length * MICROSECONDS / rate))
        return index

    @staticmethod
    def _after_gap(next_index: int, by_time: int, jump_us: int, length: int, rate: Fraction) -> int:
        """By time; where counting has run ahead of time by more than rounding does, the gap is kept by its length."""
        if by_time < next_index - length // 2:
            return next_index + _round(jump_us * rate / MICROSECONDS)
        return max(by_time, next_index)


def _block(stream: str, leads: list[Lead], samples: NDArray[np.int32], first_index: int, start_us: int) -> SampleBlock:
    bands = {lead.acquisition for lead in leads}
    return SampleBlock(
        stream=stream,
        leads=tuple(lead.name for lead in leads),
        samples=np.ascontiguousarray(samples),
        sample_rate_hz=float(leads[0].rate),
        scale=tuple(lead.scale for lead in leads),
        offset=tuple(lead.offset for lead in leads),
        first_index=first_index,
        start_us=start_us,
        # One declared band for all, or none declared: a lead's own band must not speak for another's.
        acquisition=bands.pop() if len(bands) == 1 else None,
    )


def _round(value: Fraction) -> int:
    """To the nearest integer, halves up, exactly."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)

"""Plays a WFDB record once at its native rate, gain and baseline, read in chunks, never whole.

Every signal in volts becomes a lead. Signals in other units (respiration, pleth, pressure) are left out with a warning:
this monitor has no wave code for them. A count that happens to equal the missing-sample sentinel reads as missing
(possible only in 24- and 32-bit records).
"""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_sim.waves import MISSING_SAMPLE, Counts, Stream
from wire.vocabulary import TWELVE_LEADS

_log = logging.getLogger(__name__)

# Ten seconds: long enough that opening the file costs nothing, short enough to hold 12 leads in a megabyte.
_CHUNK_S = 10

# Units in one mV; WFDB writes the unit after the gain. Both code points of µ are seen.
_UNITS_PER_MV = {"mv": 1.0, "uv": 1000.0, "µv": 1000.0, "μv": 1000.0, "v": 0.001}

# WFDB signal(5): the count that marks an invalid sample, by storage format; format 8 has none.
_INVALID_COUNT = {
    "80": -(2**7), "508": -(2**7), "310": -(2**9), "311": -(2**9), "212": -(2**11), "16": -(2**15), "61": -(2**15),
    "160": -(2**15), "516": -(2**15), "24": -(2**23), "524": -(2**23), "32": -(2**31),
}  # fmt: skip
# signal(5): bits one sample takes in the file; the others are compressed and have no fixed size.
_BITS = {"8": 8, "80": 8, "310": 32 / 3, "311": 32 / 3, "212": 12, "16": 16, "61": 16, "160": 16, "24": 24, "32": 32}

_CANONICAL_LEAD = {lead.lower(): lead for lead in TWELVE_LEADS}


class ReplayError(Exception):
    """This record cannot be played: the sentence names it and what is wrong."""


class _Signal(NamedTuple):
    channel: int
    lead: str
    invalid_count: int | None
    scale: float
    offset: float


class Recording:
    """A record opened for playing; a wave source whose stream ends with the record."""

    def __init__(self, path: Path, stream: Stream, signals: tuple[_Signal, ...], length: int, chunk: int) -> None:
        """Use `open_recording`."""
        self._path = path
        self._stream = stream
        self._signals = signals
        self._length = length
        self._chunk = chunk
        self._position = 0
        self._held: Counts = np.empty((0, len(signals)), np.int32)

    @property
    def streams(self) -> tuple[Stream, ...]:
        return (self._stream,)

    @property
    def length(self) -> int:
        """Samples of each signal in the record."""
        return self._length

    async def read(self, stream: Stream, count: int) -> Counts:
        """The next samples; fewer at the end. Raises ReplayError when the file fails half way."""
        del stream  # a recording has one
        while len(self._held) < count and self._position < self._length:
            to = min(self._position + self._chunk, self._length)
            chunk = await asyncio.to_thread(self.counts, self._position, to)
            self._held = np.concatenate((self._held, chunk))
            self._position = to
        block, self._held = self._held[:count], self._held[count:]
        return block

    def counts(self, first: int, to: int) -> Counts:
        """Samples first ≤ index < to as stored, int32, shape (to - first, leads), missing ones as the sentinel."""
        import wfdb

        channels = [signal.channel for signal in self._signals]
        try:
            record = wfdb.rdrecord(str(self._path), sampfrom=first, sampto=to, channels=channels, physical=False)
        except (OSError, ValueError, IndexError, KeyError, TypeError, RuntimeError) as error:
            raise ReplayError(f"{self._path}: samples {first} to {to} cannot be read: {_one_line(error)}") from error
        stored: NDArray[np.int64] = record.d_signal
        if stored is None or stored.shape != (to - first, len(channels)):
            raise ReplayError(f"{self._path}: samples {first} to {to} are not all in the file")
        counts = stored.astype(np.int32)
        for column, signal in enumerate(self._signals):
            if signal.invalid_count is not None:
                counts[stored[:, column] == signal.invalid_count, column] = MISSING_SAMPLE
        return counts


def open_recording(path: Path) -> Recording:
    """Opens a WFDB record by its path without extension and checks that it can be played to its end.

    Raises ReplayError.
    """
    path = path.with_suffix("") if path.suffix == ".hea" else path
    header = _header(path)
    formats, length = _check(path, header)
    signals = _signals(path, header, formats)
    stream = Stream(
        "ecg",
        tuple(signal.lead for signal in signals),
        float(header.fs),
        tuple(signal.scale for signal in signals),
        tuple(signal.offset for signal in signals),
    )
    # Format 8 stores differences: it can only be read from its start.
    chunk = length if "8" in formats else max(1, math.ceil(_CHUNK_S * header.fs))
    recording = Recording(path, stream, signals, length, chunk)
    recording.counts(max(0, length - chunk), length)  # the end of the file is where damage shows
    return recording


def canonical_lead(name: str) -> str:
    """The standard spelling of one of the twelve leads; any other name as it is."""
    return _CANONICAL_LEAD.get(name.strip().lower(), name.strip())


def _header(path: Path) -> Any:
    """The wfdb header object (Any: wfdb ships no types). Raises ReplayError."""
    import wfdb  # here, because it brings pandas along: two seconds of start that a scene without a record saves

    if not Path(f"{path}.hea").is_file():
        raise ReplayError(f"{path}: no such record, {path.name}.hea is missing")
    try:
        header = wfdb.rdheader(str(path))
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ReplayError(f"{path}: the header {path.name}.hea cannot be read: {_one_line(error)}") from error
    if isinstance(header, wfdb.MultiRecord):
        raise ReplayError(f"{path}: the record has several segments, which is unsupported: play one segment")
    if not header.n_sig or not getattr(header, "file_name", None):
        raise ReplayError(f"{path}: the record has no signals")
    if header.n_sig != len(header.file_name):
        raise ReplayError(f"{path}: the header announces {header.n_sig} signals but describes {len(header.file_name)}")
    if not header.fs or header.fs <= 0:
        raise ReplayError(f"{path}: the sampling rate {header.fs} Hz is not positive")
    return header


def _check(path: Path, header: Any) -> tuple[list[str], int]:
    """Formats and length of a record whose files are all there and long enough. Raises ReplayError."""
    formats = [str(kind) for kind in header.fmt]
    if unknown := sorted(set(formats) - set(_BITS) - set(_INVALID_COUNT)):
        raise ReplayError(f"{path}: storage format {', '.join(unknown)} is unsupported")
    if any((frames or 1) != 1 for frames in header.samps_per_frame):
        raise ReplayError(f"{path}: its signals are sampled at several frequencies, which is unsupported")
    length = header.sig_len
    for file_name in dict.fromkeys(header.file_name):
        if not (path.parent / file_name).is_file():
            raise ReplayError(f"{path}: the signal file {file_name} is missing")
        columns = [column for column, name in enumerate(header.file_name) if name == file_name]
        bits = _BITS.get(formats[columns[0]])
        if bits is None:
            continue  # compressed: reading the last chunk will tell
        present = (path.parent / file_name).stat().st_size - (header.byte_offset[columns[0]] or 0)
        held = int(present * 8 / bits / len(columns) + 1e-6)
        if length is None:
            length = held
        if held < length:
            raise ReplayError(f"{path}: {file_name} is too short, it holds {held} of {length} samples a signal")
    if not length or length < 0:
        raise ReplayError(f"{path}: the record has no samples")
    return formats, int(length)


def _signals(path: Path, header: Any, formats: list[str]) -> tuple[_Signal, ...]:
    chosen: list[_Signal] = []
    others: list[str] = []
    taken: set[str] = set()
    for channel in range(header.n_sig):
        name = canonical_lead((header.sig_name or [])[channel] or f"signal{channel + 1}")
        unit = (header.units[channel] or "mV").strip()
        if unit.lower() not in _UNITS_PER_MV:
            others.append(f"{name} [{unit}]")
            continue
        lead, number = name, 2
        while lead in taken:  # nstdb names both of its signals alike
            lead, number = f"{name}_{number}", number + 1
        taken.add(lead)
        gain = header.adc_gain[channel] or 200.0  # header(5): 200 per mV when not calibrated
        baseline = header.baseline[channel] or 0
        per_mv = _UNITS_PER_MV[unit.lower()]
        offset = -baseline / gain / per_mv if baseline else 0.0
        chosen.append(_Signal(channel, lead, _INVALID_COUNT.get(formats[channel]), 1 / gain / per_mv, offset))
    if not chosen:
        raise ReplayError(f"{path}: no signal is in mV, uV or V; it has {', '.join(others)}")
    if others:
        _log.warning("%s: signals not in volts are left out of the replay: %s", path, ", ".join(others))
    return tuple(chosen)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

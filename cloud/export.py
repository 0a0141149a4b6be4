"""Stored signals, out: WFDB records whose samples are, bit for bit, those the device sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import wfdb
from numpy.typing import NDArray

from cloud.store.reader import StoredBlock, StoredSession, StoreReader
from wire import waveform
from wire.clock import MICROSECONDS
from wire.readings import Origin, SampleBlock
from wire.vocabulary import WAVEFORMS

# WFDB signal(5): the lowest number of a format means that no sample is there.
_FORMATS = (("16", -(1 << 15)), ("32", -(1 << 31)))
# A hole is filled sample by sample; after a longer one a new record begins, or an hour of nothing would fill the disk.
_LONGEST_HOLE_S = 3600
# The index of a stream begins again when a box starts again; it goes on only if the clock says the same.
_INDEX_SLACK_US = MICROSECONDS
_UNIT = re.compile(r"[\w^\-?%/]+")  # what a WFDB header can hold


class _Layout(NamedTuple):
    leads: tuple[str, ...]
    sample_rate_hz: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]


class _Segment:
    """Blocks that become one record."""

    def __init__(self, first: SampleBlock, epoch_id: int) -> None:
        self.layout = _layout(first)
        self.first, self.epoch_id = first, epoch_id
        self.blocks: list[SampleBlock] = []
        self.end_index = first.first_index

    def takes(self, block: SampleBlock, epoch_id: int) -> bool:
        if _layout(block) != self.layout or block.first_index < self.end_index:
            return False
        rate_hz = self.layout.sample_rate_hz
        if block.first_index - self.end_index > _LONGEST_HOLE_S * rate_hz:
            return False
        if epoch_id == self.epoch_id:
            return True
        expected_us = self.first.start_us + (block.first_index - self.first.first_index) * MICROSECONDS / rate_hz
        return abs(block.start_us - expected_us) <= _INDEX_SLACK_US

    def add(self, block: SampleBlock, epoch_id: int) -> None:
        self.blocks.append(block)
        self.epoch_id = epoch_id
        self.end_index = block.first_index + block.samples.shape[0]


def export_wfdb(store: StoreReader, session_id: str, folder: Path) -> list[Path]:
    """Writes one record per stream and per change of its leads, rate or scale; returns the header files.

    Raises UnknownSession, naming sessions there are, and DecodeError for a damaged block.
    """
    session = store.session(session_id)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for stream in store.streams(session_id):
        origin = Origin(max(session.origin, store.stream_origin(session_id, stream)))
        for number, segment in enumerate(_segments(store.blocks(session_id, stream)), 1):
            name = "_".join(re.sub(r"[^\w-]", "-", part) for part in (session_id, stream, str(number)))
            _write(segment, session, origin, name, folder)
            written.append(folder / f"{name}.hea")
    return written


def _segments(blocks: Iterator[StoredBlock]) -> Iterator[_Segment]:
    segment: _Segment | None = None
    for stored in blocks:
        decoded = waveform.decode(stored.data, stream=stored.stream, acquisition=stored.acquisition)
        block = decoded._replace(start_us=stored.start_us)  # a box without a clock wrote another into its block
        if not block.samples.shape[0]:
            continue
        if segment is None or not segment.takes(block, stored.epoch_id):
            if segment is not None:
                yield segment
            segment = _Segment(block, stored.epoch_id)
        segment.add(block, stored.epoch_id)
    if segment is not None:
        yield segment


def _write(segment: _Segment, session: StoredSession, origin: Origin, name: str, folder: Path) -> None:
    layout, first = segment.layout, segment.first
    samples, sample_format, missing = _joined(segment)
    leads = len(layout.leads)
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first.start_us)
    comments = [
        f"session {session.session_id}",
        f"origin {origin.name}" + ("" if origin is Origin.REAL else ": not a patient"),
        f"stream {first.stream}",
        f"start_us {first.start_us} (UTC)",
        f"missing samples {missing}, written as the format's invalid sample",
    ]
    if first.acquisition is not None:
        comments.append(f"acquisition {first.acquisition.low_hz:g}-{first.acquisition.high_hz:g} Hz")
    wfdb.wrsamp(
        record_name=name,
        fs=layout.sample_rate_hz,
        units=[_unit(first.stream)] * leads,
        sig_name=list(layout.leads),
        d_signal=samples,
        fmt=[sample_format] * leads,
        adc_gain=[adc_gain(scale) for scale in layout.scale],
        baseline=[round(-offset / scale) for offset, scale in zip(layout.offset, layout.scale, strict=True)],
        comments=comments,
        base_time=start.time(),
        base_date=start.date(),
        write_dir=str(folder),
    )


def _joined(segment: _Segment) -> tuple[NDArray[np.int32], str, int]:
    """Samples int32, shape (n, leads), counts, with holes filled; the format they fit; how many instants are holes."""
    lowest = min(int(block.samples.min()) for block in segment.blocks)
    highest = max(int(block.samples.max()) for block in segment.blocks)
    fits = _FORMATS[0][1] < lowest and highest < -_FORMATS[0][1]
    sample_format, invalid = _FORMATS[0 if fits else 1]
    start = segment.first.first_index
    samples = np.full((segment.end_index - start, len(segment.layout.leads)), invalid, dtype=np.int32)
    present = 0
    for block in segment.blocks:
        at, count = block.first_index - start, block.samples.shape[0]
        samples[at : at + count] = block.samples
        present += count
    return samples, sample_format, samples.shape[0] - present


def _layout(block: SampleBlock) -> _Layout:
    return _Layout(block.leads, block.sample_rate_hz, block.scale, block.offset)


def adc_gain(scale: float) -> float:
    """Counts per unit. 15 digits undo the rounding of 1/(1/gain), so a gain of 1716 comes back as 1716."""
    return float(f"{1 / scale:.15g}")


def _unit(stream: str) -> str:
    """The unit as a WFDB header can say it; NU (no units) for others."""
    facts = WAVEFORMS.get(stream) or WAVEFORMS.get(re.split(r"[^a-z0-9]", stream)[0])
    return facts.unit if facts is not None and _UNIT.fullmatch(facts.unit) else "NU"

"""The independent truth of what a twin sent: written before a message leaves, read by the judge of the demo.

`truth.jsonl`: one object a line, `kind` first. `numeric` and `samples` are new readings only: a resent message writes
nothing, and an episodic numeric (a cuff pressure) that a monitor repeats with the same reported time is written once;
how often that happened is `repeats` in the `end` line. `<stream>.i32`: every sample sent, int32 little-endian, shape
(n, leads), in order, missing ones as 197378 like on the wire. Every line reaches the operating system at once, so a
killed process loses nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from firmware_sim.waves import Counts, Stream

_LINES = "truth.jsonl"


class NumericTruth(msgspec.Struct, frozen=True, tag_field="kind", tag="numeric"):
    """A value in its metric's canonical unit; `reported_time` as written in the message, None without a clock."""

    metric: str
    value: float
    reported_time: str | None
    time_us: int
    message_id: str


class SamplesTruth(msgspec.Struct, frozen=True, tag_field="kind", tag="samples"):
    """A block: samples first_index ≤ index < first_index + n of the stream; scale and offset per lead."""

    stream: str
    leads: tuple[str, ...]
    first_index: int
    n: int
    sample_rate_hz: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    start_us: int
    message_id: str


class EventTruth(msgspec.Struct, frozen=True, tag_field="kind", tag="event"):
    """Something that happened to the patient or the sensors: leads_off, leads_on."""

    event: str
    time_us: int
    leads: tuple[str, ...]


class Answered(msgspec.Struct, frozen=True, tag_field="kind", tag="answered"):
    """The receiver accepted a message: from here on it is the receiver's to lose."""

    message_id: str


class Refused(msgspec.Struct, frozen=True, tag_field="kind", tag="refused"):
    """The receiver refused a message for good."""

    message_id: str


class Discarded(msgspec.Struct, frozen=True, tag_field="kind", tag="discarded"):
    """The twin's own memory was full: the message will not be sent again."""

    message_id: str


class End(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """The last line: per-lead samples over all streams, numerics, and what became of the messages."""

    samples: int
    numerics: int
    unanswered: int
    messages: int = 0
    answered: int = 0
    refused: int = 0
    discarded: int = 0
    resent: int = 0
    repeats: int = 0
    connects: int = 0


Line = NumericTruth | SamplesTruth | EventTruth | Answered | Refused | Discarded | End


class TruthWriter:
    """Appends to one folder; `with` it. Writes are small and to the page cache, so they stay on the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: BinaryIO | None = None
        self._samples: dict[str, BinaryIO] = {}
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> TruthWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lines = (self._folder / _LINES).open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._lines, *self._samples.values()):
            if file is not None:
                file.close()

    def write(self, line: Line) -> None:
        """One line, out of this process when it returns."""
        assert self._lines is not None, "used outside `with`"
        self._lines.write(self._encoder.encode(line) + b"\n")
        self._lines.flush()

    def write_samples(self, stream: Stream, samples: Counts, *, first_index: int, start_us: int, message: str) -> None:
        """One block: the samples first, so that a line never promises bytes that are not there."""
        file = self._samples.get(stream.name)
        if file is None:
            file = self._samples[stream.name] = (self._folder / f"{stream.name}.i32").open("wb")
        file.write(samples.astype("<i4").tobytes())
        file.flush()
        self.write(
            SamplesTruth(
                stream=stream.name,
                leads=stream.leads,
                first_index=first_index,
                n=len(samples),
                sample_rate_hz=stream.sample_rate_hz,
                scale=stream.scale,
                offset=stream.offset,
                start_us=start_us,
                message_id=message,
            )
        )


class StreamTruth(NamedTuple):
    """All that was sent of one stream: `samples` int32, shape (n, leads), the first one at `first_index`."""

    leads: tuple[str, ...]
    sample_rate_hz: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    first_index: int
    start_us: int
    samples: NDArray[np.int32]
    blocks: tuple[SamplesTruth, ...]


class Truth(NamedTuple):
    """A truth folder, read. `end` is None when the twin was killed before its end."""

    streams: dict[str, StreamTruth]
    numerics: tuple[NumericTruth, ...]
    events: tuple[EventTruth, ...]
    answered: frozenset[str]
    refused: frozenset[str]
    discarded: frozenset[str]
    end: End | None

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """Reads the folder of one twin, also while it is still being written."""
        lines = _read_lines(folder / _LINES)
        blocks: dict[str, list[SamplesTruth]] = {}
        for line in lines:
            if isinstance(line, SamplesTruth):
                blocks.setdefault(line.stream, []).append(line)
        return cls(
            streams={name: _stream(folder, name, found) for name, found in blocks.items()},
            numerics=tuple(line for line in lines if isinstance(line, NumericTruth)),
            events=tuple(line for line in lines if isinstance(line, EventTruth)),
            answered=frozenset(line.message_id for line in lines if isinstance(line, Answered)),
            refused=frozenset(line.message_id for line in lines if isinstance(line, Refused)),
            discarded=frozenset(line.message_id for line in lines if isinstance(line, Discarded)),
            end=next((line for line in lines if isinstance(line, End)), None),
        )

    @classmethod
    def read_scene(cls, folder: Path) -> dict[str, Truth]:
        """Every twin's truth below a scene's folder, by the name of its folder there."""
        return {path.parent.name: cls.read(path.parent) for path in sorted(folder.glob(f"*/{_LINES}"))}


def _read_lines(path: Path) -> list[Line]:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Line)  # Any: a union alias is no type to mypy
    # A line without its newline is still being written.
    return [decoder.decode(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _stream(folder: Path, name: str, blocks: list[SamplesTruth]) -> StreamTruth:
    first = blocks[0]
    count = sum(block.n for block in blocks)
    flat = np.fromfile(folder / f"{name}.i32", "<i4", count * len(first.leads)).astype(np.int32, copy=False)
    return StreamTruth(
        leads=first.leads,
        sample_rate_hz=first.sample_rate_hz,
        scale=first.scale,
        offset=first.offset,
        first_index=first.first_index,
        start_us=first.start_us,
        samples=flat.reshape(count, len(first.leads)),
        blocks=tuple(blocks),
    )

"""Records of a batch as rows: each body to the table of its kind, and what this version cannot read kept raw."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import msgspec

from cloud.store.placing import Placing
from cloud.store.rows import LANE_NUMBER, Rows
from wire.messages import Batch, DecodeError, Record, decode_body, decode_record
from wire.readings import Body, Finding, Gap, Numeric, WaveformBlock
from wire.waveform import peek

DIGEST_BYTES = 4
_LIMIT = 1 << 63  # what a column of either engine holds

SourceKey = tuple[str, str, str, int, bytes, str, str]


def digest(record: msgspec.Raw) -> bytes:
    """4 bytes that tell two records under one number apart; a slip is a 1 in 4·10⁹ matter, not an attack."""
    return zlib.crc32(memoryview(record)).to_bytes(DIGEST_BYTES, "big")


class RecordReader:
    """Turns records into rows, for one group of batches."""

    def __init__(self, rows: Rows, now_us: int, sources: dict[SourceKey, int]) -> None:
        self._rows, self._now_us, self._sources = rows, now_us, sources
        self._gateway, self._epoch_id, self._lane = "", 0, 0
        self.sessions: set[str] = set()
        self.placing = Placing(rows, now_us)

    def begin(self, gateway: str, batch: Batch, epoch_id: int) -> None:
        """Names the batch the next records belong to and keeps its anchors."""
        self._gateway, self._epoch_id, self._lane = gateway, epoch_id, LANE_NUMBER[batch.lane]
        for anchor in batch.anchors:
            self.placing.note(anchor)

    def read(self, records: Sequence[msgspec.Raw], first_seq: int) -> bytes:
        """Adds rows for records numbered from `first_seq`; returns their digests."""
        digests = bytearray()
        for seq, raw in enumerate(records, first_seq):
            digests += digest(raw)
            try:
                record = decode_record(memoryview(raw))
                body = decode_body(memoryview(record.body))
                _check_integers(record, body)
                self._add(record, body, seq)
                self.sessions.add(record.session_id)
            except DecodeError as error:
                row = (self._epoch_id, self._lane, seq, self._now_us, str(error)[:500], bytes(raw))
                self._rows.unread.append(row)
        return bytes(digests)

    def _add(self, record: Record, body: Body, seq: int) -> None:
        if isinstance(body, WaveformBlock):
            self._add_waveform(record, body, seq)
        elif isinstance(body, Numeric):
            self._add_numeric(record, body, seq)
        else:
            self._add_entry(record, body, seq)

    def _add_numeric(self, record: Record, body: Numeric, seq: int) -> None:
        series_id = self._source("series", record, "metric", body.metric.value)
        time_us, is_placed = self.placing.place(body.time_us, record.boot_id, record.mono_us)
        self._rows.numeric.append(
            (
                series_id,
                time_us,
                record.mono_us,
                int(is_placed),
                body.quality.value,
                body.quality_reason,
                self._epoch_id,
                self._lane,
                seq,
                None if math.isnan(body.value) else body.value,
                body.reported_time,
            )
        )

    def _add_waveform(self, record: Record, body: WaveformBlock, seq: int) -> None:
        header = peek(body.data)
        stream_id = self._source("stream", record, "stream", body.stream)
        start_us, is_placed = self.placing.place(header.start_us, record.boot_id, record.mono_us)
        self._rows.waveform.append(
            (
                stream_id,
                header.first_index,
                header.sample_count,
                start_us,
                self._epoch_id,
                self._lane,
                seq,
                record.mono_us,
                int(is_placed),
                body.quality.value,
                body.quality_reason,
                None if body.acquisition is None else msgspec.msgpack.encode(body.acquisition),
                body.data,
            )
        )

    def _add_entry(self, record: Record, body: Body, seq: int) -> None:
        time_us, is_placed = self.placing.place(_time_of(body), record.boot_id, record.mono_us)
        self._rows.entry.append(
            (
                str(body.__struct_config__.tag),
                self._gateway,
                record.device_id,
                record.session_id,
                record.origin.value,
                record.boot_id,
                time_us,
                int(is_placed),
                self._now_us,
                self._epoch_id,
                self._lane,
                seq,
                record.mono_us,
                bytes(record.body),
            )
        )

    def _source(self, table: str, record: Record, column: str, name: str) -> int:
        """The number of a series or stream, made on first sight."""
        origin = record.origin.value
        key = (self._gateway, record.device_id, record.session_id, origin, record.boot_id, table, name)
        if (found := self._sources.get(key)) is not None:
            return found
        values = (*key[:5], name)
        # Table and column are our own names, from the two callers above.
        columns = f"gateway, device_id, session_id, origin, boot_id, {column}"
        where = f"(gateway, device_id, session_id, origin, boot_id, {column}) = (?,?,?,?,?,?)"
        writer = self._rows.writer
        once = f"INSERT INTO {table} ({columns}) VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING"  # noqa: S608
        writer.execute(once, values)
        ((number,),) = writer.rows(f"SELECT {table}_id FROM {table} WHERE {where}", values)  # noqa: S608
        # A session not yet on its board takes this from the sources when it gets there (boards.py).
        raised = "UPDATE session SET origin = ? WHERE session_id = ? AND gateway = ? AND origin < ?"
        writer.execute(raised, (origin, record.session_id, self._gateway, origin))
        self._sources[key] = int(number)
        return self._sources[key]


def _check_integers(record: Record, body: Body) -> None:
    """A number no column holds would take the whole batch along, or stop who reads the log. Raises DecodeError."""
    # A waveform's header has narrower limits, and of a numeric only the time is whole.
    said = () if isinstance(body, WaveformBlock) else (body.time_us,) if isinstance(body, Numeric) else _integers(body)
    for value in (record.mono_us, *said):
        if not -_LIMIT <= value < _LIMIT:
            raise DecodeError(f"number {value} beyond 2^63")


def _integers(value: object) -> Iterator[int]:
    """Every whole number in a body, however deep."""
    match value:
        case int():
            yield value
        case msgspec.Struct():
            yield from _integers(msgspec.structs.astuple(value))
        case dict():
            yield from _integers(tuple(value.values()))
        case list() | tuple():
            for inner in value:
                yield from _integers(inner)


def _time_of(body: Body) -> int:
    match body:
        case Finding():
            return body.onset_us
        case Gap():
            return body.from_us
        case WaveformBlock():
            raise TypeError("a waveform's time is in its header")
        case _:
            return body.time_us

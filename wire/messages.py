"""Records, batches and receipts: what crosses the bus, and the frame that carries it (docs/wire.md)."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TypeVar

import msgspec
import zstandard

from wire.clock import ClockAnchor
from wire.readings import Alert, Assessment, Body, CommandOutcome, Finding, Gap, Origin, SessionEvent, WaveformBlock

# The broker closes a connection over 1 MiB; a quarter of it leaves room for any envelope (DESIGN.md §2).
MAX_FRAME_BYTES = 256 * 1024
# A compressed frame may not unfold to more than this: a batch is cut by its raw size, so an honest one never does.
MAX_UNFOLDED_BYTES = 1024 * 1024

_FRAME_VERSION = 1
_PLAIN, _ZSTD = 0, 1


class DecodeError(ValueError):
    """Bytes from outside that cannot be read: skip and count. `raw` is kept for the dead letter."""

    def __init__(self, what: str, raw: bytes = b"") -> None:
        super().__init__(f"{what}: {raw[:64].hex()}" if raw else what)
        self.raw = raw


class Lane(StrEnum):
    """Lanes are promises, not data types: what is never dropped, what may age, what gives way first."""

    URGENT = "urgent"
    ROUTINE = "routine"
    BULK = "bulk"


def lane_of(body: Body) -> Lane:
    """The promise a reading travels under."""
    match body:
        case Alert() | Finding() | Assessment() | SessionEvent() | Gap() | CommandOutcome():
            return Lane.URGENT
        case WaveformBlock():
            return Lane.BULK
        case _:
            return Lane.ROUTINE


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One reading with where it comes from; encoded once in its life, `body` is the encoded `Body`."""

    device_id: str
    session_id: str
    origin: Origin
    boot_id: bytes
    mono_us: int
    body: msgspec.Raw


class Batch(msgspec.Struct, frozen=True, tag="batch", array_like=True):
    """A run of records of one epoch and lane: record i has sequence number first_seq + i."""

    epoch: bytes
    lane: Lane
    first_seq: int
    anchors: tuple[ClockAnchor, ...]
    records: list[msgspec.Raw]

    @property
    def last_seq(self) -> int:
        """Sequence number of the last record."""
        return self.first_seq + len(self.records) - 1


class Receipt(msgspec.Struct, frozen=True, tag="receipt", array_like=True):
    """The store's word that this run is committed; `cloud_us` gives the time to boxes that have none."""

    store_id: bytes
    epoch: bytes
    lane: Lane
    first_seq: int
    last_seq: int
    cloud_us: int


class Presence(msgspec.Struct, frozen=True, tag="presence", array_like=True):
    """Whether a gateway is connected: retained on its status topic, offline set by its last will."""

    online: bool
    version: str
    time_us: int


EPOCH_BYTES = 16

_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_body_decoder: msgspec.msgpack.Decoder[Body] = msgspec.msgpack.Decoder(Body)
# Beside its own errors msgspec lets these out, for text that is not UTF-8 and for arrays nested without end.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ZSTD_LEVEL = 3

Message = TypeVar("Message", bound=msgspec.Struct)


class _Zstd(threading.local):
    """A context is costly to make and serves one thread at a time."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def encode_record(
    body: Body, *, device_id: str, session_id: str, origin: Origin, boot_id: bytes, mono_us: int
) -> bytes:
    """A record as it will lie on disk, travel and be stored."""
    raw = msgspec.Raw(_encoder.encode(body))
    return _encoder.encode(Record(device_id, session_id, origin, boot_id, mono_us, raw))


def decode_record(raw: bytes | memoryview) -> Record:
    """Reads the envelope of one record, leaving its body raw. Raises DecodeError."""
    try:
        return _record_decoder.decode(raw)
    except UNREADABLE as error:
        raise DecodeError(f"record: {error}", bytes(raw)) from error


def decode_body(raw: bytes | memoryview) -> Body:
    """Reads the body of a record. Raises DecodeError for a kind or value this version does not know."""
    try:
        return _body_decoder.decode(raw)
    except UNREADABLE as error:
        raise DecodeError(f"body: {error}", bytes(raw)) from error


def encode_frame(message: msgspec.Struct, *, compress: bool = False) -> bytes:
    """One message as bytes: version, packing, MessagePack."""
    payload = _encoder.encode(message)
    if compress:
        packed = _zstd.compressor.compress(payload)
        if len(packed) < len(payload):
            return bytes((_FRAME_VERSION, _ZSTD)) + packed
    return bytes((_FRAME_VERSION, _PLAIN)) + payload


def decode_frame(frame: bytes, kind: type[Message]) -> Message:
    """Reads one message of the expected kind. Raises DecodeError, also for a frame or content that is too large."""
    if len(frame) > MAX_FRAME_BYTES:
        raise DecodeError(f"frame of {len(frame)} bytes, at most {MAX_FRAME_BYTES} allowed", frame[:64])
    if len(frame) < 2 or frame[0] != _FRAME_VERSION:
        raise DecodeError("frame: unknown version", frame)
    payload = _unfold(frame) if frame[1] == _ZSTD else frame[2:]
    if frame[1] not in (_PLAIN, _ZSTD):
        raise DecodeError("frame: unknown packing", frame)
    try:
        message = msgspec.msgpack.decode(payload, type=kind)
    except UNREADABLE as error:
        raise DecodeError(f"{kind.__name__}: {error}", frame) from error
    if isinstance(message, Batch | Receipt) and len(message.epoch) != EPOCH_BYTES:
        raise DecodeError(f"epoch of {len(message.epoch)} bytes, {EPOCH_BYTES} expected", frame)
    return message


def _unfold(frame: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(frame[2:])
        if not 0 <= size <= MAX_UNFOLDED_BYTES:
            raise DecodeError(f"compressed frame unfolds to {size} bytes, at most {MAX_UNFOLDED_BYTES} allowed", frame)
        return _zstd.decompressor.decompress(frame[2:], max_output_size=MAX_UNFOLDED_BYTES)
    except zstandard.ZstdError as error:
        raise DecodeError(f"compressed frame: {error}", frame) from error

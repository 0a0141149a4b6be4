from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.clock import ClockAnchor
from wire.commands import ApplyConfiguration, Command, Order, Replay, decode_order, encode_order, signed_bytes
from wire.messages import (
    MAX_FRAME_BYTES,
    MAX_UNFOLDED_BYTES,
    Batch,
    DecodeError,
    Lane,
    Presence,
    Receipt,
    Record,
    decode_body,
    decode_frame,
    decode_record,
    encode_frame,
    encode_record,
)
from wire.readings import Acquisition, Body, Evidence, Numeric, Origin
from wire.vocabulary import Metric

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests/vectors/messages.json").read_text(encoding="utf-8"))
WIRE_DOCUMENT = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
MESSAGES = {kind.__name__: kind for kind in (Batch, Receipt, Presence, Command)}
EPOCH = bytes(16)


def vectors(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["kind"] == kind]


def as_json(value: object) -> object:
    """Decoded MessagePack as the vectors write it: byte strings are {"bytes": hex}."""
    match value:
        case bytes():
            return {"bytes": value.hex()}
        case list():
            return [as_json(one) for one in value]
        case dict():
            return {key: as_json(one) for key, one in value.items()}
        case _:
            return value


def batch_of(records: list[bytes]) -> Batch:
    return Batch(EPOCH, Lane.BULK, 5, (), [msgspec.Raw(record) for record in records])


@pytest.mark.parametrize("vector", vectors("body"))
def test_body_vector_reads_and_writes(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["hex"])
    assert as_json(msgspec.msgpack.decode(raw)) == vector["content"]
    assert msgspec.msgpack.encode(decode_body(raw)).hex() == vector["hex"]


def test_every_kind_of_body_has_a_vector() -> None:
    tags = {vector["content"][0] for vector in VECTORS if vector["kind"] == "body"}
    assert tags == {kind.__struct_config__.tag for kind in get_args(Body)}


@pytest.mark.parametrize("vector", vectors("record"))
def test_record_vector_reads_and_leaves_its_body_raw(vector: dict[str, Any]) -> None:
    record = decode_record(bytes.fromhex(vector["hex"]))
    device, session, origin, boot, mono_us, body = vector["content"][:6]
    assert (record.device_id, record.session_id, record.origin, record.mono_us) == (device, session, origin, mono_us)
    assert {"bytes": record.boot_id.hex()} == boot
    assert as_json(msgspec.msgpack.decode(record.body)) == body


@pytest.mark.parametrize("vector", vectors("frame"))
def test_frame_vector_reads_and_writes(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["hex"])
    message = decode_frame(frame, MESSAGES[vector["message"]])
    content = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    assert as_json(content) == vector["content"]
    if frame[1] == 0:  # zstd may find other bytes
        assert encode_frame(message) == frame


def test_every_kind_of_order_has_a_vector_that_reads_and_writes() -> None:
    commands = [vector for vector in VECTORS if vector.get("message") == "Command"]
    known = []
    for vector in commands:
        raw = decode_frame(bytes.fromhex(vector["hex"]), Command).order
        if vector["name"] == "command of an unknown kind":
            with pytest.raises(DecodeError, match="make_tea"):
                decode_order(memoryview(raw))
            continue
        order = decode_order(memoryview(raw))
        assert encode_order(order) == bytes(raw)
        known.append(type(order))
    assert set(known) == set(get_args(Order))


def test_signed_command_is_signed_over_the_bytes_the_document_says() -> None:
    (vector,) = (vector for vector in VECTORS if vector["name"] == "command, signed")
    command = decode_frame(bytes.fromhex(vector["hex"]), Command)
    signed = bytes.fromhex(vector["signed"])
    assert signed_bytes(vector["gateway"], command) == signed
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["public_key"])).verify(command.signature, signed)


def test_command_of_a_release_that_did_not_sign_is_one_without_a_signature() -> None:
    raw = msgspec.msgpack.encode(["command", bytes(16), ["replay", None], 1, 2])
    assert decode_frame(b"\x01\x00" + raw, Command).signature == b""


@pytest.mark.parametrize(
    "order",
    [
        ["replay", "everything"],
        ["apply_configuration", "x" * 32_769, "1", 60],
        ["apply_configuration", "", "1", 0],
        ["apply_configuration", "", "1", 3601],
        ["apply_configuration", "", "1", float("nan")],
    ],
)
def test_order_out_of_bounds_is_refused(order: list[object]) -> None:
    with pytest.raises(DecodeError):
        decode_order(msgspec.msgpack.encode(order))


def test_command_whose_id_is_not_16_bytes_is_refused() -> None:
    short = Command(b"short", msgspec.Raw(encode_order(Replay())), 1, 2)
    with pytest.raises(DecodeError, match="length"):
        decode_frame(encode_frame(short), Command)


def test_body_of_an_unknown_kind_is_an_error_of_its_own() -> None:
    unknown = next(vector for vector in VECTORS if vector["name"] == "unknown body")
    record = decode_record(bytes.fromhex(unknown["hex"]))
    with pytest.raises(DecodeError, match="from_the_future"):
        decode_body(record.body)


def test_appended_fields_are_passed_over_and_missing_ones_take_their_default() -> None:
    longer = msgspec.msgpack.encode(["numeric", "spo2", 97.0, 1, None, 1, "why", "later", [1]])
    shorter = msgspec.msgpack.encode(["numeric", "spo2", 97.0, 1])
    assert decode_body(longer) == Numeric(Metric.SPO2, 97.0, 1, None, 1, "why")
    assert decode_body(shorter) == Numeric(Metric.SPO2, 97.0, 1)


@pytest.mark.parametrize("compress", [False, True])
def test_records_return_from_a_batch_byte_for_byte(compress: bool) -> None:
    envelope: dict[str, Any] = {"device_id": "d", "session_id": "", "origin": Origin.TEST, "boot_id": b""}
    records = [encode_record(Numeric(Metric.SPO2, 97.0, k), mono_us=k, **envelope) for k in range(50)]
    batch = decode_frame(encode_frame(batch_of(records), compress=compress), Batch)
    assert [bytes(record) for record in batch.records] == records
    assert batch.last_seq == 54


def test_frame_is_not_compressed_when_that_would_not_help() -> None:
    receipt = Receipt(bytes(range(16)), EPOCH, Lane.URGENT, 1, 1, 0)
    assert encode_frame(receipt, compress=True)[1] == 0


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "unknown version"),
        (b"\x01", "unknown version"),
        (b"\x02\x00\xc0", "unknown version"),
        (b"\x01\x02\xc0", "unknown packing"),
        (b"\x01\x01\xc0", "compressed frame"),
        (b"\x01\x00", "truncated"),
        (b"\x01\x00\x91\xa7nothing", "Batch"),
        (bytes(MAX_FRAME_BYTES + 1), "at most"),
        (b"\x01\x01" + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(99)), "unfolds to"),
        (b"\x01\x01" + zstandard.ZstdCompressor().compress(bytes(99))[:-1], "compressed frame"),
        (encode_frame(Receipt(b"", EPOCH, Lane.URGENT, 1, 1, 0)), "Batch"),
        (encode_frame(Batch(b"short", Lane.URGENT, 1, (), [])), "epoch of 5 bytes"),
    ],
)
def test_damaged_frame_names_the_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_frame(frame, Batch)


def test_frame_that_unfolds_to_a_bomb_is_refused_unread() -> None:
    bomb = b"\x01\x01" + zstandard.ZstdCompressor(level=1).compress(bytes(8 * MAX_UNFOLDED_BYTES))
    assert len(bomb) < MAX_FRAME_BYTES
    with pytest.raises(DecodeError, match=f"at most {MAX_UNFOLDED_BYTES}"):
        decode_frame(bomb, Batch)


def test_frame_that_lies_about_its_unfolded_size_is_refused() -> None:
    honest = bytearray(zstandard.ZstdCompressor().compress(bytes(200_000)))
    assert honest[4] & 0xC0 == 0x80  # the size takes 4 bytes
    honest[5:9] = (100).to_bytes(4, "little")
    with pytest.raises(DecodeError, match="compressed frame"):
        decode_frame(b"\x01\x01" + bytes(honest), Batch)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120))
def test_random_bytes_raise_only_decode_errors(raw: bytes) -> None:
    readers = (decode_record, decode_body, decode_order, lambda frame: decode_frame(frame, Batch))
    for reader in readers:
        for start in (b"", b"\x01\x00", b"\x01\x01"):
            with pytest.raises(DecodeError):
                reader(start + raw)


RECORD_HEAD = msgspec.msgpack.encode(["d", "s", 0, b"", 5])[1:]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x96\xa1\xff" + RECORD_HEAD[2:] + b"\xc0",
        b"\x96" + RECORD_HEAD + b"\x91" * 100_000 + b"\xc0",
    ],
    ids=["text that is not UTF-8", "arrays without end"],
)
def test_forged_record_raises_only_a_decode_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_record(raw)


@pytest.mark.parametrize(
    "kind",
    [
        *get_args(Body),
        *(Record, Batch, Receipt, Presence, Command, Replay, ApplyConfiguration, Acquisition, Evidence, ClockAnchor),
    ],
)
def test_wire_document_lists_the_fields_of_every_struct_in_order(kind: type[msgspec.Struct]) -> None:
    tag = kind.__struct_config__.tag
    named = f'"{tag}", ' if tag else ""
    assert f"[{named}{', '.join(kind.__struct_fields__)}]" in WIRE_DOCUMENT

"""What the cloud asks of a box: commands, answered once by a CommandOutcome (docs/wire.md)."""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

from wire.messages import UNREADABLE, DecodeError, Lane
from wire.topics import check_gateway_id

COMMAND_ID_BYTES = 16
SIGNATURE_BYTES = 64  # Ed25519 (RFC 8032)
# At 4 bytes a character half a frame, and twenty times the longest example.
MAX_CONFIGURATION_CHARACTERS = 32 * 1024
# Below this a box does not even get to reconnect; above it nobody waits at the desk for the answer.
MIN_DEADLINE_S, MAX_DEADLINE_S = 5, 3600
_MIN_US, _MAX_US = -(2**63), 2**63 - 1  # what is signed of a time is its 8 bytes


class Replay(msgspec.Struct, frozen=True, tag="replay", array_like=True):
    """Offer again everything the box still holds, or one lane of it."""

    lane: Lane | None = None


class ApplyConfiguration(msgspec.Struct, frozen=True, tag="apply_configuration", array_like=True):
    """Run with this configuration, and go back to the one before unless a receipt comes within `deadline_s`."""

    toml: Annotated[str, Meta(max_length=MAX_CONFIGURATION_CHARACTERS)]
    version: Annotated[str, Meta(max_length=100)]
    deadline_s: Annotated[float, Meta(ge=MIN_DEADLINE_S, le=MAX_DEADLINE_S)]


class NewSession(msgspec.Struct, frozen=True, tag="new_session", array_like=True):
    """The patient of this session is handed over: close it and open another; no other session is ever meant."""

    session_id: Annotated[str, Meta(max_length=100)]


Order = Replay | ApplyConfiguration | NewSession


class Command(msgspec.Struct, frozen=True, tag="command", array_like=True):
    """One order to one box, the same however often it is sent; `order` is an encoded `Order`.

    An order of a kind the box does not know is still a command that it can refuse. `signature` is Ed25519 over
    `signed_bytes`; without one only a box that pinned no key obeys.
    """

    command_id: Annotated[bytes, Meta(min_length=COMMAND_ID_BYTES, max_length=COMMAND_ID_BYTES)]
    order: msgspec.Raw
    issued_us: Annotated[int, Meta(ge=_MIN_US, le=_MAX_US)]
    expires_us: Annotated[int, Meta(ge=_MIN_US, le=_MAX_US)]
    signature: Annotated[bytes, Meta(max_length=SIGNATURE_BYTES)] = b""


def signed_bytes(gateway: str, command: Command) -> bytes:
    """What is signed: for whom, which command, from when to when, and the order byte for byte as it travels."""
    return b"".join(
        (
            b"vitalwire-command-1\0",
            check_gateway_id(gateway).encode("ascii") + b"\0",
            command.command_id,
            struct.pack(">qq", command.issued_us, command.expires_us),
            bytes(command.order),
        )
    )


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)


def encode_order(order: Order) -> bytes:
    """An order as it travels and is stored."""
    return _encoder.encode(order)


def decode_order(raw: bytes | memoryview) -> Order:
    """Reads an order. Raises DecodeError for a kind or value this version does not know."""
    try:
        return _decoder.decode(raw)
    except UNREADABLE as error:
        raise DecodeError(f"order: {error}", bytes(raw)) from error

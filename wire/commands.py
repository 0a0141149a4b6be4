"""What the cloud asks of a box: commands, answered once by a CommandOutcome (docs/wire.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wire.messages import UNREADABLE, DecodeError, Lane

COMMAND_ID_BYTES = 16
# At 4 bytes a character half a frame, and twenty times the longest example.
MAX_CONFIGURATION_CHARACTERS = 32 * 1024
# Below this a box does not even get to reconnect; above it nobody waits at the desk for the answer.
MIN_DEADLINE_S, MAX_DEADLINE_S = 5, 3600


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

    An order of a kind the box does not know is still a command that it can refuse.
    """

    command_id: Annotated[bytes, Meta(min_length=COMMAND_ID_BYTES, max_length=COMMAND_ID_BYTES)]
    order: msgspec.Raw
    issued_us: int
    expires_us: int


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

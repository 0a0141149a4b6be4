"""Which of two heartbeats of a box tells how it is now: a backlog brings old ones after new ones. Pure."""

from __future__ import annotations

from typing import NamedTuple

from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS

# A box says at least a heartbeat every 5 s (edge/heartbeat.py); three missed ones are silence.
SILENCE_US = 15 * MICROSECONDS


class Moment(NamedTuple):
    """When a heartbeat was made by the box's two clocks, and when the cloud received it."""

    boot_id: bytes
    mono_us: int
    time_us: int
    received_us: int


def follows(new: Moment, known: Moment | None) -> bool:
    """Whether `new` was made after what is known."""
    if known is None:
        return True
    if new.boot_id == known.boot_id:
        return new.mono_us > known.mono_us
    if min(new.time_us, known.time_us) >= EARLIEST_PLAUSIBLE_US:
        return new.time_us > known.time_us
    # One of the two boots had no clock: the machine is in the one that is heard, and the other is backlog.
    return new.received_us - known.received_us > SILENCE_US

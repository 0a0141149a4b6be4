"""Which of two heartbeats of a box tells how it is now (a backlog brings old ones after new ones), and what of it can
be shown. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS
from wire.readings import Status

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


def finite(status: Status) -> Status:
    """Without gauges that are no number: a broken box must not break a screen."""
    if all(map(math.isfinite, status.gauges.values())):
        return status
    gauges = {name: value for name, value in status.gauges.items() if math.isfinite(value)}
    return msgspec.structs.replace(status, gauges=gauges)

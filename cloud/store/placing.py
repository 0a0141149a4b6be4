"""Places a reading of a box that had no clock, once an anchor of the same boot says when that boot was."""

from __future__ import annotations

from typing import NamedTuple

from wire.clock import EARLIEST_PLAUSIBLE_US, ClockAnchor


class Placed(NamedTuple):
    """A time, and whether it is a place in history or only what an unset clock said."""

    time_us: int
    is_placed: bool


def place(time_us: int, mono_us: int, set_anchor: ClockAnchor | None, unset_anchor: ClockAnchor | None) -> Placed:
    """`mono_us` is when the record was made; an anchor from before the clock was set tells it more exactly."""
    if time_us >= EARLIEST_PLAUSIBLE_US:
        return Placed(time_us, True)
    if set_anchor is None:
        return Placed(time_us, False)
    if unset_anchor is not None:
        mono_us = unset_anchor.mono_us + time_us - unset_anchor.wall_us
    return Placed(set_anchor.wall_us + mono_us - set_anchor.mono_us, True)

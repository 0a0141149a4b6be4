"""Who is refused too often is not listened to for a minute: what guesses neither fills the audit nor the disk."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from cloud.sign_in_limits import network_of
from wire.clock import Clock

_WINDOW_US = 60 * 1_000_000
# Twice what a person mistypes before a code is burnt.
_MOST_REFUSALS = 10
# Full-policy: the address that was not refused for longest is forgotten.
_MOST_ADDRESSES = 4096


class Turn(Enum):
    """What an address may do now."""

    GIVEN = "given"
    DENIED = "denied"
    DENIED_FROM_NOW = "denied from now"  # the first of its kind, so that it is written down once


class _Entry:
    __slots__ = ("is_told", "since_us", "taken")

    def __init__(self, since_us: int) -> None:
        self.since_us, self.taken, self.is_told = since_us, 0, False


class Limiter:
    """Refusals by address within a minute; a turn counts as refused until it is given back, so that a thousand at once
    are no way around."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def take(self, source: str) -> Turn:
        """Takes one turn, if there is one left."""
        now_us, key = self._clock.monotonic_us(), network_of(source)
        entry = self._entries.get(key)
        if entry is None or now_us - entry.since_us >= _WINDOW_US:
            entry = self._entries[key] = _Entry(now_us)
        if entry.taken >= _MOST_REFUSALS:
            is_first, entry.is_told = not entry.is_told, True
            return Turn.DENIED_FROM_NOW if is_first else Turn.DENIED
        entry.taken += 1
        self._entries.move_to_end(key)
        if len(self._entries) > _MOST_ADDRESSES:
            self._entries.popitem(last=False)
        return Turn.GIVEN

    def give_back(self, source: str) -> None:
        """It was no refusal."""
        entry = self._entries.get(network_of(source))
        if entry is not None and entry.taken:
            entry.taken -= 1

"""The one way this house waits before trying again: capped, doubling, with full jitter."""

from __future__ import annotations

import random


class Backoff:
    """Delays in s drawn evenly from [0, limit], the limit doubling from `first_s` to `cap_s` until `reset`.

    Full jitter keeps two thousand boxes from coming back in step after a broker restart.
    """

    def __init__(self, *, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._limit_s = first_s

    def next_s(self) -> float:
        """The next delay."""
        delay_s = random.uniform(0, self._limit_s)
        self._limit_s = min(self._cap_s, self._limit_s * 2)
        return delay_s

    def reset(self) -> None:
        """It worked: the next failure starts small again."""
        self._limit_s = self._first_s

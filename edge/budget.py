"""How many bytes a lane may send in an hour over a metered link: pure, moved by the caller's clock."""

from __future__ import annotations

from wire.clock import MICROSECONDS

_HOUR_US = 3600 * MICROSECONDS
# What may be saved up: enough for a minute's burst of a lane that is spent evenly, never a whole hour's at once.
_SAVED_US = _HOUR_US // 10


class Budget:
    """A token bucket in bytes; None is no limit."""

    def __init__(self, bytes_per_h: int | None) -> None:
        self._per_h = bytes_per_h
        self._most = 0.0 if bytes_per_h is None else bytes_per_h * _SAVED_US / _HOUR_US
        self._tokens = self._most
        self._filled_us: int | None = None

    def allows(self, now_us: int, *, backlog: bool) -> bool:
        """Whether a batch may leave now; backlog leaves half of the budget to what is live."""
        if self._per_h is None:
            return True
        self._fill(now_us)
        return self._tokens > (self._most / 2 if backlog else 0)

    def spend(self, size: int, now_us: int) -> None:
        """A batch leaves; a large one may overdraw, and the next waits the longer."""
        if self._per_h is not None:
            self._fill(now_us)
            self._tokens -= size

    def _fill(self, now_us: int) -> None:
        assert self._per_h is not None
        if self._filled_us is not None:
            self._tokens = min(self._most, self._tokens + self._per_h * (now_us - self._filled_us) / _HOUR_US)
        self._filled_us = now_us

"""What is stored of one epoch and lane, and what its table has to be told: the "once" of the promise."""

from __future__ import annotations

from collections.abc import Iterable

from wire.runs import RunSet


class StoredRuns:
    """Runs as they are in memory beside runs as the table has them."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._written = dict(runs)
        self._runs = RunSet()
        for first, last in self._written.items():
            self._runs.add(first, last)

    def add(self, first: int, last: int) -> list[tuple[int, int]]:
        """Adds a run and returns those parts of it that were not there, in order."""
        return self._runs.add(first, last)

    def take_changes(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Runs to write, and first numbers of runs to delete, since the last call."""
        now = dict(self._runs)
        changed = [(first, last) for first, last in now.items() if self._written.get(first) != last]
        deleted = [first for first in self._written if first not in now]
        self._written = now
        return changed, deleted

"""Sets of sequence numbers kept as merged runs: what was stored, what still waits for its receipt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator


class RunSet:
    """A set of integers as sorted, disjoint, non-adjacent runs [first, last], both included."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunSet) and self._firsts == other._firsts and self._lasts == other._lasts

    def __repr__(self) -> str:
        return f"RunSet({list(self)})"

    __hash__ = None  # type: ignore[assignment]  # it changes

    def copy(self) -> RunSet:
        """The same set, to be changed apart."""
        other = RunSet()
        other._firsts, other._lasts = self._firsts[:], self._lasts[:]
        return other

    def count(self) -> int:
        """How many integers are in the set."""
        return sum(last - first + 1 for first, last in self)

    def add(self, first: int, last: int) -> list[tuple[int, int]]:
        """Adds [first, last]; returns the runs of it that were not in the set before."""
        new = self.missing(first, last)
        # Every run that overlaps or touches [first - 1, last + 1] melts into one.
        low = bisect_left(self._lasts, first - 1)
        high = low
        while high < len(self._firsts) and self._firsts[high] <= last + 1:
            high += 1
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]
        return new

    def remove(self, first: int, last: int) -> list[tuple[int, int]]:
        """Takes [first, last] out; returns the runs of it that were in the set."""
        low = bisect_left(self._lasts, first)
        high = low
        kept: list[tuple[int, int]] = []
        removed: list[tuple[int, int]] = []
        while high < len(self._firsts) and self._firsts[high] <= last:
            run_first, run_last = self._firsts[high], self._lasts[high]
            removed.append((max(run_first, first), min(run_last, last)))
            if run_first < first:
                kept.append((run_first, first - 1))
            if run_last > last:
                kept.append((last + 1, run_last))
            high += 1
        self._firsts[low:high] = [run[0] for run in kept]
        self._lasts[low:high] = [run[1] for run in kept]
        return removed

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """The runs of [first, last] that are not in the set."""
        found: list[tuple[int, int]] = []
        at = first
        for index in range(bisect_left(self._lasts, first), len(self._firsts)):
            run_first, run_last = self._firsts[index], self._lasts[index]
            if run_first > last:
                break
            if run_first > at:
                found.append((at, run_first - 1))
            at = max(at, run_last + 1)
        if at <= last:
            found.append((at, last))
        return found

    def intersects(self, first: int, last: int) -> bool:
        """Whether any integer of [first, last] is in the set."""
        index = bisect_left(self._lasts, first)
        return index < len(self._firsts) and self._firsts[index] <= last

"""Counters of one process: what was dropped, doubled or refused is counted here and read at /metrics."""

from __future__ import annotations

import threading
from collections import Counter


class Counters:
    """Named counts, safe from any thread. A name is [a-z_]+, as Prometheus wants it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Adds to one count, which starts at 0."""
        with self._lock:
            self._counts[name] += count

    def add_all(self, counts: dict[str, int]) -> None:
        """Adds several counts at once."""
        with self._lock:
            self._counts.update(counts)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """All counts as they stand."""
        with self._lock:
            return dict(self._counts)

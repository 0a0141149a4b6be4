"""How much room the disk has beyond what is kept for URGENT: what tells the other lanes to wait, or to give way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Between two looks the other lanes may write so much: a sixty-fourth of the default reserve, and one look in some
# hundred commits. A look is also taken at every upkeep (2 s), which sees what others write, and at every retry (1 s).
_LOOK_EVERY_BYTES = 1024 * 1024
# They give way before they have to wait: an eighth of the reserve (8 MiB of 64) is what a busy box takes in ten looks.
_MARGIN_SHARE = 8


def free_bytes(folder: Path) -> int:
    """What may still be written to the disk of a folder."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


class Room:
    """The free disk and the reserve in it. Used from one thread at a time; a reserve of 0 asks for nothing."""

    def __init__(self, folder: Path, reserve_bytes: int, read_free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._read_free = read_free
        self._free = 0
        self._waits_bytes = 0  # the largest commit that waits
        self._trusted_for = 0  # bytes that may yet be written before the next look

    def takes(self, size: int) -> bool:
        """Whether so much fits above the reserve, noted as written."""
        if not self._reserve_bytes:
            return True
        if self._trusted_for < size or self._free - size < self._reserve_bytes:
            self._look()
        if self._free - size < self._reserve_bytes:
            self._waits_bytes = max(size, self._waits_bytes)
            return False
        if size >= self._waits_bytes:
            self._waits_bytes = 0
        self._free -= size
        self._trusted_for -= size
        return True

    def short_bytes(self) -> int:
        """How much has to go until nobody is near waiting, as it is now."""
        self._look()
        margin_bytes = max(self._waits_bytes, self._reserve_bytes // _MARGIN_SHARE)
        return max(0, self._reserve_bytes + margin_bytes - self._free)

    def is_spent(self) -> bool:
        """Whether the other lanes have to wait, as it was at the last look."""
        return self._free < self._reserve_bytes + self._waits_bytes

    def _look(self) -> None:
        self._free = self._read_free(self._folder)
        self._trusted_for = _LOOK_EVERY_BYTES

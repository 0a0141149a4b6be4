"""Bytes that change by themselves on a disk."""

from __future__ import annotations

import random
from pathlib import Path

_FLIPPED_BYTES = 24
_SQLITE_HEADER_BYTES = 100


def flip_bytes(path: Path, chance: random.Random) -> None:
    """A few bytes anywhere behind an SQLite file's header are others now."""
    content = bytearray(path.read_bytes())
    for _ in range(_FLIPPED_BYTES):
        content[chance.randrange(_SQLITE_HEADER_BYTES, len(content))] ^= chance.randrange(1, 256)
    path.write_bytes(content)

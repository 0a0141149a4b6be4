"""An account of what was accepted, kept apart from the spool so that a judge need not trust it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.spool import Chunk


class Entry(NamedTuple):
    """One run that was on disk before this line was written."""

    epoch: bytes
    lane: str
    first_seq: int
    last_seq: int


class Ledger:
    """Appends a line for every committed chunk; each line is one write, so kill -9 leaves whole lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def committed(self, chunk: Chunk) -> None:
        """Notes one chunk."""
        line = [chunk.epoch.hex(), chunk.lane.value, chunk.first_seq, chunk.last_seq]
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[Entry]:
    """The entries of a ledger; none when nothing was ever accepted."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        epoch, lane, first, last = json.loads(line)
        yield Entry(bytes.fromhex(epoch), lane, first, last)

"""A chunk: the records of one group commit, written, sent and receipted as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wire.clock import ClockAnchor
from wire.messages import Lane

# A chunk must fit one frame (wire.messages.MAX_FRAME_BYTES) with its anchor and envelope.
MAX_CHUNK_BYTES = 192 * 1024
# What gathers is cut into chunks of at most this size, unless one record is larger: on the slowest link served (2 KB/s,
# edge/window.py) an alert waits 16 s behind one, and its PUBACK comes well before the keepalive gives the link up.
USUAL_CHUNK_BYTES = 32 * 1024


@dataclass(frozen=True)
class Chunk:
    """Records first_seq … last_seq of one epoch and lane, each encoded once, with the clocks at their commit."""

    epoch: bytes
    lane: Lane
    first_seq: int
    records: tuple[bytes, ...]
    anchor: ClockAnchor

    @property
    def last_seq(self) -> int:
        """Sequence number of the last record."""
        return self.first_seq + len(self.records) - 1

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return sum(map(len, self.records))


class Memo(NamedTuple):
    """A named value to become durable in the same commit as the records of its lane."""

    lane: Lane
    name: str
    value: bytes


@dataclass(frozen=True)
class Facts:
    """What must become durable in the same commit as the records it speaks of.

    `memos` are named values (an alarm's state, a session); `transfers` are keys of device transfers now accepted.
    """

    memos: tuple[tuple[str, bytes], ...] = ()
    transfers: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class LostRun:
    """A run that left the disk unreceipted, to be named by a Gap."""

    epoch: bytes
    lane: Lane
    first_seq: int
    last_seq: int
    from_us: int
    to_us: int

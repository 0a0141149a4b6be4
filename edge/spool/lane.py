"""One lane's folder of segments: rolls them, offers the backlog, and gives up the oldest when the budget is spent."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from edge.spool.chunk import Chunk, Facts
from edge.spool.segment import Segment, SegmentCorrupt
from wire.messages import Lane
from wire.runs import RunSet

_log = logging.getLogger(__name__)

# A device resends within minutes at most; each key costs 16 bytes.
_TRANSFERS_REMEMBERED = 4096


class LaneSpool:
    """Chunks of one lane on disk. Used from one thread at a time."""

    def __init__(self, folder: Path, lane: Lane, *, segment_bytes: int) -> None:
        self.lane = lane
        self.memos: dict[str, bytes] = {}
        self.corrupt: list[Path] = []
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments: deque[Segment] = deque()
        self._transfers: dict[bytes, None] = {}  # ordered: the oldest key is forgotten first
        self._open()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.sqlite")):
            try:
                segment = Segment(path, self.lane)
                facts = segment.facts()
            except SegmentCorrupt as error:
                self._quarantine(path, error)
                continue
            self._segments.append(segment)
            self._remember(facts)
        if not self._segments:
            self._segments.append(self._new_segment())

    def _remember(self, facts: Facts) -> None:
        self.memos.update(facts.memos)
        for key in facts.transfers:
            self._transfers[key] = None
        while len(self._transfers) > _TRANSFERS_REMEMBERED:
            del self._transfers[next(iter(self._transfers))]

    def _quarantine(self, path: Path, error: SegmentCorrupt) -> None:
        aside = path.with_suffix(".quarantined")
        path.rename(aside)
        self.corrupt.append(aside)
        _log.error("spool segment set aside: %s", error)

    def _new_segment(self) -> Segment:
        numbers = [int(path.stem) for path in self._folder.iterdir() if path.stem.isdigit()]
        return Segment(self._folder / f"{max(numbers, default=0) + 1:010d}.sqlite", self.lane)

    def knows_transfer(self, key: bytes) -> bool:
        """Whether a device transfer with this key is already on disk."""
        return key in self._transfers

    def commit(self, chunks: Sequence[Chunk], facts: Facts) -> None:
        """Writes chunks as one; on return the disk has them. Raises sqlite3.OperationalError when it is full."""
        if self._segments[-1].bytes >= self._segment_bytes:
            self._roll()
        self._segments[-1].commit(chunks, facts)
        self._remember(facts)

    def _roll(self) -> None:
        fresh = self._new_segment()
        fresh.carry(Facts(tuple(self.memos.items()), tuple(self._transfers)))
        self._segments[-1].seal()
        self._segments.append(fresh)

    def receipted(self, epoch: bytes, first_seq: int, last_seq: int) -> bool:
        """Settles a run; False when no record of it is here: such a receipt is not ours."""
        ours = False
        for segment in self._segments:
            if segment.holds(epoch, first_seq, last_seq):
                segment.receipted(epoch, first_seq, last_seq)
                ours = True
        return ours

    def flush_receipts(self) -> None:
        """Writes receipts down."""
        for segment in self._segments:
            segment.flush_receipts()

    def backlog(self, busy: dict[bytes, RunSet], max_bytes: int) -> list[Chunk]:
        """Pending chunks not in flight that follow on each other: one batch's worth, at least one if there is any."""
        found: list[Chunk] = []
        size = 0
        for segment in self._segments:
            for chunk in segment.backlog(busy):
                follows = not found or (chunk.epoch == found[-1].epoch and chunk.first_seq == found[-1].last_seq + 1)
                if not follows or (found and size + chunk.size > max_bytes):
                    return found
                found.append(chunk)
                size += chunk.size
                if found and size >= max_bytes:
                    return found
        return found

    def pending_records(self) -> int:
        """How many records still wait for their receipt."""
        return sum(runs.count() for segment in self._segments for runs in segment.pending.values())

    def bytes(self) -> int:
        """What the lane takes on disk."""
        return sum(segment.bytes for segment in self._segments)

    def reoffer(self) -> None:
        """Makes every record still held pending again."""
        for segment in self._segments:
            segment.reoffer()

    def doomed(self, *, budget_bytes: int, keep_after_us: int, give_up_before_us: int) -> list[Segment]:
        """Whole segments that have to go, the one being written never: receipted ones past their keeping, unreceipted
        ones past their age, and, over budget, receipted before unreceipted, oldest first."""
        closed = list(self._segments)[:-1]
        gone = [
            segment
            for segment in closed
            if segment.newest_us() < (give_up_before_us if segment.pending else keep_after_us)
        ]
        excess = self.bytes() - budget_bytes - sum(segment.bytes for segment in gone)
        for segment in sorted((one for one in closed if one not in gone), key=lambda one: bool(one.pending)):
            if excess <= 0:
                break
            gone.append(segment)
            excess -= segment.bytes
        # URGENT is never dropped before its receipt.
        return [segment for segment in gone if not (self.lane is Lane.URGENT and segment.pending)]

    def unlink(self, doomed: list[Segment]) -> None:
        """Removes segments from the disk."""
        for segment in doomed:
            segment.unlink()
            self._segments.remove(segment)

    def close(self) -> None:
        """Writes receipts down and closes every file."""
        for segment in self._segments:
            segment.close()

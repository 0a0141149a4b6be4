"""One lane's folder of segments: rolls them, offers the backlog, and gives up the oldest when the budget is spent."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge.spool.chunk import Chunk, Facts
from edge.spool.cipher import Cipher
from edge.spool.segment import Segment, SegmentCorrupt, files_of
from wire.clock import EARLIEST_PLAUSIBLE_US, ClockAnchor
from wire.messages import Lane
from wire.runs import RunSet

_log = logging.getLogger(__name__)

# A device resends within minutes at most; each key costs 16 bytes.
_TRANSFERS_REMEMBERED = 4096


class LaneSpool:
    """Chunks of one lane on disk. Used from one thread at a time."""

    def __init__(self, folder: Path, lane: Lane, *, segment_bytes: int, cipher: Cipher) -> None:
        self.lane = lane
        self._cipher = cipher
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
                segment = Segment(path, self.lane, self._cipher)
                facts = segment.facts()
            except SegmentCorrupt as error:
                self._quarantine(path, error)
                continue
            self._segments.append(segment)
            self._remember(facts)
        if not self._segments or self._segments[-1].is_sealed:
            self._append_segment()

    def _remember(self, facts: Facts) -> None:
        self.memos.update(facts.memos)
        for key in facts.transfers:
            self._transfers[key] = None
        while len(self._transfers) > _TRANSFERS_REMEMBERED:
            del self._transfers[next(iter(self._transfers))]

    def _quarantine(self, path: Path, error: SegmentCorrupt) -> None:
        for file in files_of(path):
            if file.exists():
                file.rename(file.with_name(file.name.replace(".sqlite", ".quarantined")))
        self.corrupt.append(path.with_suffix(".quarantined"))
        _log.error("spool segment set aside: %s", error)

    def _new_segment(self) -> Segment:
        numbers = [int(path.stem) for path in self._folder.iterdir() if path.stem.isdigit()]
        path = self._folder / f"{max(numbers, default=0) + 1:010d}.sqlite"
        try:
            return Segment(path, self.lane, self._cipher)
        except sqlite3.OperationalError:
            for file in files_of(path):  # on a full disk every retry would leave an empty one
                file.unlink(missing_ok=True)
            raise

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
        """Opens the next segment; the one before is sealed, or stays open if the disk refuses even that."""
        self._append_segment()
        self._segments[-2].seal()

    def _append_segment(self) -> None:
        fresh = self._new_segment()
        try:
            fresh.carry(Facts(tuple(self.memos.items()), tuple(self._transfers)))
        except BaseException:
            fresh.unlink()
            raise
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
        """Writes receipts down; on a full or broken disk later or never, since losing one is harmless."""
        for segment in self._segments:
            with suppress(sqlite3.DatabaseError):
                segment.flush_receipts()

    def backlog(self, busy: dict[bytes, RunSet], max_bytes: int) -> list[Chunk]:
        """Pending chunks not in flight that follow on each other: one batch's worth, at least one if there is any."""
        found: list[Chunk] = []
        for segment in list(self._segments):
            try:
                if not self._gather(segment, busy, max_bytes, found):
                    return found
            except SegmentCorrupt as error:
                self._set_aside(segment, error)
        return found

    def _gather(self, segment: Segment, busy: dict[bytes, RunSet], max_bytes: int, found: list[Chunk]) -> bool:
        """Adds a segment's chunks to what was found; False when the batch is full or would not be one run."""
        size = sum(chunk.size for chunk in found)
        for chunk in segment.backlog(busy):
            follows = not found or (chunk.epoch == found[-1].epoch and chunk.first_seq == found[-1].last_seq + 1)
            if not follows or (found and size + chunk.size > max_bytes):
                return False
            found.append(chunk)
            size += chunk.size
            if size >= max_bytes:
                return False
        return True

    def _set_aside(self, segment: Segment, error: SegmentCorrupt) -> None:
        """Takes a segment that turned out unreadable out of use; its losses are named by the agent's next look."""
        if segment is self._segments[-1]:
            self._append_segment()
        self._segments.remove(segment)
        segment.close()
        self._quarantine(segment.path, error)

    def pending_records(self) -> int:
        """How many records still wait for their receipt."""
        return sum(runs.count() for segment in self._segments for runs in segment.pending.values())

    def oldest(self) -> ClockAnchor | None:
        """The clocks at the commit of the oldest records that still wait, None when none does."""
        for segment in list(self._segments):
            try:
                if (found := segment.oldest()) is not None:
                    return found
            except SegmentCorrupt as error:
                self._set_aside(segment, error)
        return None

    def bytes(self) -> int:
        """What the lane takes on disk."""
        return sum(segment.bytes for segment in self._segments)

    def closed_bytes(self) -> int:
        """What the segments take that are no longer written to."""
        return self.bytes() - self._segments[-1].bytes

    def newest_is_pending(self) -> bool:
        """Whether the segment being written holds records that wait for their receipt."""
        return bool(self._segments[-1].pending)

    def end_newest(self, least_bytes: int) -> None:
        """Begins another segment, so that the one being written can go; not for less than this, nor if the disk has
        no room for a fresh one."""
        if self._segments[-1].bytes >= least_bytes:
            with suppress(sqlite3.OperationalError):
                self._roll()

    def reoffer(self) -> None:
        """Makes every record still held pending again."""
        for segment in self._segments:
            segment.reoffer()

    def doomed(
        self, *, budget_bytes: int, keep_after_us: int, give_up_before_us: int, may_lose: bool = True
    ) -> list[Segment]:
        """Whole segments that have to go, the one being written never: receipted ones past their keeping, unreceipted
        ones past their age, and, over budget, receipted before unreceipted, oldest first."""
        closed = [segment for segment in list(self._segments)[:-1] if may_lose or not segment.pending]
        gone = [
            segment
            for segment in closed
            # A box whose clock was never set stamps 1970: that is no age.
            if EARLIEST_PLAUSIBLE_US <= segment.newest_us() < (give_up_before_us if segment.pending else keep_after_us)
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
        """Removes segments from the disk; one set aside since it was doomed stays where it was put."""
        for segment in doomed:
            if segment in self._segments:
                segment.unlink()
                self._segments.remove(segment)

    def close(self) -> None:
        """Writes receipts down and closes every file."""
        self.flush_receipts()
        for segment in self._segments:
            segment.close()

"""The spool: everything accepted stays on disk here until the cloud says "stored", and a while longer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from edge.spool.chunk import MAX_CHUNK_BYTES, USUAL_CHUNK_BYTES, Chunk, Facts, LostRun, Memo
from edge.spool.cipher import load_cipher
from edge.spool.lane import LaneSpool
from edge.spool.room import Room, free_bytes
from edge.spool.segment import Segment
from wire.clock import MICROSECONDS, ClockAnchor
from wire.messages import Lane
from wire.runs import RunSet

__all__ = [
    "MAX_CHUNK_BYTES",
    "USUAL_CHUNK_BYTES",
    "Chunk",
    "Facts",
    "Holding",
    "LostRun",
    "Memo",
    "Spool",
    "SpoolConfig",
    "SpoolUnavailable",
    "spool_folder",
]

T = TypeVar("T")
_HOUR_US = 3600 * MICROSECONDS
_MIB = 1024 * 1024
# A newest segment with less than this frees nothing worth a fresh one, which takes 0.2 MiB with its keys and memos.
_LEAST_ENDED_BYTES = _MIB


# A TiB and ten years: beyond any box, and far from where a sum of them would overflow.
_Mib = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
_Hours = Annotated[int, msgspec.Meta(ge=1, le=87_600)]


class SpoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the spool may take of the disk, per lane, and how long it keeps."""

    segment_mib: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    urgent_mib: _Mib = 64
    routine_mib: _Mib = 512
    bulk_mib: _Mib = 4096
    keep_receipted_h: Annotated[int, msgspec.Meta(ge=0, le=87_600)] = 24
    give_up_routine_h: _Hours = 7 * 24
    key_file: str | None = None  # encryption at rest (edge/spool/cipher.py)
    # Disk left free for URGENT: the other lanes give way near it and wait below it.
    reserve_mib: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 64

    def budget_bytes(self, lane: Lane) -> int:
        """Bytes the lane may take."""
        return {Lane.URGENT: self.urgent_mib, Lane.ROUTINE: self.routine_mib, Lane.BULK: self.bulk_mib}[lane] * _MIB


class SpoolUnavailable(Exception):
    """The disk does not take it now: say so, or try again later."""


class Holding(NamedTuple):
    """What a lane holds: records that wait for their receipt, the clocks at the commit of the oldest, bytes on disk."""

    pending_records: int
    oldest: ClockAnchor | None
    bytes: int


def spool_folder(state_dir: str) -> Path:
    """Where a box with this state folder keeps its spool."""
    return Path(state_dir) / "spool"


class Doomed(NamedTuple):
    """Segments that have to go, and the unreceipted runs that go with them."""

    segments: list[tuple[Lane, list[Segment]]]
    lost: list[LostRun]


class Spool:
    """The three lanes on disk, worked by one thread so that the event loop never waits for the disk."""

    def __init__(self, folder: Path, config: SpoolConfig, *, read_free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._config = config
        self._room = Room(folder, config.reserve_mib * _MIB, read_free)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._lanes: dict[Lane, LaneSpool] = {}
        # Runs to settle before the next work on the disk. Bounded by the uplink's windows, whose batches they answer.
        self._settled: deque[tuple[Lane, bytes, int, int]] = deque()

    async def open(self) -> None:
        """Opens or creates the folder; corrupt segments are set aside. Raises ConfigError when a key is missing."""
        await self._in_thread(self._open)

    def _open(self) -> None:
        cipher = load_cipher(self._config.key_file)
        # Readings of patients lie here: no other user of the box may look.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for lane in Lane:
            folder = self._folder / lane.value
            self._lanes[lane] = LaneSpool(folder, lane, segment_bytes=self._config.segment_mib * _MIB, cipher=cipher)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._after_settling, work)

    def _after_settling(self, work: Callable[[], T]) -> T:
        while self._settled:
            lane, epoch, first_seq, last_seq = self._settled.popleft()
            self._lanes[lane].receipted(epoch, first_seq, last_seq)
        return work()

    async def answer(self) -> None:
        """Returns once the disk's thread has done what it was asked before; not while it hangs."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def memo(self, name: str) -> bytes | None:
        """A named value as last committed; a name always travels with the same lane."""
        return next((lane.memos[name] for lane in self._lanes.values() if name in lane.memos), None)

    def knows_transfer(self, lane: Lane, key: bytes) -> bool:
        """Whether the lane already holds the records of a device transfer."""
        return self._lanes[lane].knows_transfer(key)

    def quarantined(self) -> list[tuple[Lane, Path]]:
        """Segments found corrupt and still lying there, each with its lane."""
        return [(lane, path) for lane in Lane for path in sorted((self._folder / lane.value).glob("*.quarantined"))]

    async def commit(self, chunks: Sequence[Chunk], facts: Facts) -> None:
        """Returns when the chunks of one lane and their facts are on disk, all of them or, by SpoolUnavailable (what is
        free is kept for URGENT) and sqlite3.OperationalError, none."""
        await self._in_thread(lambda: self._commit(chunks, facts))

    def _commit(self, chunks: Sequence[Chunk], facts: Facts) -> None:
        lane = chunks[0].lane
        if lane is not Lane.URGENT and not self._room.takes(sum(chunk.size for chunk in chunks)):
            raise SpoolUnavailable(f"the last {self._config.reserve_mib} MiB of the disk are kept for alerts")
        self._lanes[lane].commit(chunks, facts)

    def settle(self, lane: Lane, epoch: bytes, first_seq: int, last_seq: int) -> None:
        """Settles a receipted run that this box has sent, without waiting for the disk's thread."""
        self._settled.append((lane, epoch, first_seq, last_seq))

    async def receipted(self, lane: Lane, epoch: bytes, first_seq: int, last_seq: int) -> bool:
        """Settles a receipted run that may not be ours; False when this box never stored it."""
        return await self._in_thread(lambda: self._lanes[lane].receipted(epoch, first_seq, last_seq))

    async def backlog(self, lane: Lane, busy: dict[bytes, RunSet], max_bytes: int) -> list[Chunk]:
        """The next pending chunks of a lane that are not in flight, as much as one batch takes."""
        in_flight = {epoch: runs.copy() for epoch, runs in busy.items()}  # it changes while the disk is read
        return await self._in_thread(lambda: self._lanes[lane].backlog(in_flight, max_bytes))

    async def holdings(self) -> dict[Lane, Holding]:
        """What each lane holds."""
        return await self._in_thread(
            lambda: {
                name: Holding(lane.pending_records(), lane.oldest(), lane.bytes()) for name, lane in self._lanes.items()
            }
        )

    async def reoffer(self, lanes: Sequence[Lane]) -> None:
        """Offers everything still held of these lanes again: what the cloud had may be gone. Raises SpoolUnavailable
        when the disk does not take note of it; part of it may then be on offer, which is harmless."""

        def work() -> None:
            try:
                for lane in lanes:
                    self._lanes[lane].reoffer()
            except sqlite3.OperationalError as error:
                raise SpoolUnavailable(str(error)) from error

        await self._in_thread(work)

    async def doomed(self, now_us: int, *, may_lose: bool) -> Doomed:
        """Writes receipts down and says what has to go to keep the budgets: name its losses by Gaps, then `unlink`.

        Without `may_lose` only what loses nothing: unlink that first, since there may be no room for a Gap before.
        """
        return await self._in_thread(lambda: self._doomed(now_us, may_lose=may_lose))

    def _doomed(self, now_us: int, *, may_lose: bool) -> Doomed:
        segments: list[tuple[Lane, list[Segment]]] = []
        short = self._room.short_bytes()
        # BULK gives way first, ROUTINE next, URGENT never.
        for lane in (Lane.BULK, Lane.ROUTINE, Lane.URGENT):
            self._lanes[lane].flush_receipts()
            if short and lane is not Lane.URGENT:
                self._end_newest(lane, short, may_lose=may_lose)
            going = self._going(lane, now_us, short, may_lose=may_lose)
            segments.append((lane, going))
            short = max(0, short - sum(segment.bytes for segment in going))
        return Doomed(
            segments, [lost for _lane, going in segments for segment in going for lost in segment.lost_runs()]
        )

    def _end_newest(self, lane: Lane, short: int, *, may_lose: bool) -> None:
        """Ends the segment being written if it can go without loss, or has to since new readings wait for its room:
        seeing the patient as he is now comes before what he was."""
        spool = self._lanes[lane]
        has_to = may_lose and self._room.is_spent() and short > spool.closed_bytes()
        if has_to or not spool.newest_is_pending():
            spool.end_newest(_LEAST_ENDED_BYTES)

    def _going(self, lane: Lane, now_us: int, short: int, *, may_lose: bool) -> list[Segment]:
        spool = self._lanes[lane]
        give_up_h = self._config.give_up_routine_h if lane is Lane.ROUTINE else None
        return spool.doomed(
            budget_bytes=max(0, min(self._config.budget_bytes(lane), spool.bytes() - short)),
            keep_after_us=now_us - self._config.keep_receipted_h * _HOUR_US,
            give_up_before_us=now_us - give_up_h * _HOUR_US if give_up_h else 0,
            may_lose=may_lose,
        )

    async def unlink(self, doomed: Doomed) -> None:
        """Removes what `doomed` named."""

        def work() -> None:
            for lane, segments in doomed.segments:
                self._lanes[lane].unlink(segments)

        await self._in_thread(work)

    async def close(self) -> None:
        """Writes receipts down and closes every file."""

        def work() -> None:
            for lane in self._lanes.values():
                lane.close()

        await self._in_thread(work)
        self._thread.shutdown()

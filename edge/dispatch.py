"""What leaves next on one uplink, and what is on its way: live before backlog, each lane in its window and budget.

Knows nothing of MQTT: `edge/uplink.py` carries the frames.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec

from edge.backfill import Backfill
from edge.budget import Budget
from edge.spool import Chunk, Spool
from edge.window import Sent, Window
from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS, Clock, ClockAnchor
from wire.messages import Batch, Lane, Receipt, encode_frame

# Full-policy: what does not fit is left to the backlog; every chunk is on disk.
_LIVE_CHUNKS = 64
# A fraction of the shortest timeout (edge/window.py).
_LOOK_S = 0.25


class _Lane:
    """One lane's way out: what is new, what is on its way."""

    def __init__(self, window_bytes: int, budget: Budget) -> None:
        self.live: deque[Chunk] = deque()
        self.window = Window(window_bytes)
        self.budget = budget
        self.wake = asyncio.Event()
        self.has_backlog = True

    @property
    def is_due(self) -> bool:
        """Whether something waits to leave, or for its receipt."""
        return self.has_backlog or bool(self.live) or len(self.window) > 0


class Dispatch:
    """The order in which one uplink's batches leave.

    `may_backfill` says whether this uplink is the one that sends what lies on the disk; `cloud_said` is told the
    cloud's time at a commit and the monotonic times between which that was.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        *,
        window_bytes: int,
        budgets: Mapping[Lane, Budget],
        may_backfill: Callable[[], bool],
        cloud_said: Callable[[int, int, int], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._spool = spool
        self._clock = clock
        self._may_backfill = may_backfill
        self._cloud_said = cloud_said
        self._lanes = {lane: _Lane(window_bytes, budgets[lane]) for lane in Lane}
        self._backfill = Backfill(window_bytes)
        self._is_due = asyncio.Event()  # something may have to leave later: an idle box has no timer running

    def offer(self, chunk: Chunk, *, is_connected: bool) -> None:
        """A chunk just committed: sent as live data if the link is there, found on disk later if not."""
        lane = self._lanes[chunk.lane]
        if is_connected and lane.window.is_open and len(lane.live) < _LIVE_CHUNKS:
            lane.live.append(chunk)
        else:
            lane.has_backlog = True
        lane.wake.set()
        self._is_due.set()

    def forget_link(self) -> None:
        """The link is gone: what was on its way is backlog again."""
        for lane in self._lanes.values():
            lane.live.clear()
            lane.window.forget()
            lane.has_backlog = True
        self._is_due.set()
        self._backfill.forget()

    def look_for_backlog(self) -> None:
        """Something may lie on the disk that this uplink is to send."""
        for lane in self._lanes.values():
            lane.has_backlog = True
            lane.wake.set()
        self._is_due.set()

    def waiting_since_us(self) -> int | None:
        """Monotonic time at which the batch that waits longest left first, None when nothing is on its way."""
        since_us = (lane.window.waiting_since_us() for lane in self._lanes.values())
        return min((each for each in since_us if each is not None), default=None)

    def carried(self, name: Lane, sent: Sent) -> None:
        """The broker has a batch."""
        self._lanes[name].window.carried(sent)

    async def settle(self, receipt: Receipt) -> bool:
        """Takes a receipted run out of what is to be sent; False when this box never stored it."""
        run = (receipt.epoch, receipt.first_seq, receipt.last_seq)
        now_us = self._clock.monotonic_us()
        answered = self._lanes[receipt.lane].window.receipted(*run, now_us)
        for sent in answered:
            self._measure(sent, now_us)
            if sent.tries == 1:
                self._cloud_said(receipt.cloud_us, sent.sent_us, now_us)
        if [(sent.epoch, sent.first_seq, sent.last_seq) for sent in answered] == [run]:
            self._spool.settle(receipt.lane, *run)  # it answers a batch on its way: certainly ours
        elif not await self._spool.receipted(receipt.lane, *run):
            self.counts["receipt_foreign"] += 1
            return False
        self.counts["receipts"] += 1
        for lane in self._lanes.values():
            if lane.has_backlog or lane.live:
                lane.wake.set()  # there may be room for it now
        return True

    def _measure(self, sent: Sent, now_us: int) -> None:
        round_trip_us = now_us - sent.sent_us if sent.tries == 1 else None
        if round_trip_us is not None:
            self._backfill.measured(round_trip_us, now_us)
        if sent.is_backlog:
            self._backfill.answered(len(sent.frame), round_trip_us, now_us)

    async def next(self, name: Lane) -> Sent:
        """The next batch to leave, noted as on its way: overdue ones first, then live, then backlog, oldest first."""
        lane = self._lanes[name]
        while True:
            lane.wake.clear()
            now_us = self._clock.monotonic_us()
            sent = self._overdue(lane, now_us) or await self._fresh(name, lane, now_us)
            if sent is not None:
                self.counts["batches_sent"] += 1
                self.counts["bytes_sent"] += len(sent.frame)
                lane.budget.spend(len(sent.frame), now_us)
                return sent
            await self._woken(lane, now_us)

    async def _woken(self, lane: _Lane, now_us: int) -> None:
        """Waits for a reason to look again: a wake-up, or the end of the backlog's rest."""
        rest_us = self._backfill.rest_us(now_us) if lane.has_backlog else 0
        try:
            async with asyncio.timeout(rest_us / MICROSECONDS if rest_us else None):
                await lane.wake.wait()
        except TimeoutError:
            return

    async def remind(self) -> None:
        """Wakes what waits for time to pass: receipts overdue, budgets refilled. Until cancelled."""
        while True:
            if not any(lane.is_due for lane in self._lanes.values()):
                self._is_due.clear()
                await self._is_due.wait()
            await asyncio.sleep(_LOOK_S)
            now_us = self._clock.monotonic_us()
            for lane in self._lanes.values():
                expiry_us = lane.window.next_expiry_us()
                if lane.has_backlog or lane.live or (expiry_us is not None and expiry_us <= now_us):
                    lane.wake.set()

    def _overdue(self, lane: _Lane, now_us: int) -> Sent | None:
        sent = lane.window.overdue(now_us)
        if sent is not None:
            self.counts["batches_resent"] += 1
            if sent.is_backlog:
                self._backfill.late(now_us, lane.window.round_trip.timeout_us)
        return sent

    async def _fresh(self, name: Lane, lane: _Lane, now_us: int) -> Sent | None:
        if not lane.window.is_open or not lane.budget.allows(now_us, backlog=False):
            return None
        while lane.live:
            chunk = lane.live.popleft()
            if not lane.window.holds(chunk.epoch, chunk.first_seq, chunk.last_seq):
                return self._opened(lane, [chunk])
        if not (lane.has_backlog and self._may_backfill()):
            return None
        # An alert raised while the link was away waits behind no waveform.
        is_paced = name is not Lane.URGENT
        if is_paced and (not self._backfill.is_open or self._backfill.rest_us(now_us)):
            return None
        if is_paced and not lane.budget.allows(now_us, backlog=True):
            return None
        chunks = await self._spool.backlog(name, lane.window.busy, self._backfill.batch_bytes)
        if lane.live:
            return await self._fresh(name, lane, now_us)  # live came while the disk was read
        lane.has_backlog = bool(chunks)
        return self._opened(lane, chunks, read_since_us=now_us) if chunks else None

    def _opened(self, lane: _Lane, chunks: list[Chunk], *, read_since_us: int | None = None) -> Sent:
        """Makes one batch of chunks that follow on each other; of backlog, if reading it began at some time."""
        first = chunks[0]
        records = [msgspec.Raw(record) for chunk in chunks for record in chunk.records]
        batch = Batch(first.epoch, first.lane, first.first_seq, _anchors(chunks), records)
        # Waveform blocks are compressed already; the rest shrinks well as a batch.
        frame = encode_frame(batch, compress=first.lane is not Lane.BULK)
        now_us = self._clock.monotonic_us()
        is_backlog = read_since_us is not None
        sent = Sent(batch.epoch, batch.first_seq, batch.last_seq, frame, now_us, is_backlog=is_backlog)
        lane.window.opened(sent)
        if read_since_us is not None:
            self._backfill.left(len(frame), read_since_us, now_us)
        return sent


def _anchors(chunks: list[Chunk]) -> tuple[ClockAnchor, ...]:
    """The newest of each kind: what is from before the clock was set is placed by one of before and one of after."""
    newest: dict[tuple[bytes, bool, bool], ClockAnchor] = {}
    for anchor in (chunk.anchor for chunk in chunks):
        newest[anchor.boot_id, anchor.wall_us >= EARLIEST_PLAUSIBLE_US, anchor.synchronised] = anchor
    return tuple(newest.values())

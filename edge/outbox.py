"""Where readings become records: numbered, encoded once, committed in groups, then handed to the uplink.

`append` resolves only when the disk has everything it was given. Nothing is sent before its commit: a device resends
what was not acknowledged, so a copy that left early and then never reached the disk would come twice. The one
exception is an alert on a box whose disk is full.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edge.spool import MAX_CHUNK_BYTES, USUAL_CHUNK_BYTES, Chunk, Facts, Memo, Spool, SpoolUnavailable
from wire.clock import Clock, anchor
from wire.messages import EPOCH_BYTES, Lane, encode_record, lane_of
from wire.readings import Body, Origin

_log = logging.getLogger(__name__)

# A full disk is looked at again this often; `append` waits meanwhile, which stops the device's acknowledgements.
_DISK_RETRY_S = 1.0
# Full-policy: wait. A driver that outruns the disk is held back at its yield.
_WAITING_APPENDS = 1024


@dataclass(frozen=True)
class Source:
    """Who a record comes from."""

    device_id: str
    session_id: str
    origin: Origin


@dataclass
class _Waiting:
    """Encoded records of one append to one lane, and who waits for their commit."""

    records: list[bytes]
    facts: Facts
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def transfer_key(device_id: str, key: str) -> bytes:
    """A device's own name for a transfer, as 16 bytes."""
    return hashlib.blake2b(f"{device_id}\0{key}".encode(), digest_size=16).digest()


class Outbox:
    """Accepts readings for the spool.

    `committed` is called with every chunk the disk has taken, in order per lane; `from_memory` with an urgent one that
    it would not take, and `committed` again once it did.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        committed: Callable[[Chunk], None],
        from_memory: Callable[[Chunk], None] = lambda _chunk: None,
    ) -> None:
        self.epoch = secrets.token_bytes(EPOCH_BYTES)
        self.accepted = 0
        self.disk_errors = 0
        self.counts: Counter[str] = Counter()
        self._refused: set[Lane] = set()  # lanes that wait for the disk
        self._spool = spool
        self._clock = clock
        self._committed = committed
        self._from_memory = from_memory
        self._next_seq = dict.fromkeys(Lane, 0)
        self._queues: dict[Lane, asyncio.Queue[_Waiting]] = {lane: asyncio.Queue(_WAITING_APPENDS) for lane in Lane}
        self._in_progress: dict[tuple[Lane, bytes], asyncio.Future[None]] = {}

    @property
    def is_disk_failing(self) -> bool:
        """Whether the disk refuses any lane: it is full, or what is left is kept for alerts."""
        return bool(self._refused)

    def refuses(self, lane: Lane) -> bool:
        """Whether the disk refuses a lane."""
        return lane in self._refused

    async def append(
        self,
        source: Source,
        bodies: Iterable[Body],
        *,
        transfer: str | None = None,
        memos: Sequence[Memo] = (),
        queued: asyncio.Event | None = None,
        others: tuple[Source, Sequence[Body]] | None = None,
    ) -> None:
        """Returns when every body is on disk, each memo in the same commit as the bodies of its lane.

        `others` are bodies of the same transfer that belong to another session. `queued` is set once all of it waits
        for its commit, which then follows even if this is cancelled.
        A `transfer` that a lane already holds is not stored there again.
        Raises ValueError for a body larger than a chunk, or a memo of a lane that gets no body.
        """
        key = transfer_key(source.device_id, transfer) if transfer is not None else None
        parts = [(source, bodies)] if others is None else [others, (source, bodies)]
        await self._append(parts, key, memos, queued)

    async def append_together(
        self, parts: Iterable[tuple[Source, Iterable[Body]]], *, memos: Sequence[Memo] = ()
    ) -> None:
        """As `append`, of several sources in this order: what goes by one lane is on disk in one commit."""
        await self._append(parts, None, memos)

    async def _append(
        self,
        parts: Iterable[tuple[Source, Iterable[Body]]],
        key: bytes | None,
        memos: Sequence[Memo],
        queued: asyncio.Event | None = None,
    ) -> None:
        by_lane: dict[Lane, list[bytes]] = {}
        for source, bodies in parts:
            for body in bodies:
                by_lane.setdefault(lane_of(body), []).append(self._encode(source, body))
        if homeless := [memo.name for memo in memos if memo.lane not in by_lane]:
            raise ValueError(f"memos {homeless} have no records to be committed with")
        waits: list[asyncio.Future[None]] = []
        for lane, records in by_lane.items():
            if key is not None and self._spool.knows_transfer(lane, key):
                self.counts["transfer_repeated"] += 1
                continue
            if key is not None and (under_way := self._in_progress.get((lane, key))):
                waits.append(under_way)
                continue
            lane_memos = tuple((memo.name, memo.value) for memo in memos if memo.lane is lane)
            facts = Facts(lane_memos, (key,) if key is not None else ())
            waiting = _Waiting(records, facts)
            if key is not None:
                self._in_progress[lane, key] = waiting.done
            waits.append(waiting.done)
            await self._queues[lane].put(waiting)
        if queued is not None:
            queued.set()
        for wait in waits:
            # Shielded: a cancelled driver must not cancel a commit others may wait for.
            await asyncio.shield(wait)

    def _encode(self, source: Source, body: Body) -> bytes:
        record = encode_record(
            body,
            device_id=source.device_id,
            session_id=source.session_id,
            origin=source.origin,
            boot_id=self._clock.boot_id(),
            mono_us=self._clock.monotonic_us(),
        )
        if len(record) > MAX_CHUNK_BYTES:
            raise ValueError(f"{type(body).__name__} of {len(record)} bytes, at most {MAX_CHUNK_BYTES} fit a batch")
        return record

    async def run(self) -> None:
        """Commits what is appended, until cancelled; what is queued then is not accepted."""
        async with asyncio.TaskGroup() as tasks:
            for lane in Lane:
                tasks.create_task(self._commit_lane(lane), name=f"outbox {lane.value}")

    async def _commit_lane(self, lane: Lane) -> None:
        queue = self._queues[lane]
        held: _Waiting | None = None
        while True:
            group = [held or await queue.get()]
            held = None
            size = sum(map(len, group[0].records))
            # Whatever gathered while the last commit ran goes with it: no timer, so no added delay.
            while not queue.empty():
                held = queue.get_nowait()
                size += sum(map(len, held.records))
                if size > MAX_CHUNK_BYTES:
                    break
                group.append(held)
                held = None
            await self._commit(lane, group)

    async def _commit(self, lane: Lane, group: list[_Waiting]) -> None:
        records = [record for waiting in group for record in waiting.records]
        facts = Facts(
            tuple(memo for waiting in group for memo in waiting.facts.memos),
            tuple(key for waiting in group for key in waiting.facts.transfers),
        )
        chunks: list[Chunk] = []
        for first, last in _cut(records):
            first_seq = chunks[-1].last_seq + 1 if chunks else self._next_seq[lane]
            chunks.append(Chunk(self.epoch, lane, first_seq, tuple(records[first:last]), anchor(self._clock)))
        await self._write(lane, chunks, facts)
        self._next_seq[lane] = chunks[-1].last_seq + 1
        self.accepted += len(records)
        for waiting in group:
            for key in waiting.facts.transfers:
                self._in_progress.pop((lane, key), None)
            if not waiting.done.done():
                waiting.done.set_result(None)

    async def _write(self, lane: Lane, chunks: list[Chunk], facts: Facts) -> None:
        is_handed_on = False
        while True:
            try:
                await self._spool.commit(chunks, facts)
            except (sqlite3.OperationalError, SpoolUnavailable) as error:
                self.disk_errors += 1
                if not self._refused:
                    _log.error("the spool cannot write, nothing it refuses is acknowledged until it can: %s", error)
                self._refused.add(lane)
                if lane is Lane.URGENT and not is_handed_on:
                    # An alert is sent from memory rather than not at all; the lane keeps trying to write it.
                    is_handed_on = True
                    for chunk in chunks:
                        self._from_memory(chunk)
                await asyncio.sleep(_DISK_RETRY_S)
                continue
            if lane in self._refused:
                self._refused.remove(lane)
                if not self._refused:
                    _log.info("the spool writes again")
            for chunk in chunks:
                self._committed(chunk)
            return


def _cut(records: list[bytes]) -> list[tuple[int, int]]:
    """Index ranges of consecutive records that fit a chunk each."""
    parts: list[tuple[int, int]] = []
    start = size = 0
    for index, record in enumerate(records):
        if index > start and size + len(record) > USUAL_CHUNK_BYTES:
            parts.append((start, index))
            start, size = index, 0
        size += len(record)
    parts.append((start, len(records)))
    return parts

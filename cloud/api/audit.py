"""Who looked at what: every view and action, and every refusal, becomes a row of the audit chain before the answer."""

from __future__ import annotations

import asyncio
from collections import deque

from cloud.counters import Counters
from cloud.store.audit import table
from cloud.store.audit.chain import STORE_ROLE, Entry
from cloud.store.database import Database, StoreUnavailable
from wire.clock import Clock

# Entries that wait for their commit. Full-policy: the request is turned away with 503, counted, and shown nothing. One
# commit takes all that wait, so only a store that hangs fills it, and requests should not pile up behind that.
MOST_WAITING = 1_000


class _Waiting:
    """One entry on its way; what became of it is written by the writing thread alone."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.is_committed = False
        self.why_not = "its commit failed"


class Audit:
    """The one writer of this process; an answer is given only after its row is committed."""

    def __init__(self, database: Database, clock: Clock, counters: Counters | None = None) -> None:
        self._database, self._clock = database, clock
        self._counters = counters or Counters()
        self._waiting: deque[_Waiting] = deque()
        # Set after every commit: the head has moved on.
        self.moved = asyncio.Event()

    async def write(
        self, principal: str, role: str, action: str, about: str, source: str, result: str, reason: str = ""
    ) -> None:
        """One row; returns when it is committed. Raises StoreUnavailable, and then nothing is shown."""
        assert role != STORE_ROLE, "only the store itself speaks for the store"
        if len(self._waiting) >= MOST_WAITING:
            self._counters.add("audit_turned_away")
            raise StoreUnavailable(f"{MOST_WAITING} audit rows wait for the store")
        mine = _Waiting(Entry(self._clock.now_us(), principal, role, action, about, source, result, reason))
        self._waiting.append(mine)
        # Whoever runs first takes all that gathered while the writing thread was busy: one commit, no timer. Each
        # entry queues a run behind it, so none is left; a request that is given up is written down all the same.
        await asyncio.shield(self._database.queue_on_writer(self._commit_waiting))
        if not mine.is_committed:
            raise StoreUnavailable(f"audit: {mine.why_not}")
        self.moved.set()

    def _commit_waiting(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken:
            return
        entries = [waiting.entry for waiting in taken]
        engine = self._database.engine
        try:
            self._database.transaction(lambda connection: table.append(engine, connection, entries))
        except StoreUnavailable as error:
            for waiting in taken:
                waiting.why_not = str(error)
            return
        for waiting in taken:
            waiting.is_committed = True

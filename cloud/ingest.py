"""From the bus to the disk to the receipt: everything a gateway sends passes here once.

Bus → store (one transaction a group) → receipts → acknowledgement. Crash anywhere: the bus delivers again, the store
knows what it has, the receipt goes out again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from cloud.bus.bus import Bus
from cloud.counters import Counters
from cloud.store.append import Appended, Appender, Incoming
from cloud.store.database import Database, StoreUnavailable
from wire.backoff import Backoff

_log = logging.getLogger(__name__)

# One transaction: enough to share the sync of the disk, small enough that a receipt under load waits well under 1 s.
GROUP_BATCHES = 256
GROUP_BYTES = 4 << 20
# Groups begin no closer together: with fifty boxes each then carries several batches and its sync is shared, while
# live screens, fed before commit, keep the processor. A lone batch is stored at once.
_SPACING_S = 0.025


class Ingest:
    """The loop that stores. After a commit `on_stored` is told what became of it, and `on_entries` is called if it
    held more than numerics and waveforms."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        appender: Appender,
        counters: Counters,
        on_entries: Callable[[], None],
        on_stored: Callable[[Appended], None],
    ) -> None:
        self._bus, self._database, self._appender = bus, database, appender
        self._counters, self._on_entries, self._on_stored = counters, on_entries, on_stored
        self._moved = asyncio.Event()
        self._is_idle = False

    async def answer(self) -> None:
        """Returns when it waits for the bus or has gone on; not while a write or a receipt hangs. A store that refuses
        is no hang: a restart would not help it."""
        self._moved.clear()
        if not self._is_idle:
            await self._moved.wait()

    async def run(self) -> None:
        """Stores until cancelled; while the disk refuses, the bus keeps what comes."""
        backoff = Backoff(first_s=0.1, cap_s=5.0)
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            self._is_idle = True
            self._moved.set()
            deliveries = await self._bus.take(most=GROUP_BATCHES, most_bytes=GROUP_BYTES)
            self._is_idle = False
            next_s = loop.time() + _SPACING_S
            group = [Incoming(delivery.subject, delivery.payload) for delivery in deliveries]
            while True:
                try:
                    appended = await self._database.on_writer(partial(self._appender.append, group))
                    break
                except StoreUnavailable as error:
                    self._counters.add("store_unavailable")
                    self._moved.set()
                    delay_s = backoff.next_s()
                    _log.error("store: %s; trying again in %.1f s", error, delay_s)
                    await asyncio.sleep(delay_s)
            backoff.reset()
            await self._bus.send_receipts(appended.receipts)
            await self._bus.settle(deliveries)
            self._counters.add_all(appended.counts)
            self._on_stored(appended)
            if appended.counts.get("entry_rows_stored"):
                self._on_entries()

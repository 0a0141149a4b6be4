"""Consumers read the log after a cursor; effects and cursor commit together. Here is the cloud's restart barrier."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import sqlalchemy as sa

from cloud.counters import Counters
from cloud.store import boards, fleet, schema
from cloud.store.database import Database
from cloud.store.engine import insert
from cloud.store.reader import StoredEntry, entries_after
from wire.backoff import Backoff

_log = logging.getLogger(__name__)

_AT_A_TIME = 500
# Ingest wakes a consumer after every commit; this only covers a lost wake-up.
_LOOK_AGAIN_S = 5.0

Effect = Callable[[sa.Connection, StoredEntry], str | None]


class Consumer:
    """One reader of the log. `effect` works in the transaction and returns the session or box it changed, if any."""

    def __init__(
        self, name: str, effect: Effect, database: Database, counters: Counters, on_change: Callable[[str], None]
    ) -> None:
        self._name, self._effect = name, effect
        self._database, self._counters, self._on_change = database, counters, on_change
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something new."""
        self._woken.set()

    async def run(self) -> None:
        """Follows the log until cancelled; whatever an effect raises, it is tried again from the last cursor."""
        backoff = Backoff(first_s=0.2, cap_s=10.0)
        while True:
            try:
                await self.catch_up()
                backoff.reset()
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._woken.wait()
                self._woken.clear()
            except TimeoutError:
                continue
            except Exception:
                self._counters.add("consumer_failures")
                _log.exception("consumer %s failed; starting it again from its cursor", self._name)
                await asyncio.sleep(backoff.next_s())

    async def catch_up(self) -> None:
        """Reads to the end of the log."""
        while True:
            count, changed = await self._database.write(self._step)
            for session_id in changed:
                self._on_change(session_id)
            if count < _AT_A_TIME:
                return

    def _step(self, connection: sa.Connection) -> tuple[int, list[str]]:
        cursor = schema.cursor
        read = sa.select(cursor.c.position).where(cursor.c.consumer == self._name)
        entries = entries_after(connection, connection.scalar(read) or 0, _AT_A_TIME)
        if not entries:
            return 0, []
        # dict, not set: sessions are told in the order they changed.
        changed = {session_id: None for entry in entries if (session_id := self._effect(connection, entry))}
        move = insert(cursor).values(consumer=self._name, position=entries[-1].position)
        connection.execute(
            move.on_conflict_do_update(index_elements=[cursor.c.consumer], set_={"position": move.excluded.position})
        )
        return len(entries), list(changed)


def boards_consumer(database: Database, counters: Counters, on_change: Callable[[str], None]) -> Consumer:
    """Keeps the boards of sessions and alerts."""
    return Consumer("boards", boards.apply, database, counters, on_change)


def fleet_consumer(database: Database, counters: Counters, on_change: Callable[[str], None]) -> Consumer:
    """Keeps the boards of boxes; never woken, since nobody waits for a heartbeat to be a few seconds old."""
    return Consumer("fleet", fleet.apply, database, counters, on_change)

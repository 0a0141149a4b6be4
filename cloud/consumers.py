"""Consumers read the log after a cursor; effects and cursor commit together. Here is the cloud's restart barrier."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

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

# What a value raises that no column takes, on either engine.
_POISON = (sa.exc.DataError, sa.exc.IntegrityError, OverflowError)

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
            try:
                count, changed = await self._database.write(partial(self._step, _AT_A_TIME))
            except _POISON:
                count, changed = _AT_A_TIME, await self._one_by_one()
            for session_id in changed:
                self._on_change(session_id)
            if count < _AT_A_TIME:
                return

    async def _one_by_one(self) -> list[str]:
        """Gets past an entry that no table takes: one box's nonsense must not keep every other's alarms away."""
        changed: list[str] = []
        for _ in range(_AT_A_TIME):
            try:
                changed += (await self._database.write(partial(self._step, 1)))[1]
            except _POISON as error:
                position = await self._database.write(self._skip)
                self._counters.add("consumer_entries_skipped")
                _log.error("consumer %s passes over log entry %d: %s", self._name, position, type(error).__name__)
        return changed

    def _step(self, most: int, connection: sa.Connection) -> tuple[int, list[str]]:
        entries = self._following(connection, most)
        if not entries:
            return 0, []
        # dict, not set: sessions are told in the order they changed.
        changed = {session_id: None for entry in entries if (session_id := self._effect(connection, entry))}
        self._move(connection, entries[-1].position)
        return len(entries), list(changed)

    def _skip(self, connection: sa.Connection) -> int:
        """Moves past the next entry without its effect; its position."""
        (entry,) = self._following(connection, 1)
        self._move(connection, entry.position)
        return entry.position

    def _following(self, connection: sa.Connection, most: int) -> list[StoredEntry]:
        read = sa.select(schema.cursor.c.position).where(schema.cursor.c.consumer == self._name)
        return entries_after(connection, connection.scalar(read) or 0, most)

    def _move(self, connection: sa.Connection, position: int) -> None:
        move = insert(schema.cursor).values(consumer=self._name, position=position)
        moved = {"position": move.excluded.position}
        connection.execute(move.on_conflict_do_update(index_elements=[schema.cursor.c.consumer], set_=moved))


def boards_consumer(database: Database, counters: Counters, on_change: Callable[[str], None]) -> Consumer:
    """Keeps the boards of sessions and alerts."""
    return Consumer("boards", boards.apply, database, counters, on_change)


def fleet_consumer(database: Database, counters: Counters, on_change: Callable[[str], None]) -> Consumer:
    """Keeps the boards of boxes; never woken, since nobody waits for a heartbeat to be a few seconds old."""
    return Consumer("fleet", fleet.apply, database, counters, on_change)

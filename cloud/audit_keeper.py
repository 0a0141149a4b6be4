"""Keeps the audit trail while the cloud runs: notes its head outside the store, and removes what is old enough."""

from __future__ import annotations

import asyncio
import logging

from cloud.api.audit import Audit
from cloud.counters import Counters
from cloud.store.audit import table
from cloud.store.audit.head import HeadFile, contradictions
from cloud.store.database import Database, StoreUnavailable
from wire.clock import Clock

_log = logging.getLogger(__name__)

# Each note is a sync of its own on the disk that receipts wait for; a cut of less than this at the end goes unnoticed.
_BETWEEN_NOTES_S = 0.25
_NOTE_AGAIN_S = 10.0
# Rows grow old by the day; more often only makes the pieces smaller.
_BETWEEN_REMOVALS_S = 3600.0


class AuditKeeper:
    """Compares when entered, notes and removes while its two loops run, notes once more when left."""

    def __init__(
        self, database: Database, audit: Audit, head: HeadFile, clock: Clock, counters: Counters, *, keep_days: int
    ) -> None:
        self._database, self._audit, self._head = database, audit, head
        self._clock, self._counters, self._keep_days = clock, counters, keep_days

    async def __aenter__(self) -> AuditKeeper:
        """Compares the chain with what was noted of it. Raises StoreUnavailable, OSError."""
        await asyncio.to_thread(self._compare)
        return self

    async def __aexit__(self, *_: object) -> None:
        """The last rows are noted too; a disk that refuses that leaves a note that is a little old."""
        try:
            await asyncio.to_thread(self.note)
        except (StoreUnavailable, OSError) as error:
            _log.warning("audit: the last head is not noted: %s", error)

    def _compare(self) -> None:
        """A cloud with a contradicted chain runs, since patients need it, and keeps the note until a person accepts."""
        notes = self._head.read()
        wrong = self._database.read_now(lambda connection: contradictions(connection, notes))
        for why in wrong.values():
            _log.error("audit: %s; once that is explained: vitalwire audit head --accept --reason TEXT -c CONFIG", why)
        if wrong:
            self._counters.add("audit_contradictions", len(wrong))
            self._head.dispute(list(wrong))
        if not notes and self._database.read_now(table.newest).number:
            _log.warning(
                "audit: no %s: right after an upgrade; later a cut end of the chain is not seen", self._head.path
            )
        self.note()

    def note(self) -> None:
        """Writes the chain's last row into the head file. Raises StoreUnavailable, OSError."""
        self._head.write(self._database.read_now(table.newest))

    async def keep_head(self) -> None:
        """Notes after commits, until cancelled."""
        while True:
            await self._audit.moved.wait()
            self._audit.moved.clear()
            try:
                await asyncio.to_thread(self.note)
                wait_s = _BETWEEN_NOTES_S
            except (StoreUnavailable, OSError) as error:
                _log.warning("audit: the head is not noted: %s; trying again in %.0f s", error, _NOTE_AGAIN_S)
                self._audit.moved.set()
                wait_s = _NOTE_AGAIN_S
            await asyncio.sleep(wait_s)

    async def keep_rows(self) -> None:
        """Removes what is old, until cancelled."""
        while True:
            try:
                await self.remove_old()
            except StoreUnavailable as error:
                _log.warning("audit: old rows are not removed: %s", error)
            await asyncio.sleep(_BETWEEN_REMOVALS_S)

    async def remove_old(self) -> int:
        """Removes every row that is old enough, a piece a transaction; returns how many. Raises StoreUnavailable."""
        engine, now_us, removed = self._database.engine, self._clock.now_us(), 0
        while count := await self._database.write(
            lambda connection: table.remove_old(engine, connection, now_us, self._keep_days)
        ):
            removed += count
        if removed:
            _log.info("audit: %d rows older than %d days removed", removed, self._keep_days)
            self._counters.add("audit_rows_removed", removed)
            self._audit.moved.set()
        return removed

"""Who looked at what: every view and action, and every refusal, is a row that nothing changes or deletes."""

from __future__ import annotations

import sqlalchemy as sa

from cloud.store import schema
from cloud.store.database import Database
from wire.clock import Clock


class Audit:
    """Writes the audit table; an answer is given only after its row is committed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def write(self, principal: str, role: str, action: str, about: str, source: str, result: str) -> None:
        """One row. Raises StoreUnavailable, and then nothing is shown."""
        row = {
            "at_us": self._clock.now_us(),
            "principal": principal,
            "role": role,
            "action": action,
            "object": about[:200],
            "source": source,
            "result": result,
        }
        await self._database.write(lambda connection: _insert(connection, row))


def _insert(connection: sa.Connection, row: dict[str, object]) -> None:
    connection.execute(schema.audit.insert().values(row))

"""What differs between the databases a store may lie in: how they open, how rows go in, what their errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

Row = tuple[Any, ...]  # Any: the columns' types are in the schema, where mypy does not look


class Insert(NamedTuple):
    """Many rows for one table, `columns` naming what each holds in order."""

    table: str
    columns: tuple[str, ...]
    # A row whose key is there already is left out instead of being an error.
    is_once: bool = False

    def sql(self) -> str:
        """The statement for one row. Table and columns are our own names."""
        marks = ",".join("?" * len(self.columns))
        statement = f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({marks})"  # noqa: S608
        return f"{statement} ON CONFLICT DO NOTHING" if self.is_once else statement


class Writer(Protocol):
    """The driver's own connection within a transaction, for the append path: there a row costs a third of Core's.

    SQL is what both databases read, with `?` for a value. Raises what the driver raises.
    """

    def execute(self, sql: str, values: Sequence[object] = ()) -> int:
        """Runs one statement; returns how many rows it changed."""

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Runs one statement that answers with rows."""

    def insert(self, into: Insert, rows: Sequence[Row]) -> int:
        """Adds rows in order; returns how many were added."""


class StoreEngine(Protocol):
    """One opened database."""

    core: sa.Engine

    @property
    def unavailable(self) -> tuple[type[Exception], ...]:
        """The disk or the server does not take or give what it should: the same again may work later."""

    @property
    def poison(self) -> tuple[type[Exception], ...]:
        """What one bad batch can raise and a healthy store cannot."""

    def begin_migration(self, connection: sa.Connection) -> None:
        """Keeps every other process from migrating until this transaction ends."""

    def lock_audit(self, connection: sa.Connection) -> None:
        """Makes this transaction, which has done nothing yet, the only one that adds to the audit chain."""

    def writer(self, connection: sa.Connection) -> Writer:
        """The append path's way into the transaction of `connection`."""

    def close(self) -> None:
        """Closes every connection."""


def insert(table: sa.Table) -> postgresql.Insert:
    """An INSERT with ON CONFLICT. SQLite took the clause from PostgreSQL, and its compiler reads this statement."""
    return postgresql.insert(table)

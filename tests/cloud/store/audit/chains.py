"""Chains to test with: entries, a store that holds some, and the walk along them."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from cloud.store.audit import table
from cloud.store.audit.chain import START, Entry, Head, Row, Walk, link
from cloud.store.database import Database
from tests.cloud.cloud_frames import NOW_US

DAY_US = 24 * 3600 * 1_000_000


def entry(n: int, at_us: int | None = None) -> Entry:
    """The n-th of many entries that differ in every text."""
    moment_us = NOW_US + n if at_us is None else at_us
    return Entry(moment_us, f"王医生{n}", f"role {n}", f"view {n}", f"s{n}", f"10.0.0.{n}", f"allowed {n}", f"why {n}")


def chain(count: int) -> list[Row]:
    rows: list[Row] = []
    last = START
    for n in range(count):
        rows.append(link(last, entry(n)))
        last = Head(rows[-1].number, rows[-1].hash)
    return rows


def walk(rows: Iterable[Row]) -> Walk:
    """Raises ChainBroken."""
    walked = Walk()
    for row in rows:
        walked.take(row)
    walked.end()
    return walked


def add(database: Database, entries: Iterable[Entry]) -> Head:
    added = list(entries)
    return database.transaction(lambda connection: table.append(database.engine, connection, added))


def stored(database: Database) -> list[Row]:
    return database.read_now(lambda connection: list(table.rows(connection)))


def unguarded(database: Database, statement: str, values: dict[str, object] | None = None) -> None:
    """Changes the table as somebody does who may take its triggers away."""

    def change(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
            connection.execute(sa.text(statement), values)
            connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER ALL")
            return
        triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
        for name, _sql in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.execute(sa.text(statement), values)
        for _name, sql in triggers:
            connection.exec_driver_sql(sql)

    database.transaction(change)

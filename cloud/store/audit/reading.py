"""Looks at a chain where it lies, changing nothing: also beside a running cloud, in a backup, in an exported file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import sqlalchemy as sa
import sqlalchemy.exc

from cloud.store.audit import table
from cloud.store.audit.chain import START, ChainBroken, Head, Row, Walk
from cloud.store.audit.export import rows_of
from cloud.store.audit.head import contradictions
from cloud.store.location import ServerStore, StoreLocation

_BUSY_S = 10.0


class ChainUnreadable(Exception):
    """There is no chain to look at; the text says why."""


class Verdict(NamedTuple):
    """What was walked, and everything that is wrong, the first wrong row first."""

    rows: int
    start: Head
    last: Head
    problems: tuple[str, ...]


@contextmanager
def opened(location: StoreLocation) -> Iterator[sa.Connection]:
    """One moment of a store, read-only. Raises ChainUnreadable."""
    engine = _server_engine(location) if isinstance(location, ServerStore) else _file_engine(location)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            if not sa.inspect(connection).has_table("audit"):
                raise ChainUnreadable(f"{location}: not a store")
            if "hash" not in {column["name"] for column in sa.inspect(connection).get_columns("audit")}:
                raise ChainUnreadable(
                    f"{location}: an older version wrote it; its rows are chained when the cloud starts"
                )
            yield connection
    except sqlalchemy.exc.DBAPIError as error:
        raise ChainUnreadable(f"{location}: {' '.join(str(error.orig).split())}") from error
    finally:
        engine.dispose()


def verify(connection: sa.Connection, notes: list[str]) -> Verdict:
    """Walks the chain and compares it with what was noted of it, before `connection` was opened."""
    verdict = walk(table.rows(connection))
    wrong = contradictions(connection, notes)
    return verdict._replace(problems=(*verdict.problems, *wrong.values()))


def verify_file(path: Path, notes: list[str]) -> Verdict:
    """As `verify`, of an exported file. Raises OSError."""
    missing = dict.fromkeys(notes)

    def watched(file: BinaryIO) -> Iterator[Row]:
        for row in rows_of(file):
            missing.pop(str(Head(row.number, row.hash)), None)
            yield row

    with path.open("rb") as file:
        verdict = walk(watched(file))
    return verdict._replace(
        problems=(*verdict.problems, *(f"{note} was noted and is not in the file" for note in missing))
    )


def walk(rows: Iterable[Row]) -> Verdict:
    """Walks rows to the first wrong one."""
    walked, count, problems = Walk(), 0, []
    try:
        for row in rows:
            walked.take(row)
            count += 1
        walked.end()
    except ChainBroken as error:
        problems.append(str(error))
    return Verdict(count, walked.start or START, walked.last, tuple(problems))


def _file_engine(path: Path) -> sa.Engine:
    if not path.is_file():
        raise ChainUnreadable(f"{path}: no such store")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        # A text that somebody made no text is a finding, not an error: its bytes count as they are.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)


def _server_engine(location: ServerStore) -> sa.Engine:
    # A cloud on SQLite has no driver of another database installed.
    from cloud.store.postgres import PostgresEngine

    core = PostgresEngine(location).core
    return core.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

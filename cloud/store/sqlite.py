"""A store in a SQLite file: the default, for one cloud on one machine."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cloud.store.engine import Insert, Row

_log = logging.getLogger(__name__)

# Readers of a WAL never wait; this is for another process writing.
_BUSY_MS = 5_000

_sql = lru_cache(maxsize=32)(Insert.sql)


class StoreInUse(Exception):
    """Another process has the store open where it must be alone, or is replacing it."""


class StoreLock:
    """Held by everybody who has a store file open, shared, and by who replaces the file, alone.

    A file of its own beside the store, because replacing gives the store's name another inode. The kernel lets go of
    it when its process ends, even by kill -9.
    """

    def __init__(self, store: Path, *, is_alone: bool) -> None:
        """Raises StoreInUse."""
        self._file = os.open(store.with_name(f"{store.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, (fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise StoreInUse(
                f"{store} is open in another process" if is_alone else f"{store} is just being replaced"
            ) from None

    def release(self) -> None:
        """Lets go; again is no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class SqliteEngine:
    """One opened file. Raises StoreInUse while it is being replaced."""

    unavailable = (sqlite3.OperationalError,)
    poison = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
        OverflowError,
        ValueError,
    )

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = StoreLock(path, is_alone=False)
        try:
            create_private(path)
            _tighten(path)
        except BaseException:
            self._lock.release()
            raise
        self.core = sa.create_engine(sa.URL.create("sqlite", database=str(path)), pool_size=8, hide_parameters=True)
        sa.event.listen(self.core, "connect", _prepare_connection)

    def begin_migration(self, connection: sa.Connection) -> None:
        """The driver begins no transaction for CREATE TABLE: without this a crash would leave half a step."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def lock_audit(self, connection: sa.Connection) -> None:
        """The driver begins a transaction only at the first change: another process could add a row before it."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def writer(self, connection: sa.Connection) -> SqliteWriter:
        """The append path's way into the transaction of `connection`."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return SqliteWriter(driver)

    def close(self) -> None:
        """Closes every connection."""
        self.core.dispose()
        self._lock.release()


def create_private(path: Path) -> None:
    """Makes an empty file that only its owner may read, unless it is there: SQLite itself would ask the umask.

    Its log and index, -wal and -shm, take the file's mode.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _tighten(path: Path) -> None:
    """Takes a store that an older version made from everybody else; one of another user stays as it is."""
    files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    lax = [file for file in files if file.exists() and file.stat().st_mode & 0o077]
    try:
        for file in lax:
            file.chmod(0o600)
    except PermissionError as error:
        _log.warning("others may read the store, and this user cannot forbid it: %s", error)
    else:
        if lax:
            _log.warning("others could read the store, now only its owner can: %s", ", ".join(map(str, lax)))


class SqliteWriter:
    """The append path on sqlite3."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver

    def execute(self, sql: str, values: Sequence[object] = ()) -> int:
        """Runs one statement; returns how many rows it changed."""
        return self._driver.execute(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Runs one statement that answers with rows."""
        return self._driver.execute(sql, values).fetchall()

    def insert(self, into: Insert, rows: Sequence[Row]) -> int:
        """Adds rows in order; returns how many were added."""
        return self._driver.executemany(_sql(into), rows).rowcount


def _prepare_connection(driver: sqlite3.Connection, _: Any) -> None:  # Any: the pool's own record
    driver.execute("PRAGMA journal_mode = WAL")
    # A receipt is a promise: FULL syncs the log at every commit, so that power loss cannot break it.
    driver.execute("PRAGMA synchronous = FULL")
    driver.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    # The default of 1000 pages makes a checkpoint every 4 MiB, which is every group commit under load.
    driver.execute("PRAGMA wal_autocheckpoint = 8000")
    driver.execute("PRAGMA journal_size_limit = 67108864")
    driver.execute("PRAGMA cache_size = -16384")

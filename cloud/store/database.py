"""Opens the store: SQLite file, tables brought up to date, one writing thread, readers beside it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects.sqlite import insert

from cloud.store import schema

T = TypeVar("T")

STORE_ID_BYTES = 16
# Readers of a WAL never wait; this is for another process writing, such as a backup.
_BUSY_MS = 5_000


class StoreUnavailable(Exception):
    """The disk does not take or give what it should: wait and try the same again."""


class Database:
    """Engine, identity and the one writing thread of a store."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = sa.create_engine(f"sqlite:///{path}", pool_size=8)
        sa.event.listen(self.engine, "connect", _prepare_connection)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writer")
        try:
            _migrate(self.engine)
            self.store_id = self._identity()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Waits for what is being written, then closes the file."""
        self._writer.shutdown(wait=True)
        self.engine.dispose()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` in one transaction on the writing thread. Raises StoreUnavailable."""
        return await self.on_writer(lambda: self._transaction(work))

    async def on_writer(self, work: Callable[[], T]) -> T:
        """Runs `work`, which opens its own transactions, on the writing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` on a connection of its own beside the writer. Raises StoreUnavailable."""
        return await asyncio.to_thread(self.read_now, work)

    def read_now(self, work: Callable[[sa.Connection], T]) -> T:
        """As `read`, on the caller's thread."""
        try:
            with self.engine.connect() as connection:
                return work(connection)
        except sqlalchemy.exc.OperationalError as error:
            raise StoreUnavailable(str(error.orig)) from error

    def _transaction(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except sqlalchemy.exc.OperationalError as error:
            raise StoreUnavailable(str(error.orig)) from error
        except sqlite3.OperationalError as error:  # from the append path, which speaks to the driver itself
            raise StoreUnavailable(str(error)) from error

    def transaction(self, work: Callable[[sa.Connection], T]) -> T:
        """As `write`, for callers already on the writing thread or without a loop."""
        return self._transaction(work)

    def _identity(self) -> bytes:
        """The store's id, minted with the file: a copy keeps it, a new store has another."""

        def read_or_mint(connection: sa.Connection) -> bytes:
            mint = insert(schema.meta).values(name="store_id", value=os.urandom(STORE_ID_BYTES))
            connection.execute(mint.on_conflict_do_nothing())
            value = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == "store_id"))
            assert isinstance(value, bytes)
            return value

        return self._transaction(read_or_mint)


def driver_connection(connection: sa.Connection) -> sqlite3.Connection:
    """The driver's own connection, in the same transaction: executemany there costs a third of Core's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _prepare_connection(driver: sqlite3.Connection, _: Any) -> None:  # Any: the pool's own record
    driver.execute("PRAGMA journal_mode = WAL")
    # A receipt is a promise: FULL syncs the log at every commit, so that power loss cannot break it.
    driver.execute("PRAGMA synchronous = FULL")
    driver.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    # The default of 1000 pages makes a checkpoint every 4 MiB, which is every group commit under load.
    driver.execute("PRAGMA wal_autocheckpoint = 8000")
    driver.execute("PRAGMA journal_size_limit = 67108864")
    driver.execute("PRAGMA cache_size = -16384")


def _migrate(engine: sa.Engine) -> None:
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        # The driver begins no transaction for CREATE TABLE: without this a crash would leave half a step.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")

"""Opens the store wherever it lies: tables brought up to date, one writing thread, readers beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from cloud.store import schema
from cloud.store.engine import StoreEngine, insert
from cloud.store.location import ServerStore, StoreLocation
from cloud.store.sqlite import SqliteEngine, StoreInUse

T = TypeVar("T")

STORE_ID_BYTES = 16
STORE_ID = "store_id"  # its row in the table `meta`


# A rule of the store itself does not take a row: a guard of the audit chain, a key.
RowRefused = sa.exc.IntegrityError


class StoreUnavailable(Exception):
    """The disk or the server does not take or give what it should: wait and try the same again."""


class StoreTooNew(Exception):
    """A newer version has written this store: stop, this one would not understand it."""


class StoreUnreadable(Exception):
    """The file is no store, or a broken one: stop, and restore a backup or name another file."""


class Database:
    """Engine, identity and the one writing thread of a store."""

    def __init__(self, location: StoreLocation) -> None:
        """Raises StoreUnavailable, StoreTooNew, StoreUnreadable."""
        try:
            self.engine = _open(location)
        except StoreInUse as error:
            raise StoreUnavailable(str(error)) from error
        except OSError as error:  # its folder cannot be made, or not be written to
            raise StoreUnavailable(f"{error.filename}: {error.strerror}") from error
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writer")
        try:
            with self._named_errors():
                _migrate(self.engine)
            self.store_id = self._identity()
        except sqlalchemy.exc.DatabaseError as error:
            self.close()
            if type(error) is not sqlalchemy.exc.DatabaseError:  # its subclasses say something else
                raise
            raise StoreUnreadable(_on_one_line(error.orig)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Waits for what is being written, then closes the store."""
        self._writer.shutdown(wait=True)
        self.engine.close()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` in one transaction on the writing thread. Raises StoreUnavailable."""
        return await self.on_writer(lambda: self.transaction(work))

    async def on_writer(self, work: Callable[[], T]) -> T:
        """Runs `work`, which opens its own transactions, on the writing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def queue_on_writer(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """As `on_writer`, queued at once: it runs also when nobody waits for the future any more, unless cancelled."""
        return asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def answer(self) -> None:
        """Returns once the writing thread has done what it was asked before; not while it hangs."""
        await self.on_writer(lambda: None)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """As `read_now`, on a thread of its own."""
        return await asyncio.to_thread(self.read_now, work)

    def read_now(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` on a connection of its own beside the writer, on the caller's thread. Raises StoreUnavailable."""
        with self._named_errors(), self.engine.core.connect() as connection:
            return work(connection)

    def transaction(self, work: Callable[[sa.Connection], T]) -> T:
        """As `write`, for callers already on the writing thread or without a loop."""
        with self._named_errors(), self.engine.core.begin() as connection:
            return work(connection)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What the engine calls unavailable, from the driver itself or wrapped by Core, as StoreUnavailable."""
        try:
            yield
        except sqlalchemy.exc.DBAPIError as error:
            if isinstance(error.orig, self.engine.unavailable):
                raise StoreUnavailable(_on_one_line(error.orig)) from error
            raise
        except self.engine.unavailable as error:
            raise StoreUnavailable(_on_one_line(error)) from error

    def _identity(self) -> bytes:
        """The store's id, minted with its tables: a copy keeps it, a new or restored store has another."""

        def read_or_mint(connection: sa.Connection) -> bytes:
            mint = insert(schema.meta).values(name=STORE_ID, value=os.urandom(STORE_ID_BYTES))
            connection.execute(mint.on_conflict_do_nothing())
            value = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == STORE_ID))
            assert isinstance(value, bytes)
            return value

        return self.transaction(read_or_mint)


def _open(location: StoreLocation) -> StoreEngine:
    if isinstance(location, ServerStore):
        # A cloud on SQLite has no driver of another database installed.
        from cloud.store.postgres import PostgresEngine

        return PostgresEngine(location)
    return SqliteEngine(location)


def _on_one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _steps() -> Config:
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return alembic


def known_revisions() -> set[str]:
    """Every schema revision this version can bring up to date."""
    return {step.revision for step in ScriptDirectory.from_config(_steps()).walk_revisions()}


def _migrate(engine: StoreEngine) -> None:
    alembic = _steps()
    with engine.core.begin() as connection:
        engine.begin_migration(connection)
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in known_revisions():
            raise StoreTooNew(f"the store's schema is {found}, which this version does not know; a newer one wrote it")
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")

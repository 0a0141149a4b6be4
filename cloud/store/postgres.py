"""A store in a PostgreSQL database, for a site that has a server of its own to keep and copy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql as compose

from cloud.store.engine import Insert, Row
from cloud.store.location import ServerStore

_CONNECT_S = 5
# A group commit takes milliseconds; a statement this late waits on a lock or a sick disk, and is tried again.
_STATEMENT_MS = 30_000
# A server that is gone without a word: the kernel gives up what it sent, or what it listens for, in about this time.
_SILENT_S = 10
# Who migrates holds this lock; the number is "vitalwir" as bytes, so that nobody else on the server means it.
_MIGRATION_LOCK = int.from_bytes(b"vitalwir", "big")
# Who adds to the audit chain holds this one until the end of its transaction.
_AUDIT_LOCK = int.from_bytes(b"vw-audit", "big")

_CONNECT = {
    "connect_timeout": _CONNECT_S,
    "options": f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout={_STATEMENT_MS}",
    "tcp_user_timeout": _SILENT_S * 1000,
    "keepalives_idle": _SILENT_S,
    "keepalives_interval": _SILENT_S // 2,
    "keepalives_count": 2,
    "application_name": "vitalwire",
}


@lru_cache(maxsize=64)
def _in_psycopg(sql: str) -> bytes:
    """Our `?` as psycopg's `%s`; bytes because psycopg refuses a str that is not a literal."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


@lru_cache(maxsize=32)
def _copy(into: Insert) -> compose.Composed:
    columns = compose.SQL(",").join(map(compose.Identifier, into.columns))
    return compose.SQL("COPY {} ({}) FROM STDIN").format(compose.Identifier(into.table), columns)


class PostgresEngine:
    """One database on a server."""

    # A missing table or right is a ProgrammingError: a person mends it on the server, no batch is to blame.
    unavailable = (
        psycopg.OperationalError,
        psycopg.InterfaceError,
        psycopg.InternalError,
        psycopg.ProgrammingError,
    )
    poison = (psycopg.IntegrityError, psycopg.DataError, OverflowError, ValueError)

    def __init__(self, store: ServerStore) -> None:
        url = sa.make_url(store.url)
        if store.password:
            url = url.set(password=store.password)
        self.core = sa.create_engine(url, pool_size=8, pool_pre_ping=True, connect_args=_CONNECT, hide_parameters=True)
        sa.event.listen(self.core, "connect", _prepare_connection)

    def begin_migration(self, connection: sa.Connection) -> None:
        """Waits for whoever migrates now; a step over a large table may take its time."""
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")

    def lock_audit(self, connection: sa.Connection) -> None:
        """Waits for whoever adds to the chain now."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_AUDIT_LOCK})")

    def writer(self, connection: sa.Connection) -> PostgresWriter:
        """The append path's way into the transaction of `connection`."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return PostgresWriter(driver)

    def close(self) -> None:
        """Closes every connection."""
        self.core.dispose()


class PostgresWriter:
    """The append path on psycopg."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:  # Any: rows of any table
        self._driver = driver

    def execute(self, sql: str, values: Sequence[object] = ()) -> int:
        """Runs one statement; returns how many rows it changed."""
        return self._driver.execute(_in_psycopg(sql), values).rowcount

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Runs one statement that answers with rows."""
        return self._driver.execute(_in_psycopg(sql), values).fetchall()

    def insert(self, into: Insert, rows: Sequence[Row]) -> int:
        """Adds rows in order; returns how many were added."""
        with self._driver.cursor() as cursor:
            if into.is_once:  # COPY knows no ON CONFLICT; these are few
                cursor.executemany(_in_psycopg(into.sql()), rows)
            else:
                with cursor.copy(_copy(into)) as copy:
                    for row in rows:
                        copy.write_row(row)
            return cursor.rowcount


def _prepare_connection(driver: psycopg.Connection[Any], _: Any) -> None:  # Any: the pool's own record
    # A receipt is a promise: a server set to answer before its disk did is overruled, a stricter one is left as it is.
    driver.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    driver.commit()

"""The chain in its table: added to at the end, its oldest rows removed by retention, read in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from cloud.store import schema
from cloud.store.audit.chain import MIN_KEEP_DAYS, START, ChainBroken, Entry, Head, Row, link, removal
from cloud.store.engine import StoreEngine
from wire.clock import MICROSECONDS

_DAY_US = 24 * 3600 * MICROSECONDS
# Rows removed in one transaction: some 20 ms, which ingest waits.
MOST_REMOVED = 5_000
# Rows fetched at once while the chain is read: a few MB.
_ROWS_AT_ONCE = 5_000

_table = schema.audit
_number = _table.c.audit_id
_ENTRY = tuple(_table.c[name] for name in Entry._fields)
_COLUMNS = (_number, *_ENTRY, _table.c.previous, _table.c.hash)
_KINDS: dict[str, type] = {"audit_id": int, "at_us": int, "previous": bytes, "hash": bytes}


def append(engine: StoreEngine, connection: sa.Connection, entries: Sequence[Entry]) -> Head:
    """Adds rows behind the last one, whoever wrote that; must be the first thing its transaction does."""
    engine.lock_audit(connection)
    return _append(connection, entries)


def _append(connection: sa.Connection, entries: Sequence[Entry]) -> Head:
    last = newest(connection)
    rows = []
    for entry in entries:
        row = link(last, entry.cleaned())
        rows.append(dict(zip((column.name for column in _COLUMNS), _values(row), strict=True)))
        last = Head(row.number, row.hash)
    if rows:
        connection.execute(_table.insert(), rows)
    return last


def newest(connection: sa.Connection) -> Head:
    """The last row; START of a chain without rows."""
    found = connection.execute(sa.select(_number, _table.c.hash).order_by(_number.desc()).limit(1)).one_or_none()
    return START if found is None else Head(*found)


def head_at(connection: sa.Connection, number: int) -> Head | None:
    """The row of this number, None when there is none."""
    found = connection.execute(sa.select(_number, _table.c.hash).where(_number == number)).one_or_none()
    return None if found is None else Head(*found)


def first_number(connection: sa.Connection) -> int:
    """The number of the oldest row kept; 0 without rows."""
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.min(_number), 0))) or 0)


def remove_old(engine: StoreEngine, connection: sa.Connection, now_us: int, keep_days: int) -> int:
    """Removes what lies before the first row that is to be kept, MOST_REMOVED at most, and says so in a row.

    Returns how many. Must be the first thing its transaction does.
    """
    assert keep_days >= MIN_KEEP_DAYS
    engine.lock_audit(connection)
    cutoff_us = now_us - keep_days * _DAY_US
    oldest = sa.select(_number, _table.c.hash, _table.c.at_us).order_by(_number).limit(MOST_REMOVED)
    last_removed, count = START, 0
    for number, digest, at_us in connection.execute(oldest):
        if at_us >= cutoff_us:
            break
        last_removed, count = Head(number, digest), count + 1
    if count:
        _append(connection, [removal(last_removed, now_us, keep_days)])
        connection.execute(sa.delete(_table).where(_number <= last_removed.number))
    return count


def rows(connection: sa.Connection) -> Iterator[Row]:
    """Every row in order. Raises ChainBroken where a value is not even of its kind."""
    query = sa.select(*_COLUMNS).order_by(_number).execution_options(yield_per=_ROWS_AT_ONCE)
    for values in connection.execute(query):
        yield row_of(tuple(values))


def _values(row: Row) -> tuple[object, ...]:
    return (row.number, *row.entry, row.previous, row.hash)


def row_of(values: tuple[object, ...]) -> Row:
    """SQLite keeps any value in any column: only what the chain was made of counts. Raises ChainBroken."""
    number, at_us, *texts, previous, digest = values
    if not isinstance(number, int):
        raise ChainBroken(0, f"a row has the number {number!r}")
    for column, value in zip(_COLUMNS, values, strict=True):
        if type(value) is not (kind := _KINDS.get(column.name, str)):
            raise ChainBroken(number, f"its {column.name} is not {kind.__name__} but {type(value).__name__}")
    return Row(number, Entry(at_us, *texts), previous, digest)  # type: ignore[arg-type]  # just looked at

"""Which version of every row a store on SQLite holds, to show that no row is ever changed in place."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from cloud.store import schema

# What is stored. Boards, cursors and merged runs are derived from it and do change.
STORED = (
    schema.numeric,
    schema.waveform,
    schema.entry,
    schema.series,
    schema.stream,
    schema.epoch,
    schema.batch,
    schema.anchor,
    schema.placement,
    schema.unread,
    schema.conflict,
    schema.dead_letter,
)


class RowKey(NamedTuple):
    """A row by its table and primary key."""

    table: str
    key: tuple[Any, ...]  # Any: whatever the columns hold


def row_versions(store: Path) -> dict[RowKey, bytes]:
    """A digest of every row, all of one moment, also while the cloud writes."""
    versions: dict[RowKey, bytes] = {}
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for table in STORED:
            names = [column.name for column in table.primary_key]
            for row in connection.execute(f"SELECT {', '.join(names)}, * FROM {table.name}"):
                versions[RowKey(table.name, row[: len(names)])] = hashlib.sha256(repr(row).encode()).digest()
    return versions


def not_as_before(before: Mapping[RowKey, bytes], after: Mapping[RowKey, bytes]) -> set[RowKey]:
    """Rows of before that are gone or another version now."""
    return {key for key, version in before.items() if after.get(key) != version}


def update_one(store: Path, row: RowKey) -> None:
    """What must never happen: marks a stored row as placed where it stands."""
    (table,) = (one for one in STORED if one.name == row.table)
    where = " AND ".join(f"{column.name} = ?" for column in table.primary_key)
    with closing(sqlite3.connect(store)) as connection, connection:
        assert connection.execute(f"UPDATE {row.table} SET placed = 1 - placed WHERE {where}", row.key).rowcount == 1

"""Looks at a box's spool without touching it, also while the agent runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.spool.chunk import Chunk
from edge.spool.cipher import Cipher, key_id_of
from edge.spool.segment import SegmentCorrupt, files_of, read_chunk
from wire.messages import Lane
from wire.runs import RunSet


class SegmentView(NamedTuple):
    """One file of the spool as it lies there; times are wall-clock µs UTC, 0 when it holds nothing."""

    lane: Lane
    path: Path
    bytes: int
    records: int
    pending: int
    oldest_us: int
    newest_us: int
    keys: tuple[str, ...]  # ids of the keys that encrypted it, "" for plain
    problem: str = ""


def segments(folder: Path) -> Iterator[SegmentView]:
    """Every segment, lane by lane, oldest first; one that cannot be read or was set aside says why."""
    for lane in Lane:
        for path in sorted((folder / lane.value).glob("*.sqlite")):
            try:
                yield _view(lane, path)
            except SegmentCorrupt as error:
                yield SegmentView(lane, path, _size(path), 0, 0, 0, 0, (), str(error))
        for path in sorted((folder / lane.value).glob("*.quarantined")):
            yield SegmentView(lane, path, _size(path), 0, 0, 0, 0, (), "set aside as unreadable")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in files_of(path) if file.exists())


def _view(lane: Lane, path: Path) -> SegmentView:
    with _reading(path) as database:
        held, pending = _runs(database)
        oldest_us, newest_us = database.execute("SELECT min(wall_us), max(wall_us) FROM chunk").fetchone()
        heads = database.execute("SELECT DISTINCT CAST(substr(records, 1, 8) AS BLOB) FROM chunk").fetchall()
        keys = sorted({key_id.hex() if (key_id := key_id_of(bytes(head))) else "" for (head,) in heads})
        return SegmentView(
            lane, path, _size(path), _count(held), _count(pending), oldest_us or 0, newest_us or 0, tuple(keys)
        )


def chunks(view: SegmentView, cipher: Cipher, *, pending_only: bool = False) -> Iterator[Chunk]:
    """Every chunk of a segment, decrypted and checked, oldest first.

    Raises SegmentCorrupt at the first that cannot be read, KeyMissing for a key the cipher does not hold.
    """
    with _reading(view.path) as database:
        _held, pending = _runs(database)
        for row_id, epoch, first_seq, count in database.execute("SELECT id, epoch, first_seq, count FROM chunk"):
            if pending_only and not pending.get(epoch, RunSet()).intersects(first_seq, first_seq + count - 1):
                continue
            chunk = read_chunk(database, cipher, view.lane, row_id)
            if len(chunk.records) != count:
                raise SegmentCorrupt(f"{view.path.name}: chunk {row_id}: {len(chunk.records)} records, {count} noted")
            yield chunk


def _runs(database: sqlite3.Connection) -> tuple[dict[bytes, RunSet], dict[bytes, RunSet]]:
    held: dict[bytes, RunSet] = {}
    pending: dict[bytes, RunSet] = {}
    for epoch, first, last in database.execute("SELECT epoch, first_seq, first_seq + count - 1 FROM chunk"):
        for runs in (held, pending):
            runs.setdefault(epoch, RunSet()).add(first, last)
    for epoch, first, last in database.execute("SELECT epoch, first_seq, last_seq FROM receipted"):
        if epoch in pending:
            pending[epoch].remove(first, last)
    return held, pending


def _count(runs: dict[bytes, RunSet]) -> int:
    return sum(each.count() for each in runs.values())


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, read-only; whatever SQLite finds wrong with it is SegmentCorrupt."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            yield database
    except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
        raise SegmentCorrupt(f"{path.name}: {error}") from error

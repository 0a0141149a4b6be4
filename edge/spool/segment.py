"""One file of a lane's spool: an SQLite log of chunks with what is receipted of them."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from edge.spool.chunk import Chunk, Facts, LostRun
from edge.spool.cipher import Cipher, Forged
from wire.clock import ClockAnchor
from wire.messages import Lane
from wire.runs import RunSet

_SCHEMA = """
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, epoch BLOB NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,
    wall_us INTEGER NOT NULL, anchor BLOB NOT NULL, records BLOB NOT NULL, digest INTEGER);
CREATE TABLE receipted (epoch BLOB NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL);
CREATE TABLE sealed (epoch BLOB NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL);
CREATE TABLE memo (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE transfer (id INTEGER PRIMARY KEY, key BLOB NOT NULL);
PRAGMA user_version = 2;
"""
# Neither SQLite nor MessagePack notices a flipped byte inside a value. Chunks of version 1 have no digest.
_FROM_1 = """
ALTER TABLE chunk ADD COLUMN digest INTEGER;
PRAGMA user_version = 2;
"""
_INSERT_CHUNK = (
    "INSERT INTO chunk (epoch, first_seq, count, wall_us, anchor, records, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_READ_AHEAD_CHUNKS = 32

# Every commit rewrites whole pages: small ones halve what a chunk of 2 KB costs the flash (docs/benchmarks.md).
_PAGE_BYTES = 1024
_CHECKPOINT_PAGES = 4096

_encode = msgspec.msgpack.encode
_decode_anchor = msgspec.msgpack.Decoder(ClockAnchor).decode
_decode_records = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class SegmentCorrupt(Exception):
    """The file cannot be read: set it aside."""


class Segment:
    """One segment file. Used from one thread at a time."""

    def __init__(self, path: Path, lane: Lane, cipher: Cipher) -> None:
        self.path = path
        self._cipher = cipher
        self.lane = lane
        self.bytes = 0
        self.pending: dict[bytes, RunSet] = {}  # stored and not yet receipted, by epoch
        self._held: dict[bytes, RunSet] = {}  # everything stored, by epoch
        self._unflushed: list[tuple[bytes, int, int]] = []  # receipts not yet written down
        self.is_sealed = False  # summed up: nothing more is written to it
        self._scan_after = 0  # chunks up to this id have been offered as backlog
        self._settled_to = 0  # chunks up to this id wait for no receipt
        self._open()

    @contextmanager
    def _corruption_named(self, what: str = "") -> Iterator[None]:
        """Raises SegmentCorrupt for whatever reading a file with wrong bytes in it raises."""
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.MsgspecError, UnicodeDecodeError, TypeError, Forged) as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_corruption(error):
                raise
            raise SegmentCorrupt(f"{self.path.name}: {what}{error}") from error

    def _open(self) -> None:
        with self._corruption_named():
            is_new = not self.path.exists()
            # One worker thread at a time uses it, not always the one that opened it.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            # FULL: append() may only resolve when the disk has the commit (DESIGN.md §3.1).
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = 0 if is_new else self._db.execute("PRAGMA user_version").fetchone()[0]
            if version < 2:
                self._db.executescript(_FROM_1 if version else _SCHEMA)
            self._load()
            self._try_keys()

    def _load(self) -> None:
        rows = self._db.execute("SELECT epoch, first_seq, last_seq FROM sealed").fetchall()
        self.is_sealed = bool(rows)
        if not rows:
            rows = self._db.execute("SELECT epoch, first_seq, first_seq + count - 1 FROM chunk ORDER BY id").fetchall()
        for epoch, first, last in rows:
            self._held.setdefault(epoch, RunSet()).add(first, last)
            self.pending.setdefault(epoch, RunSet()).add(first, last)
        for epoch, first, last in self._db.execute("SELECT epoch, first_seq, last_seq FROM receipted"):
            self._settle(epoch, first, last)
        self._measure()

    def _try_keys(self) -> None:
        """Raises KeyMissing rather than find out later that the newest or the oldest chunk cannot be read."""
        ends = "SELECT id FROM chunk WHERE id IN (SELECT min(id) FROM chunk UNION SELECT max(id) FROM chunk)"
        for (row_id,) in self._db.execute(ends).fetchall():
            with suppress(SegmentCorrupt):  # set aside when it is read
                self._read(row_id)

    def _measure(self) -> None:
        wal = self.path.with_name(self.path.name + "-wal")
        self.bytes = self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    def commit(self, chunks: Sequence[Chunk], facts: Facts) -> None:
        """Writes chunks and their facts as one; on return the disk has all. Raises sqlite3.OperationalError."""
        rows = [self._row(chunk) for chunk in chunks]
        if len(rows) == 1 and facts == Facts():
            self._db.execute(_INSERT_CHUNK, rows[0])  # the usual case: a statement alone is a transaction
        else:
            with self._transaction():
                self._db.executemany(_INSERT_CHUNK, rows)
                self._write_facts(facts)
        for chunk in chunks:
            for runs in (self._held, self.pending):
                runs.setdefault(chunk.epoch, RunSet()).add(chunk.first_seq, chunk.last_seq)
            self.bytes += chunk.size  # near enough until the next look at the file

    def _row(self, chunk: Chunk) -> tuple[bytes, int, int, int, bytes, bytes, int]:
        anchor = _encode(chunk.anchor)
        plain = _encode([msgspec.Raw(record) for record in chunk.records])
        stored = self._cipher.encrypt(plain, _chunk_place(self.lane, chunk.epoch, chunk.first_seq, anchor))
        columns = (chunk.epoch, chunk.first_seq, len(chunk.records), chunk.anchor.wall_us, anchor, stored)
        return *columns, _digest(*columns)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write_facts(self, facts: Facts) -> None:
        for name, value in facts.memos:
            self._db.execute(
                "INSERT INTO memo (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, self._cipher.encrypt(value, _memo_place(self.lane, name))),
            )
        for key in facts.transfers:
            self._db.execute("INSERT INTO transfer (key) VALUES (?)", (key,))

    def carry(self, facts: Facts) -> None:
        """Writes facts without records: those that a new segment takes over from the one before."""
        with self._transaction():
            self._write_facts(facts)

    def facts(self) -> Facts:
        """Every memo and accepted transfer key held in this segment, keys oldest first. Raises SegmentCorrupt."""
        with self._corruption_named("memo or transfer: "):
            rows = self._db.execute("SELECT name, value FROM memo").fetchall()
            memos = tuple((name, self._cipher.decrypt(value, _memo_place(self.lane, name))) for name, value in rows)
            return Facts(memos, tuple(row[0] for row in self._db.execute("SELECT key FROM transfer ORDER BY id")))

    def holds(self, epoch: bytes, first_seq: int, last_seq: int) -> bool:
        """Whether any record of the run is in this segment."""
        return epoch in self._held and self._held[epoch].intersects(first_seq, last_seq)

    def receipted(self, epoch: bytes, first_seq: int, last_seq: int) -> None:
        """Takes a receipted run out of what is pending.

        Only what is held is noted: a receipt that claims more must not settle records yet to come.
        """
        self._unflushed += [(epoch, first, last) for first, last in self._settle(epoch, first_seq, last_seq)]

    def _settle(self, epoch: bytes, first_seq: int, last_seq: int) -> list[tuple[int, int]]:
        runs = self.pending.get(epoch)
        if runs is None:
            return []
        settled = runs.remove(first_seq, last_seq)
        if not runs:
            del self.pending[epoch]
        return settled

    def flush_receipts(self) -> None:
        """Writes down what was receipted; a receipt lost before this only means one more harmless offer."""
        if self._unflushed:
            with self._transaction():
                self._db.executemany("INSERT INTO receipted VALUES (?, ?, ?)", self._unflushed)
            self._unflushed.clear()
        if not self.is_sealed:
            self._measure()

    def seal(self) -> None:
        """Ends writing: a summary lets the next start skip the chunks themselves."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO sealed VALUES (?, ?, ?)",
                [(epoch, first, last) for epoch, runs in self._held.items() for first, last in runs],
            )
        self.is_sealed = True
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._measure()

    def reoffer(self) -> None:
        """Makes everything pending again: the store that receipted it is another one now."""
        with self._transaction():
            self._db.execute("DELETE FROM receipted")
        self._unflushed.clear()
        for epoch, runs in self._held.items():
            for first, last in runs:
                self.pending.setdefault(epoch, RunSet()).add(first, last)
        self._scan_after = self._settled_to = 0

    def backlog(self, busy: dict[bytes, RunSet]) -> Iterator[Chunk]:
        """Pending chunks not in flight, oldest first, going round from where the last call ended.

        Raises SegmentCorrupt.
        """
        if not self.pending:
            return
        began_after = self._scan_after
        is_empty = True
        for chunk in self._offer(busy, None):
            is_empty = False
            yield chunk
        self._scan_after = 0
        for chunk in self._offer(busy, began_after):
            is_empty = False
            yield chunk
        if is_empty and any(
            busy.get(epoch, RunSet()).missing(*run) for epoch, runs in self.pending.items() for run in runs
        ):
            raise SegmentCorrupt(f"{self.path.name}: records that wait for their receipt are not there")

    def _offer(self, busy: dict[bytes, RunSet], up_to: int | None) -> Iterator[Chunk]:
        """Pending chunks after the last one offered, to the end or up to a chunk's id."""
        while rows := self._rows(up_to):
            for row_id, epoch, first, count in rows:
                last = first + count - 1
                is_pending = epoch in self.pending and self.pending[epoch].intersects(first, last)
                is_busy = epoch in busy and busy[epoch].intersects(first, last)
                if is_pending and not is_busy:
                    yield self._read(row_id)
                self._scan_after = row_id  # after the yield: a chunk the caller left is offered again

    def _rows(self, up_to: int | None) -> list[tuple[int, bytes, int, int]]:
        query = (
            "SELECT id, epoch, first_seq, count FROM chunk WHERE id > ? AND (? IS NULL OR id <= ?) ORDER BY id LIMIT ?"
        )
        with self._corruption_named():
            return self._db.execute(query, (self._scan_after, up_to, up_to, _READ_AHEAD_CHUNKS)).fetchall()

    def _read(self, row_id: int) -> Chunk:
        """Raises SegmentCorrupt when the payload cannot be read: opening the file looks at the small columns alone."""
        try:
            return read_chunk(self._db, self._cipher, self.lane, row_id)
        except SegmentCorrupt as error:
            raise SegmentCorrupt(f"{self.path.name}: {error}") from error

    def oldest(self) -> ClockAnchor | None:
        """The clocks at the commit of the oldest chunk that still waits. Raises SegmentCorrupt."""
        if not self.pending:
            return None
        query = "SELECT id, epoch, first_seq, count, anchor FROM chunk WHERE id > ? ORDER BY id"
        with self._corruption_named(), closing(self._db.execute(query, (self._settled_to,))) as rows:
            for row_id, epoch, first, count, anchor in rows:
                if epoch in self.pending and self.pending[epoch].intersects(first, first + count - 1):
                    return _decode_anchor(anchor)
                self._settled_to = row_id
        return None

    def lost_runs(self) -> list[LostRun]:
        """What would be lost if this file went now; its time is left out if it cannot be read."""
        from_us = to_us = 0
        with suppress(sqlite3.DatabaseError):
            from_us, to_us = self._db.execute("SELECT min(wall_us), max(wall_us) FROM chunk").fetchone()
        return [
            LostRun(epoch, self.lane, first, last, from_us or 0, to_us or 0)
            for epoch, runs in self.pending.items()
            for first, last in runs
        ]

    def newest_us(self) -> int:
        """Wall time of the newest chunk, 0 when empty or unreadable."""
        row = None
        with suppress(sqlite3.DatabaseError):
            row = self._db.execute("SELECT wall_us FROM chunk ORDER BY id DESC LIMIT 1").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Closes the file; receipts not written down by then only mean one more offer."""
        self._db.close()

    def unlink(self) -> None:
        """Closes and removes the file and its journal."""
        self._db.close()
        for path in files_of(self.path):
            path.unlink(missing_ok=True)


def read_chunk(database: sqlite3.Connection, cipher: Cipher, lane: Lane, row_id: int) -> Chunk:
    """One chunk, decrypted. Raises SegmentCorrupt, and KeyMissing."""
    try:
        row = database.execute("SELECT * FROM chunk WHERE id = ?", (row_id,)).fetchone()
        _id, epoch, first_seq, count, wall_us, anchor, stored, *digest = row  # version 1 has none
        if digest not in ([], [None], [_digest(epoch, first_seq, count, wall_us, anchor, stored)]):
            raise SegmentCorrupt(f"chunk {row_id}: not what was written here")
        records = _decode_records(cipher.decrypt(stored, _chunk_place(lane, epoch, first_seq, anchor)))
        return Chunk(epoch, lane, first_seq, tuple(map(bytes, records)), _decode_anchor(anchor))
    except (sqlite3.DatabaseError, msgspec.MsgspecError, TypeError, Forged) as error:
        raise SegmentCorrupt(f"chunk {row_id}: {error}") from error


def _chunk_place(lane: Lane, epoch: bytes, first_seq: int, anchor: bytes) -> bytes:
    """What a chunk is bound to when encrypted."""
    return _encode(("chunk", lane, epoch, first_seq, anchor))


def _memo_place(lane: Lane, name: str) -> bytes:
    return _encode(("memo", lane, name))


def _digest(epoch: bytes, first_seq: int, count: int, wall_us: int, anchor: bytes, records: bytes) -> int:
    """Tells whether a chunk is what was written; by chance one wrong one in 4·10⁹ passes."""
    return zlib.crc32(records, zlib.crc32(_encode((epoch, first_seq, count, wall_us, anchor))))


def files_of(path: Path) -> list[Path]:
    """A segment's file and its journal's."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _is_corruption(error: sqlite3.DatabaseError) -> bool:
    """A file without the tables it was made with, or with others (SQLITE_ERROR), is as broken as one that says so."""
    name = getattr(error, "sqlite_errorname", "")
    broken = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")
    return name.startswith(broken) or not isinstance(error, sqlite3.OperationalError)

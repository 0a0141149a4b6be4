"""The append path: batches become rows, exactly once, many batches to a transaction.

Lives on the writing thread. What cannot be stored is kept aside and counted; nothing is dropped.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from cloud.store.database import Database
from cloud.store.engine import Writer
from cloud.store.records import DIGEST_BYTES, RecordReader, digest
from cloud.store.rows import LANE_NUMBER, DeadLetterRow, Rows
from cloud.store.runs import StoredRuns
from wire import topics
from wire.clock import Clock
from wire.messages import Batch, DecodeError, Receipt, decode_frame

_log = logging.getLogger(__name__)

# Above any number of epochs that are alive at once; what is forgotten is read again.
_MOST_CACHED = 20_000


_REPLACE_RUN = (
    "INSERT INTO run (epoch_id, lane, first_seq, last_seq) VALUES (?,?,?,?)"
    " ON CONFLICT (epoch_id, lane, first_seq) DO UPDATE SET last_seq = excluded.last_seq"
)

# The row of the table `meta` that says who appended last. Writing it first also makes appenders wait for each other, so
# that positions are committed in their order.
_STILL_MINE = "UPDATE meta SET value = ? WHERE name = 'appender' AND value = ?"
_TAKE_OVER = (
    "INSERT INTO meta (name, value) VALUES ('appender', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

_gateway_of = lru_cache(maxsize=10_000)(topics.gateway_of)


class Incoming(NamedTuple):
    """A frame as it came from the bus."""

    subject: str
    payload: bytes


class Appended(NamedTuple):
    """What became of a group: receipts to send, in order, counts of what was done, and the sessions it touched."""

    receipts: list[tuple[str, Receipt]]
    counts: dict[str, int]
    sessions: set[str]
    stored_us: int


class Appender:
    """Stores groups of frames. Not thread-safe: it belongs to the writing thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._name = secrets.token_bytes(16)
        self._forget()

    def append(self, group: Sequence[Incoming]) -> Appended:
        """Commits a group; if that fails, each frame alone. Raises StoreUnavailable, and then nothing is stored."""
        try:
            return self._commit(group)
        except self._database.engine.poison as error:  # tried alone, it becomes a dead letter
            self._forget()
            if len(group) == 1:
                return self._bury(group[0], error)
        except BaseException:
            self._forget()
            raise
        _log.warning("a batch among %s cannot be stored: trying each alone", len(group))
        receipts: list[tuple[str, Receipt]] = []
        counts: dict[str, int] = {}
        sessions: set[str] = set()
        for incoming in group:
            appended = self.append([incoming])
            receipts += appended.receipts
            sessions |= appended.sessions
            for name, count in appended.counts.items():
                counts[name] = counts.get(name, 0) + count
        return Appended(receipts, counts, sessions, self._clock.now_us())

    def _commit(self, group: Sequence[Incoming]) -> Appended:
        now_us = self._clock.now_us()

        def store(connection: sa.Connection) -> Appended:
            rows = Rows(self._database.engine.writer(connection))
            if not rows.writer.execute(_STILL_MINE, (self._name, self._name)):
                rows.writer.execute(_TAKE_OVER, (self._name,))
                self._forget()  # another process has stored meanwhile
            reader = RecordReader(rows, now_us, self._sources)
            receipts = [receipt for incoming in group if (receipt := self._store(incoming, rows, reader, now_us))]
            reader.placing.finish()
            rows.flush()
            self._flush_runs(rows.writer)
            return Appended(receipts, rows.counts, reader.sessions, now_us)

        if len(self._epochs) + len(self._sources) > _MOST_CACHED:
            self._forget()
        return self._database.transaction(store)

    def _store(self, incoming: Incoming, rows: Rows, reader: RecordReader, now_us: int) -> tuple[str, Receipt] | None:
        try:
            gateway = _gateway_of(incoming.subject)
            batch = decode_frame(incoming.payload, Batch)
            if not batch.records:
                raise DecodeError("batch without records", incoming.payload)
        except ValueError as error:
            rows.dead_letter.append(_dead_letter(incoming, None, str(error), now_us))
            rows.count("dead_lettered")
            return None
        receipt = gateway, self._receipt(batch, now_us)
        rows.count("batches_stored")
        epoch_id, owner = self._epoch(batch.epoch, gateway, rows, now_us)
        if owner != gateway:
            self._keep_stolen(batch, gateway, owner, rows, now_us)
            return receipt
        reader.begin(gateway, batch, epoch_id)
        lane = LANE_NUMBER[batch.lane]
        fresh = self._runs_of(rows, epoch_id, lane).add(batch.first_seq, batch.last_seq)
        if fresh != [(batch.first_seq, batch.last_seq)]:
            self._compare(batch, gateway, epoch_id, fresh, rows, now_us)
        for first, last in fresh:
            digests = reader.read(batch.records[first - batch.first_seq : last - batch.first_seq + 1], first)
            rows.batch.append((epoch_id, lane, first, last, now_us, digests))
        return receipt

    def _receipt(self, batch: Batch, now_us: int) -> Receipt:
        return Receipt(self._database.store_id, batch.epoch, batch.lane, batch.first_seq, batch.last_seq, now_us)

    def _epoch(self, epoch: bytes, gateway: str, rows: Rows, now_us: int) -> tuple[int, str]:
        """The epoch's number and the gateway that used it first."""
        if found := self._epochs.get(epoch):
            return found
        query = "SELECT epoch_id, gateway FROM epoch WHERE epoch = ?"
        insert = "INSERT INTO epoch (epoch, gateway, received_us) VALUES (?,?,?) RETURNING epoch_id, gateway"
        (row,) = rows.writer.rows(query, (epoch,)) or rows.writer.rows(insert, (epoch, gateway, now_us))
        self._epochs[epoch] = int(row[0]), str(row[1])
        return self._epochs[epoch]

    def _runs_of(self, rows: Rows, epoch_id: int, lane: int) -> StoredRuns:
        runs = self._runs.get((epoch_id, lane))
        if runs is None:
            query = "SELECT first_seq, last_seq FROM run WHERE epoch_id = ? AND lane = ?"
            runs = self._runs[epoch_id, lane] = StoredRuns(rows.writer.rows(query, (epoch_id, lane)))
        self._touched.add((epoch_id, lane))
        return runs

    def _compare(
        self,
        batch: Batch,
        gateway: str,
        epoch_id: int,
        fresh: Sequence[tuple[int, int]],
        rows: Rows,
        now_us: int,
    ) -> None:
        """Compares records whose number is already stored with what is stored; a different one is kept aside."""
        rows.flush_batches()
        lane = LANE_NUMBER[batch.lane]
        fresh_seqs = {seq for first, last in fresh for seq in range(first, last + 1)}
        # A stretch is at most a frame long, so the one before the first can only reach it from within that length;
        # stretches are disjoint, so the last one that begins at or before first_seq is the only candidate.
        query = (
            "SELECT first_seq, last_seq, digests FROM batch WHERE epoch_id = ? AND lane = ?"
            " AND first_seq <= ? AND first_seq >= coalesce((SELECT max(first_seq) FROM batch"
            " WHERE epoch_id = ? AND lane = ? AND first_seq <= ?), ?)"
        )
        values = (epoch_id, lane, batch.last_seq, epoch_id, lane, batch.first_seq, batch.first_seq)
        known: dict[int, bytes] = {}
        for first, last, digests in rows.writer.rows(query, values):
            for seq in range(max(first, batch.first_seq), min(last, batch.last_seq) + 1):
                known[seq] = digests[(seq - first) * DIGEST_BYTES :][:DIGEST_BYTES]
        for seq, record in enumerate(batch.records, batch.first_seq):
            if seq in fresh_seqs:
                continue
            found = digest(record)
            if known.get(seq) == found:
                rows.count("records_repeated")
            else:
                why = "another record is stored under this number"
                rows.conflict.append((gateway, batch.epoch, lane, seq, found, why, now_us, bytes(record)))
                rows.count("conflicts")
                _log.error(
                    "gateway %s: %s/%s has two different records %s", gateway, batch.lane, batch.epoch.hex(), seq
                )

    def _keep_stolen(self, batch: Batch, gateway: str, owner: str, rows: Rows, now_us: int) -> None:
        lane = LANE_NUMBER[batch.lane]
        why = f"epoch belongs to gateway {owner}"
        rows.conflict += [
            (gateway, batch.epoch, lane, seq, digest(record), why, now_us, bytes(record))
            for seq, record in enumerate(batch.records, batch.first_seq)
        ]
        rows.count("stolen_epoch_records", len(batch.records))
        if (gateway, batch.epoch) not in self._alarmed:
            self._alarmed.add((gateway, batch.epoch))
            _log.error("gateway %s uses epoch %s of gateway %s: is it a copy?", gateway, batch.epoch.hex(), owner)

    def _flush_runs(self, writer: Writer) -> None:
        for epoch_id, lane in self._touched:
            written, deleted = self._runs[epoch_id, lane].take_changes()
            for first in deleted:
                key = (epoch_id, lane, first)
                writer.execute("DELETE FROM run WHERE epoch_id = ? AND lane = ? AND first_seq = ?", key)
            for first, last in written:
                writer.execute(_REPLACE_RUN, (epoch_id, lane, first, last))
        self._touched.clear()

    def _bury(self, incoming: Incoming, error: Exception) -> Appended:
        """Keeps a frame that cannot be stored, in a transaction of its own, and receipts it if it says what it is."""
        now_us = self._clock.now_us()
        try:
            batch = decode_frame(incoming.payload, Batch)
        except DecodeError:
            batch = None
        row = _dead_letter(incoming, batch, f"{type(error).__name__}: {error}", now_us)

        def store(connection: sa.Connection) -> dict[str, int]:
            rows = Rows(self._database.engine.writer(connection))
            rows.dead_letter.append(row)
            rows.count("dead_lettered")
            rows.flush()
            return rows.counts

        counts = self._database.transaction(store)
        # Its words quote the batch: they are in the table alone.
        why = type(error).__name__
        _log.error("%s: a batch cannot be stored and is kept as a dead letter: %s", incoming.subject, why)
        receipts = [] if batch is None else [(topics.gateway_of(incoming.subject), self._receipt(batch, now_us))]
        return Appended(receipts, counts, set(), now_us)

    def _forget(self) -> None:
        """Drops every cache: after a roll-back they may know what the disk does not."""
        self._epochs: dict[bytes, tuple[int, str]] = {}
        self._runs: dict[tuple[int, int], StoredRuns] = {}
        self._touched: set[tuple[int, int]] = set()
        self._sources: dict[tuple[str, str, str, int, bytes, str, str], int] = {}
        self._alarmed: set[tuple[str, bytes]] = set()


def _dead_letter(incoming: Incoming, batch: Batch | None, reason: str, now_us: int) -> DeadLetterRow:
    gateway = incoming.subject.split(".")[2] if incoming.subject.count(".") > 2 else ""
    key = hashlib.sha256(incoming.subject.encode() + b"\0" + incoming.payload).digest()
    if batch is None:
        return key, gateway, incoming.subject, reason, now_us, None, None, None, None, incoming.payload
    first, last = str(batch.first_seq), str(batch.last_seq)
    lane = LANE_NUMBER[batch.lane]
    return key, gateway, incoming.subject, reason, now_us, batch.epoch, lane, first, last, incoming.payload

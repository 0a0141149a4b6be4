"""Questions to the store. Every method is one short read beside the writer; call it off the event loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from cloud.store import alerts, routed, schema
from cloud.store.alerts import StoredAlert
from cloud.store.database import Database
from cloud.store.history import BLOCK_US, BLOCKS, OPENED_US, is_in_history, of_session
from cloud.store.routed import Seen
from cloud.store.rows import LANES
from wire.clock import EARLIEST_PLAUSIBLE_US
from wire.readings import Acquisition

_BLOCKS_AT_A_TIME = 200


class UnknownSession(LookupError):
    """There is no such session; the message lists some that there are."""


class StoredNumeric(NamedTuple):
    """One stored value; None where the device sent something that is not a number."""

    metric: str
    device_id: str
    time_us: int
    value: float | None
    quality: int
    reason: str


class StoredBlock(NamedTuple):
    """One waveform block as it arrived, with where it belongs."""

    stream: str
    epoch_id: int
    first_index: int
    sample_count: int
    start_us: int
    quality: int
    acquisition: Acquisition | None
    data: bytes


class StoredSession(NamedTuple):
    """A session as the board has it."""

    session_id: str
    gateway: str
    kind: str
    label: str
    origin: int
    opened_us: int
    closed_us: int | None
    stored_us: int


class StoredEntry(NamedTuple):
    """One entry of the log."""

    position: int
    kind: str
    gateway: str
    device_id: str
    session_id: str
    origin: int
    time_us: int
    placed: int
    received_us: int
    body: bytes
    boot_id: bytes
    mono_us: int


_session_columns = [
    OPENED_US.label(name) if name == "opened_us" else schema.session.c[name] for name in StoredSession._fields
]
_entry_columns = [schema.entry.c[name] for name in StoredEntry._fields]
_acquisition_decoder = msgspec.msgpack.Decoder(Acquisition)


class StoreReader:
    """Reads what is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _all(self, query: sa.Executable) -> Sequence[Any]:
        # Any: the columns' types are in the schema, where mypy does not look.
        return self._database.read_now(lambda connection: connection.execute(query).all())

    def stored_runs(self) -> set[tuple[bytes, str, int, int]]:
        """Everything stored, as (epoch, lane, first_seq, last_seq)."""
        run, epoch = schema.run.c, schema.epoch.c
        query = sa.select(epoch.epoch, run.lane, run.first_seq, run.last_seq).join_from(schema.run, schema.epoch)
        return {(row[0], LANES[row[1]].value, row[2], row[3]) for row in self._all(query)}

    def counts(self) -> dict[str, int]:
        """Rows of each table that tells how well it went."""
        tables = (
            schema.numeric,
            schema.waveform,
            schema.entry,
            schema.unread,
            schema.conflict,
            schema.dead_letter,
            schema.session,
            schema.alert,
        )
        parts = [sa.select(sa.literal(table.name), sa.func.count()).select_from(table) for table in tables]
        return {str(name): int(count) for name, count in self._all(sa.union_all(*parts))}

    def session(self, session_id: str) -> StoredSession:
        """One session. Raises UnknownSession."""
        query = sa.select(*_session_columns).where(schema.session.c.session_id == session_id)
        for row in self._all(query):
            return StoredSession(*row)
        known = ", ".join(session.session_id for session in self.sessions(most=20)) or "none"
        raise UnknownSession(f"no session {session_id!r}; the newest are: {known}")

    def sessions(
        self, *, most: int, open_only: bool = False, seen: Seen | None = None, hidden_from: Seen | None = None
    ) -> list[StoredSession]:
        """Sessions, newest first; those that one view has, or that another has not, or all."""
        opened_us = schema.session.c.opened_us
        query = sa.select(*_session_columns)
        if open_only:
            query = query.where(schema.session.c.closed_us.is_(None))
        if seen is not None:
            query = query.where(routed.condition(seen, schema.session.c.session_id))
        if hidden_from is not None:
            query = query.where(~routed.condition(hidden_from, schema.session.c.session_id))
        placed = query.where(opened_us >= EARLIEST_PLAUSIBLE_US).order_by(opened_us.desc()).limit(most)
        # Those of boxes that had no clock stand at the end of the index, wherever they belong.
        waiting = query.where(opened_us < EARLIEST_PLAUSIBLE_US).order_by(OPENED_US.desc()).limit(most)
        found = [StoredSession(*row) for row in (*self._all(placed), *self._all(waiting))]
        return sorted(found, key=lambda session: -session.opened_us)[:most]

    def numerics(
        self, session_id: str, *, metric: str = "", from_us: int, to_us: int, most: int
    ) -> list[StoredNumeric]:
        """The newest `most` placed values of a session in a time range, oldest first."""
        series, numeric = schema.series.c, schema.numeric.c
        wanted = of_session(schema.series, session_id)
        if metric:
            wanted = sa.and_(wanted, series.metric == metric)

        def between(time_us: sa.ColumnElement[int]) -> sa.Select[Any]:
            return (
                sa.select(series.metric, series.device_id, time_us, numeric.value, numeric.quality, numeric.reason)
                .join_from(schema.series, schema.numeric)
                .where(wanted, time_us >= from_us, time_us <= to_us)
                .order_by(time_us.desc())
                .limit(most)
            )

        placed = self._all(between(numeric.time_us).where(numeric.placed == 1))
        # The limit on the stored time keeps this to the few rows of a box that had no clock.
        waiting = between(numeric.time_us + schema.placement.c.shift_us).where(
            numeric.placed == 0, numeric.time_us < EARLIEST_PLAUSIBLE_US
        )
        later = self._all(waiting.join(schema.placement, schema.placement.c.boot_id == series.boot_id))
        newest = sorted((StoredNumeric(*row) for row in (*placed, *later)), key=lambda one: one.time_us)
        return newest[-most:] if most else []

    def streams(self, session_id: str) -> list[str]:
        """Names of a session's waveform streams."""
        column = schema.stream.c.stream
        query = sa.select(column).where(of_session(schema.stream, session_id)).distinct().order_by(column)
        return [str(row[0]) for row in self._all(query)]

    def stream_origin(self, session_id: str, stream: str) -> int:
        """The highest origin anything of a stream bears: simulated data in it marks all of it."""
        c = schema.stream.c
        query = sa.select(sa.func.max(c.origin)).where(of_session(schema.stream, session_id), c.stream == stream)
        return int(self._all(query)[0][0] or 0)

    def blocks(
        self, session_id: str, stream: str, *, from_index: int = 0, most: int | None = None
    ) -> Iterator[StoredBlock]:
        """Blocks of a session's stream: process starts of the box in time order, each by first_index."""
        starts: dict[int, int] = {}
        c = schema.waveform.c
        of_stream = sa.and_(of_session(schema.stream, session_id), schema.stream.c.stream == stream)
        query = sa.select(c.epoch_id, sa.func.min(BLOCK_US)).select_from(BLOCKS).where(of_stream).group_by(c.epoch_id)
        for epoch_id, start_us in self._all(query):
            starts[epoch_id] = start_us
        left = most
        for epoch_id in sorted(starts, key=lambda epoch: starts[epoch]):
            after = from_index, -1
            while left is None or left > 0:
                page = self._page(of_stream, epoch_id, after, min(left or _BLOCKS_AT_A_TIME, _BLOCKS_AT_A_TIME))
                for block_id, *row, acquisition, data in page:
                    decoded = None if acquisition is None else _acquisition_decoder.decode(acquisition)
                    yield StoredBlock._make((stream, *row, decoded, data))
                    after = row[1], block_id
                left = None if left is None else left - len(page)
                if len(page) < _BLOCKS_AT_A_TIME:
                    break

    def _page(
        self, of_stream: sa.ColumnElement[bool], epoch_id: int, after: tuple[int, int], most: int
    ) -> Sequence[Any]:
        c = schema.waveform.c
        query = (
            sa.select(c.block_id, c.epoch_id, c.first_index, c.sample_count, BLOCK_US, c.quality, c.acquisition, c.data)
            .select_from(BLOCKS)
            .where(of_stream, c.epoch_id == epoch_id, is_in_history(c.placed))
            .where(sa.tuple_(c.first_index, c.block_id) > sa.tuple_(*map(sa.literal, after)))
            .order_by(c.first_index, c.block_id)
            .limit(most)
        )
        return self._all(query)

    def recent_blocks(self, session_id: str, *, since_us: int, most: int) -> list[StoredBlock]:
        """The newest blocks of all streams of a session, oldest first."""
        c = schema.waveform.c
        query = (
            sa.select(
                schema.stream.c.stream,
                c.epoch_id,
                c.first_index,
                c.sample_count,
                c.start_us,
                c.quality,
                c.acquisition,
                c.data,
            )
            .join_from(schema.stream, schema.waveform)
            .where(of_session(schema.stream, session_id), c.start_us >= since_us, c.placed == 1)
            .order_by(c.start_us.desc())
            .limit(most)
        )
        return [StoredBlock._make((*row[:6], None, row[7])) for row in reversed(self._all(query))]

    def newest_us(self, session_id: str, *, to_us: int) -> int:
        """Time of the newest stored numeric or block of a session up to a time, 0 without any."""
        numeric = (
            sa.select(sa.func.max(schema.numeric.c.time_us))
            .join_from(schema.series, schema.numeric)
            .where(of_session(schema.series, session_id), schema.numeric.c.time_us <= to_us)
        )
        block = (
            sa.select(sa.func.max(schema.waveform.c.start_us))
            .join_from(schema.stream, schema.waveform)
            .where(of_session(schema.stream, session_id), schema.waveform.c.start_us <= to_us)
        )
        return max(int(row[0] or 0) for query in (numeric, block) for row in self._all(query))

    def alerts(
        self, *, session_id: str = "", cleared_since_us: int, most: int, seen: Seen | None = None
    ) -> list[StoredAlert]:
        """Alerts not cleared, and those cleared since then, newest first; those that one view has, or all."""
        return self._database.read_now(
            lambda connection: alerts.find(
                connection, session_id=session_id, cleared_since_us=cleared_since_us, most=most, seen=seen
            )
        )

    def recent_entries(self, session_id: str, kind: str, most: int) -> list[StoredEntry]:
        """The newest entries of a kind in a session, oldest first."""
        c = schema.entry.c
        query = sa.select(*_entry_columns).where(of_session(schema.entry, session_id), c.kind == kind)
        rows = self._all(query.order_by(c.position.desc()).limit(most))
        return [StoredEntry(*row) for row in reversed(rows)]


def entries_after(connection: sa.Connection, position: int, most: int) -> list[StoredEntry]:
    """The log after a position, within the reader's own transaction."""
    query = sa.select(*_entry_columns).where(schema.entry.c.position > position).order_by(schema.entry.c.position)
    return [StoredEntry(*row) for row in connection.execute(query.limit(most))]

"""The newest stored heartbeat of each box and the gaps it named, derived from the log as the boards are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from cloud.heartbeats import Moment, finite, follows
from cloud.store import schema
from cloud.store.database import Database
from cloud.store.engine import insert
from cloud.store.reader import StoredEntry
from wire.messages import decode_body
from wire.readings import Gap, Status

# Process starts read back when the cloud starts: a day of hundreds of boxes, one of them starting all the time.
_MOST_STARTS = 50_000

_status_decoder = msgspec.msgpack.Decoder(Status)


class StoredGateway(NamedTuple):
    """A box as its board has it."""

    gateway: str
    status: bytes | None
    moment: Moment | None
    session_id: str
    gaps: int
    lost_records: int
    last_gap_us: int


class Backlog(NamedTuple):
    """What waited on a box at one heartbeat: records by lane, and the age of the oldest in seconds."""

    time_us: int
    urgent: int
    routine: int
    bulk: int
    oldest_s: float


def apply(connection: sa.Connection, entry: StoredEntry) -> str | None:
    """Brings a box's board up to one entry; returns the box if it named a gap."""
    if entry.kind == "status":
        _apply_status(connection, entry)
    if entry.kind != "gap":
        return None
    body = decode_body(entry.body)
    assert isinstance(body, Gap)
    _apply_gap(connection, entry, body)
    return entry.gateway


def _apply_status(connection: sa.Connection, entry: StoredEntry) -> None:
    moment = Moment(entry.boot_id, entry.mono_us, entry.time_us, entry.received_us)
    c = schema.gateway_board.c
    known = sa.select(c.boot_id, c.mono_us, c.time_us, c.received_us).where(c.gateway == entry.gateway)
    row = connection.execute(known.where(c.status.isnot(None))).one_or_none()
    if not follows(moment, Moment(*row) if row is not None else None):
        return
    values = {"status": entry.body, "session_id": entry.session_id, **moment._asdict()}
    statement = insert(schema.gateway_board).values(
        gateway=entry.gateway, gaps=0, lost_records=0, last_gap_us=0, **values
    )
    connection.execute(statement.on_conflict_do_update(index_elements=[c.gateway], set_=values))


def _apply_gap(connection: sa.Connection, entry: StoredEntry, gap: Gap) -> None:
    lost = max(0, gap.last_seq - gap.first_seq + 1) if gap.epoch else 0
    c = schema.gateway_board.c
    statement = insert(schema.gateway_board).values(
        gateway=entry.gateway,
        session_id=entry.session_id,
        gaps=1,
        lost_records=lost,
        last_gap_us=entry.received_us,
    )
    changes = {
        "gaps": c.gaps + 1,
        "lost_records": c.lost_records + lost,
        "last_gap_us": entry.received_us,
    }
    connection.execute(statement.on_conflict_do_update(index_elements=[c.gateway], set_=changes))


class FleetReader:
    """Questions about boxes. Every method is one short read beside the writer; call it off the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _all(self, query: sa.Executable) -> Sequence[Any]:
        # Any: the columns' types are in the schema, where mypy does not look.
        return self._database.read_now(lambda connection: connection.execute(query).all())

    def gateways(self) -> list[StoredGateway]:
        """Every box of which something is stored."""
        return [_stored(row) for row in self._all(sa.select(*_columns))]

    def gateway(self, gateway_id: str) -> StoredGateway | None:
        """One box, None before anything of it is stored."""
        rows = self._all(sa.select(*_columns).where(schema.gateway_board.c.gateway == gateway_id))
        return _stored(rows[0]) if rows else None

    def starts(self, since_us: int) -> list[tuple[str, bytes, int]]:
        """Process starts of boxes first seen since then, as (gateway, epoch, received_us), oldest first."""
        c = schema.epoch.c
        query = sa.select(c.gateway, c.epoch, c.received_us).where(c.received_us >= since_us)
        rows = self._all(query.order_by(c.epoch_id.desc()).limit(_MOST_STARTS))
        return [(str(row[0]), bytes(row[1]), int(row[2])) for row in reversed(rows)]

    def backlogs(self, gateway_id: str, session_id: str, most: int) -> list[Backlog]:
        """A box's newest stored heartbeats in a session, oldest first by its own clock."""
        c = schema.entry.c
        query = (
            sa.select(c.time_us, c.placed, c.received_us, c.body)
            .where(c.session_id == session_id, c.kind == "status", c.gateway == gateway_id)
            .order_by(c.position.desc())
            .limit(most)
        )
        found = []
        for time_us, placed, received_us, body in self._all(query):
            try:
                gauges = finite(_status_decoder.decode(body)).gauges
            except msgspec.MsgspecError:
                continue  # of a newer box, kept for a version that knows it
            found.append(_backlog(int(time_us if placed else received_us), gauges))
        return sorted(found)


def _backlog(time_us: int, gauges: dict[str, float]) -> Backlog:
    lanes = ("urgent", "routine", "bulk")
    urgent, routine, bulk = (int(gauges.get(f"backlog_{lane}", 0)) for lane in lanes)
    return Backlog(time_us, urgent, routine, bulk, max(gauges.get(f"oldest_{lane}_s", 0.0) for lane in lanes))


_board = schema.gateway_board.c
_columns = [
    *(_board.gateway, _board.status, _board.boot_id, _board.mono_us, _board.time_us, _board.received_us),
    *(_board.session_id, _board.gaps, _board.lost_records, _board.last_gap_us),
]


def _stored(row: Sequence[Any]) -> StoredGateway:
    gateway, status, boot_id, mono_us, time_us, received_us, session_id, gaps, lost_records, last_gap_us = row
    moment = Moment(boot_id, mono_us, time_us, received_us) if status is not None else None
    return StoredGateway(gateway, status, moment, session_id, gaps, lost_records, last_gap_us)

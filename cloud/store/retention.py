"""Removes readings older than their class is kept, a piece at a time.

What was received stays known by its number (`run`): a box that offers it again is told "stored", and nothing comes
back. That there was a session, and when, stays as well, and so do a standing alert and its log, the newest log entry,
whose number must not be given twice, and rows whose boot was never placed in time: they have no age. A reading is as
old as the later of its own time and the first that came of its epoch: a box's wrong clock makes nothing old at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from cloud.store import schema
from wire.readings import AlertPhase, Origin

# Receipts wait for the writing thread; such a piece takes it some 10 ms.
_ROWS_AT_ONCE = 2_000
_BLOCKS_AT_ONCE = 200


class Kept(NamedTuple):
    """One class: what is older than this is removed of readings with this origin. None keeps it for ever."""

    origin: Origin
    readings_before_us: int | None
    waveforms_before_us: int | None


class Removal(NamedTuple):
    """What is old of one source, and the statement that removes some of it; repeated until nothing old is left."""

    old: sa.Select[Any]  # Any: only whether there is a row counts
    delete: sa.Delete


def removals(connection: sa.Connection, kept: Kept) -> list[Removal]:
    """One for every series, stream and session of the class that there is now."""
    found: list[Removal] = []
    if (before_us := kept.waveforms_before_us) is not None:
        found += [_waveforms(each, before_us) for each in _of(connection, schema.stream.c.stream_id, kept.origin)]
    if (before_us := kept.readings_before_us) is not None:
        found += [_numerics(each, before_us) for each in _of(connection, schema.series.c.series_id, kept.origin)]
        # A session bears the highest origin of what is in it.
        sessions = sa.select(schema.session.c.session_id).where(schema.session.c.origin >= int(kept.origin))
        for session_id in connection.scalars(sessions):
            found += [_entries(session_id, kept.origin, before_us), _alerts(session_id, kept.origin, before_us)]
    return found


def has_old(connection: sa.Connection, removal: Removal) -> bool:
    """Whether there is something to remove."""
    return connection.execute(removal.old.limit(1)).first() is not None


def remove(connection: sa.Connection, removal: Removal) -> int:
    """Removes some; how many rows."""
    return connection.execute(removal.delete).rowcount


def _of(connection: sa.Connection, number: sa.Column[int], origin: Origin) -> list[int]:
    return list(connection.scalars(sa.select(number).where(number.table.c.origin == int(origin))))


def _waveforms(stream_id: int, before_us: int) -> Removal:
    row = schema.waveform.c
    old = sa.select(row.block_id).where(
        row.stream_id == stream_id, row.start_us < before_us, row.placed != 0, _came_before(row.epoch_id, before_us)
    )
    return Removal(old, sa.delete(schema.waveform).where(row.block_id.in_(old.limit(_BLOCKS_AT_ONCE))))


def _came_before(epoch_id: sa.Column[int], before_us: int) -> sa.ColumnElement[bool]:
    return epoch_id.in_(sa.select(schema.epoch.c.epoch_id).where(schema.epoch.c.received_us < before_us))


def newest_arrival_us(connection: sa.Connection) -> int:
    """When the newest stored batch came, 0 when none did."""
    position = schema.batch.c.position
    return connection.scalar(sa.select(schema.batch.c.received_us).order_by(position.desc()).limit(1)) or 0


def _numerics(series_id: int, before_us: int) -> Removal:
    row = schema.numeric.c
    is_old = sa.and_(
        row.series_id == series_id, row.time_us < before_us, row.placed != 0, _came_before(row.epoch_id, before_us)
    )
    old = sa.select(row.time_us).where(is_old)
    # The table has no row id: a piece ends with a time, and takes all that share it.
    piece = old.order_by(row.time_us).limit(_ROWS_AT_ONCE).subquery()
    last = sa.select(sa.func.max(piece.c.time_us)).scalar_subquery()
    return Removal(old, sa.delete(schema.numeric).where(is_old, row.time_us <= last))


def _entries(session_id: str, origin: Origin, before_us: int) -> Removal:
    row, alert = schema.entry.c, schema.alert.c
    newest = sa.select(sa.func.max(schema.entry.alias().c.position)).scalar_subquery()
    stands = sa.exists().where(alert.session_id == session_id, alert.phase != AlertPhase.CLEARED.value)
    old = (
        sa.select(row.position)
        .where(row.session_id == session_id, row.origin == int(origin), row.position < newest)
        .where(row.received_us < before_us, row.placed != 0, sa.or_(row.kind != "alert", ~stands))
    )
    return Removal(old, sa.delete(schema.entry).where(row.position.in_(old.limit(_ROWS_AT_ONCE))))


def _alerts(session_id: str, origin: Origin, before_us: int) -> Removal:
    row, entry = schema.alert.c, schema.entry.c
    has_come_lately = sa.exists().where(
        entry.session_id == session_id, entry.kind == "alert", entry.received_us >= before_us
    )
    is_old = sa.and_(
        row.session_id == session_id,
        row.origin == int(origin),
        row.phase == AlertPhase.CLEARED.value,
        row.time_us < before_us,
        ~has_come_lately,
    )
    return Removal(sa.select(row.alert_id).where(is_old), sa.delete(schema.alert).where(is_old))

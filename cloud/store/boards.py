"""What stands now, derived from the log: sessions, alerts, answered commands. Replaying the log gives the same."""

from __future__ import annotations

import sqlalchemy as sa

from cloud.store import commands, schema
from cloud.store.alerts import is_delayed
from cloud.store.engine import insert
from cloud.store.reader import StoredEntry
from wire.messages import decode_body
from wire.readings import Alert, AlertPhase, CommandOutcome, SessionEvent, SessionPhase


def apply(connection: sa.Connection, entry: StoredEntry) -> str | None:
    """Brings the boards up to one entry; returns the session that changed."""
    is_raised = _raise_origin(connection, entry)
    if entry.kind == "session":
        body = decode_body(entry.body)
        assert isinstance(body, SessionEvent)
        _apply_session(connection, entry, body)
        return body.session_id
    if entry.kind == "alert":
        body = decode_body(entry.body)
        assert isinstance(body, Alert)
        _apply_alert(connection, entry, body)
        return entry.session_id
    if entry.kind == "outcome":
        body = decode_body(entry.body)
        assert isinstance(body, CommandOutcome)
        commands.answer(connection, entry.gateway, body, entry.received_us)
    return entry.session_id if is_raised else None


def _raise_origin(connection: sa.Connection, entry: StoredEntry) -> bool:
    """Simulated data anywhere in a session marks it for good; whether it did so now."""
    session = schema.session
    raised = sa.update(session).values(origin=entry.origin)
    mine = (session.c.session_id == entry.session_id, session.c.gateway == entry.gateway)
    return connection.execute(raised.where(*mine, session.c.origin < entry.origin)).rowcount > 0


def _origin_so_far(connection: sa.Connection, gateway: str, session_id: str) -> int:
    """The highest origin of what was stored of a session before it was opened."""
    tables = (schema.series, schema.stream, schema.entry)
    parts = [
        sa.select(sa.func.max(table.c.origin)).where(table.c.session_id == session_id, table.c.gateway == gateway)
        for table in tables
    ]
    return max(int(origin or 0) for (origin,) in connection.execute(sa.union_all(*parts)))


def _apply_session(connection: sa.Connection, entry: StoredEntry, event: SessionEvent) -> None:
    statement = insert(schema.session).values(
        session_id=event.session_id,
        gateway=entry.gateway,
        kind=event.kind.value,
        label=event.label,
        origin=max(entry.origin, _origin_so_far(connection, entry.gateway, event.session_id)),
        token=event.token,
        opened_us=entry.time_us,
        closed_us=entry.time_us if event.phase is SessionPhase.CLOSED else None,
        stored_us=entry.received_us,
    )
    new = statement.excluded
    known = schema.session.c
    changes: dict[str, object] = {
        "stored_us": new.stored_us,
        "origin": _greater(known.origin, new.origin),
        "label": sa.case((new.label != "", new.label), else_=known.label),
        "token": sa.case((new.token != "", new.token), else_=known.token),
        "opened_us": _lesser(known.opened_us, new.opened_us),
        "closed_us": sa.func.coalesce(new.closed_us, known.closed_us),
    }
    # A session belongs to the gateway that opened it: another one cannot close it.
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[known.session_id], set_=changes, where=known.gateway == new.gateway
        )
    )


def _apply_alert(connection: sa.Connection, entry: StoredEntry, step: Alert) -> None:
    statement = insert(schema.alert).values(
        gateway=entry.gateway,
        alert_id=step.alert_id,
        session_id=entry.session_id,
        device_id=entry.device_id,
        origin=entry.origin,
        phase=step.phase.value,
        onset_us=step.onset_us,
        time_us=step.time_us,
        delayed=int(is_delayed(step, step.time_us, entry.received_us)),
        position=entry.position,
        body=entry.body,
    )
    new, known = statement.excluded, schema.alert.c
    # Steps stand in log order, not by their times: a clock may step back. A cleared alert never comes back under its
    # id, and it stays known that a step came late.
    newer = known.phase != AlertPhase.CLEARED.value
    changes: dict[str, object] = {
        name: sa.case((newer, new[name]), else_=known[name]) for name in ("phase", "body", "position", "time_us")
    }
    changes |= {
        "origin": _greater(known.origin, new.origin),
        "onset_us": _lesser(known.onset_us, new.onset_us),
        "delayed": _greater(known.delayed, new.delayed),
    }
    connection.execute(statement.on_conflict_do_update(index_elements=[known.gateway, known.alert_id], set_=changes))


def _greater(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one > other, one), else_=other)


def _lesser(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one < other, one), else_=other)

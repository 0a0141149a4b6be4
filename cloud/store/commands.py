"""The table of commands: issued once, answered once, by the box itself or by time running out."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from cloud.store import schema
from wire.readings import CommandOutcome, CommandResult

PENDING = "pending"


class StoredCommand(NamedTuple):
    """A command as it stands; `state` is pending or a CommandResult, the ids are hex."""

    command_id: str
    gateway: str
    kind: str
    issued_by: str
    issued_us: int
    expires_us: int
    state: str
    detail: str
    answered_us: int | None


_table = schema.command
_columns = [_table.c[name] for name in StoredCommand._fields]


def insert(connection: sa.Connection, command: StoredCommand, body: bytes, most_pending: int) -> bool:
    """Adds a command, `body` being its encoded order; False when its gateway has too many without an answer."""
    if len(pending(connection, most=most_pending, gateway=command.gateway)) >= most_pending:
        return False
    connection.execute(_table.insert().values(**command._asdict(), body=body))
    return True


def pending(connection: sa.Connection, *, most: int, gateway: str = "") -> list[StoredCommand]:
    """Commands without an answer, oldest first."""
    query = sa.select(*_columns).where(_table.c.state == PENDING).order_by(_table.c.issued_us).limit(most)
    if gateway:
        query = query.where(_table.c.gateway == gateway)
    return [StoredCommand(*row) for row in connection.execute(query)]


def of_gateway(connection: sa.Connection, gateway: str, *, most: int) -> list[StoredCommand]:
    """Commands to a gateway, newest first."""
    query = sa.select(*_columns).where(_table.c.gateway == gateway).order_by(_table.c.issued_us.desc()).limit(most)
    return [StoredCommand(*row) for row in connection.execute(query)]


def find(connection: sa.Connection, gateway: str, command_id: str) -> StoredCommand | None:
    """One command to a gateway, None when there is none."""
    query = sa.select(*_columns).where(_table.c.gateway == gateway, _table.c.command_id == command_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredCommand(*row)


def of_order(connection: sa.Connection, gateway: str, body: bytes, *, most: int) -> list[StoredCommand]:
    """Commands to a gateway of this very order, newest first."""
    same = (_table.c.gateway == gateway, _table.c.body == body)
    query = sa.select(*_columns).where(*same).order_by(_table.c.issued_us.desc()).limit(most)
    return [StoredCommand(*row) for row in connection.execute(query)]


def order_of(connection: sa.Connection, command_id: str) -> bytes | None:
    """The encoded order of a command that still has no answer."""
    query = sa.select(_table.c.body).where(_table.c.command_id == command_id, _table.c.state == PENDING)
    body = connection.scalar(query)
    assert body is None or isinstance(body, bytes)
    return body


def expire(connection: sa.Connection, now_us: int) -> int:
    """Ends every command whose time is over; returns how many."""
    ended = (
        sa.update(_table)
        .where(_table.c.state == PENDING, _table.c.expires_us <= now_us)
        .values(state=CommandResult.EXPIRED.value, detail="no answer in time", answered_us=now_us)
    )
    return connection.execute(ended).rowcount


def answer(connection: sa.Connection, gateway: str, outcome: CommandOutcome, received_us: int) -> None:
    """Ends a gateway's own command by what it said of it; the first answer stands.

    The box's word replaces ours that time ran out: it acted before that and could not say so.
    """
    unanswered = (PENDING, CommandResult.EXPIRED.value)
    answered = (
        sa.update(_table)
        .where(_table.c.command_id == outcome.command_id.hex(), _table.c.gateway == gateway)
        .where(_table.c.state.in_(unanswered))
        .values(state=outcome.result.value, detail=outcome.detail, answered_us=received_us)
    )
    connection.execute(answered)

"""What a judge asks of the store: every reading once, in the words its device used, and every gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from cloud.store import schema
from cloud.store.database import Database
from cloud.store.history import of_session
from wire.messages import Batch, DecodeError, decode_body, decode_frame
from wire.readings import Alert, Body, CommandOutcome, Gap


class SaidNumeric(NamedTuple):
    """A value as its device reported it."""

    metric: str
    reported_time: str | None
    value: float


def said_numerics(database: Database, gateway: str, device_id: str) -> Counter[SaidNumeric]:
    """How often each reported value of a device is stored."""
    series, numeric = schema.series.c, schema.numeric.c
    query = (
        sa.select(series.metric, numeric.reported_time, numeric.value)
        .join_from(schema.series, schema.numeric)
        .where(series.gateway == gateway, series.device_id == device_id)
    )
    rows = database.read_now(lambda connection: connection.execute(query).all())
    return Counter(SaidNumeric(*row) for row in rows)


def blocks(database: Database, session_id: str, stream: str) -> list[bytes]:
    """Every block of a session's stream as it came, whether it has its place in history yet or waits for it."""
    query = (
        sa.select(schema.waveform.c.data)
        .join_from(schema.stream, schema.waveform)
        .where(of_session(schema.stream, session_id), schema.stream.c.stream == stream)
    )
    return [bytes(row[0]) for row in database.read_now(lambda connection: connection.execute(query).all())]


class AlertStep(NamedTuple):
    """One step of an alert as it was committed."""

    alert: Alert
    received_us: int


def gaps(database: Database) -> list[Gap]:
    """Every loss that a box named."""
    return [body for body, _received_us in _bodies(database, "gap") if isinstance(body, Gap)]


def gateway_gaps(database: Database) -> list[tuple[str, Gap]]:
    """The same, each with the gateway that named it."""
    c = schema.entry.c
    query = sa.select(c.gateway, c.body).where(c.kind == "gap").order_by(c.position)
    rows = database.read_now(lambda connection: connection.execute(query).all())
    return [(gateway, body) for gateway, raw in rows if isinstance(body := decode_body(raw), Gap)]


def kept_aside(database: Database) -> list[bytes]:
    """Every record that could not be read, or not be stored with its batch, as it came."""
    unread, dead_letter = sa.select(schema.unread.c.record), sa.select(schema.dead_letter.c.payload)
    kept = [bytes(row[0]) for row in database.read_now(lambda connection: connection.execute(unread).all())]
    for (payload,) in database.read_now(lambda connection: connection.execute(dead_letter).all()):
        try:
            kept += map(bytes, decode_frame(payload, Batch).records)
        except DecodeError:
            kept.append(payload)
    return kept


def alert_steps(database: Database) -> list[AlertStep]:
    """Every step of every alert, in the order of their commits."""
    return [AlertStep(body, received_us) for body, received_us in _bodies(database, "alert") if isinstance(body, Alert)]


def outcomes(database: Database) -> list[CommandOutcome]:
    """Every answer to a command, in the order of their commits."""
    return [body for body, _received_us in _bodies(database, "outcome") if isinstance(body, CommandOutcome)]


def _bodies(database: Database, kind: str) -> Iterator[tuple[Body, int]]:
    c = schema.entry.c
    query = sa.select(c.body, c.received_us).where(c.kind == kind).order_by(c.position)
    for raw, received_us in database.read_now(lambda connection: connection.execute(query).all()):
        # A kind this version cannot read never becomes an entry: it is kept as unread.
        yield decode_body(raw), received_us

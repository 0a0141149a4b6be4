"""Alerts as their board has them. One raised without a clock has its times from the log, in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from cloud.store import routed, schema
from cloud.store.history import ENTRIES, ENTRY_US, is_in_history, of_session, time_of, with_placement
from cloud.store.routed import Seen
from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS
from wire.readings import Alert, AlertPhase

# An alert that took longer than this to be committed rings marked as delayed: a live path takes well under 1 s.
DELAYED_AFTER_US = 10 * MICROSECONDS

_alert, _entry = schema.alert.c, schema.entry.c
_had_no_clock = _alert.onset_us < EARLIEST_PLAUSIBLE_US
# The newest step of those that began without a clock.
_BOARD = with_placement(
    schema.alert.outerjoin(schema.entry, sa.and_(_had_no_clock, _entry.position == _alert.position)),
    _entry.placed,
    _entry.boot_id,
)
_time_us = sa.func.coalesce(time_of(_entry.time_us), _alert.time_us)
_decoder = msgspec.msgpack.Decoder(Alert)


class StoredAlert(NamedTuple):
    """The newest step of an alert condition; not `placed`: its times are only what an unset clock said."""

    gateway: str
    session_id: str
    delayed: bool
    alert: Alert
    placed: bool = True


class _Step(NamedTuple):
    """One step as the log has it; `time_us` is its place."""

    said: Alert
    time_us: int
    placed: bool
    received_us: int


def is_delayed(step: Alert, time_us: int, received_us: int) -> bool:
    """Whether a step taken at `time_us` came too late to ring as if it were now."""
    return received_us - time_us > DELAYED_AFTER_US and step.phase is not AlertPhase.CLEARED


def find(
    connection: sa.Connection, *, session_id: str, cleared_since_us: int, most: int, seen: Seen | None = None
) -> list[StoredAlert]:
    """Alerts not cleared, and those cleared since then, newest onset first; of every session for ''.

    Where `most` leaves any out, those are cleared ones first.
    """
    owner = sa.select(schema.session.c.gateway).where(schema.session.c.session_id == _alert.session_id)
    # Near enough to choose the newest by: the onset itself is placed below.
    onset_us = sa.case((_had_no_clock, _time_us), else_=_alert.onset_us)
    query = (
        sa.select(_alert.gateway, _alert.session_id, _alert.delayed, _alert.body, _alert.position)
        .select_from(_BOARD)
        .where(sa.or_(_alert.phase != AlertPhase.CLEARED.value, _time_us >= cleared_since_us))
        .where(sa.func.coalesce(owner.scalar_subquery(), _alert.gateway) == _alert.gateway)
        .order_by(_alert.phase == AlertPhase.CLEARED.value, onset_us.desc())
        .limit(most)
    )
    if session_id:
        query = query.where(of_session(schema.alert, session_id))
    if seen is not None:
        query = query.where(routed.condition(seen, _alert.session_id))
    found: list[StoredAlert] = []
    for gateway, of, delayed, body, position in connection.execute(query).all():
        stored = StoredAlert(gateway, of, bool(delayed), _decoder.decode(body))
        if stored.alert.onset_us < EARLIEST_PLAUSIBLE_US:
            stored = _placed(stored, _steps(connection, stored, position))
        found.append(stored)
    return sorted(found, key=lambda one: -one.alert.onset_us)


def _placed(stored: StoredAlert, steps: Sequence[_Step]) -> StoredAlert:
    """The alert with the times of its first and its newest step."""
    if not steps or not all(step.placed for step in steps):
        return stored._replace(placed=False)
    first, newest = steps[0], steps[-1]
    # Both by the clock that was never set, unless it was set just as the alert was raised.
    lasted_us = first.said.time_us - first.said.onset_us if first.said.time_us < EARLIEST_PLAUSIBLE_US else 0
    alert = msgspec.structs.replace(stored.alert, onset_us=first.time_us - lasted_us, time_us=newest.time_us)
    delayed = any(is_delayed(step.said, step.time_us, step.received_us) for step in steps)
    return stored._replace(alert=alert, delayed=delayed)


def _steps(connection: sa.Connection, stored: StoredAlert, newest_position: int) -> Sequence[_Step]:
    """In log order, up to the one the board has."""
    query = (
        sa.select(_entry.body, ENTRY_US, is_in_history(_entry.placed), _entry.received_us)
        .select_from(ENTRIES)
        .where(_entry.session_id == stored.session_id, _entry.gateway == stored.gateway, _entry.kind == "alert")
        .where(_entry.position <= newest_position)
        .order_by(_entry.position)
    )
    steps = [_Step(_decoder.decode(body), *row) for body, *row in connection.execute(query)]
    return [step for step in steps if step.said.alert_id == stored.alert.alert_id]

"""Which hospitals a session is routed to, and the rule of who may see it, as a condition of a query.

cloud.api.reach says the same of sessions in memory; a test holds the two against each other.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import sqlalchemy as sa

from cloud.store import schema
from cloud.store.access_tables import break_glass as _grant
from cloud.store.access_tables import session_hospital as _routing


class Seen(NamedTuple):
    """Whose view, and when; `account` is empty for a machine, which breaks no glass."""

    account: str
    hospital: str
    now_us: int
    # A session that is routed nowhere is seen by every hospital, or by none.
    is_unrouted_seen: bool


class Routing(NamedTuple):
    """One act of routing."""

    session_id: str
    hospital: str
    is_routed: int
    at_us: int
    routed_by: str


def append(connection: sa.Connection, routing: Routing) -> None:
    """One more row; the newest of its session and hospital stands."""
    connection.execute(_routing.insert().values(**routing._asdict()))


def history(connection: sa.Connection, session_id: str, most: int) -> list[Routing]:
    """How a session was routed, newest first."""
    columns = [_routing.c[name] for name in Routing._fields]
    query = sa.select(*columns).where(_routing.c.session_id == session_id)
    return [Routing(*row) for row in connection.execute(query.order_by(_routing.c.routing_id.desc()).limit(most))]


def open_routes(connection: sa.Connection) -> dict[str, frozenset[str]]:
    """Where each session that is not closed is routed to now; one taken back from everybody is not among them."""
    is_closed = sa.exists().where(
        schema.session.c.session_id == _routing.c.session_id, schema.session.c.closed_us.is_not(None)
    )
    query = sa.select(_routing.c.session_id, _routing.c.hospital, _routing.c.is_routed).where(~is_closed)
    found: dict[str, set[str]] = defaultdict(set)
    for session_id, hospital, is_routed in connection.execute(query.order_by(_routing.c.routing_id)):
        (found[session_id].add if is_routed else found[session_id].discard)(hospital)
    return {session_id: frozenset(hospitals) for session_id, hospitals in found.items() if hospitals}


def may_see(connection: sa.Connection, seen: Seen, session_id: str) -> bool:
    """Whether one session may be seen; of an unknown one whatever an unrouted one would be."""
    return bool(connection.scalar(sa.select(condition(seen, sa.literal(session_id)))))


def condition(seen: Seen, session_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """That the session of a row may be seen."""
    # The history grows with routing, not with readings: some rows a session, found by its index.
    newest = (
        sa.select(_routing.c.is_routed)
        .where(_routing.c.session_id == session_id, _routing.c.hospital == seen.hospital)
        .order_by(_routing.c.routing_id.desc())
        .limit(1)
    )
    # An alias: the query around may be over sessions itself.
    session = schema.session.alias()
    is_closed = sa.exists().where(session.c.session_id == session_id, session.c.closed_us.is_not(None))
    # Until the episode closes: after it the treating hospital has its own record.
    is_routed_here = sa.and_(sa.func.coalesce(newest.scalar_subquery(), 0) == 1, ~is_closed)
    has_grant = sa.exists().where(
        _grant.c.account == seen.account, _grant.c.session_id == session_id, _grant.c.expires_us > seen.now_us
    )
    later = _routing.alias()
    is_taken_back = sa.exists().where(
        later.c.session_id == _routing.c.session_id,
        later.c.hospital == _routing.c.hospital,
        later.c.routing_id > _routing.c.routing_id,
    )
    # Taken back from its last hospital it is as if it was never routed: else nobody at all would see it.
    is_unrouted = ~sa.exists().where(_routing.c.session_id == session_id, _routing.c.is_routed == 1, ~is_taken_back)
    allowed = sa.or_(is_routed_here, has_grant)
    return sa.or_(allowed, is_unrouted) if seen.is_unrouted_seen else allowed

"""Break-glass in the store: opened with a reason for a limited time, reviewed once by somebody else."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from cloud.store import schema
from cloud.store.access_tables import account as _account
from cloud.store.access_tables import break_glass as _grant
from cloud.store.access_tables import break_glass_review as _review
from cloud.store.engine import insert


class Grant(NamedTuple):
    """One session opened for one account."""

    grant_id: str
    account: str
    hospital: str
    session_id: str
    reason: str
    opened_us: int
    expires_us: int


class Reviewed(NamedTuple):
    """A grant with what it opened and its review, empty while it waits for one."""

    grant: Grant
    title: str  # of the account: how the person is called
    session_kind: str
    session_label: str
    reviewer: str
    note: str
    at_us: int


_columns = [_grant.c[name] for name in Grant._fields]


def add(connection: sa.Connection, grant: Grant) -> None:
    """Opens the session for the account."""
    connection.execute(_grant.insert().values(**grant._asdict()))


def active(connection: sa.Connection, now_us: int) -> list[Grant]:
    """What stands open."""
    return [Grant(*row) for row in connection.execute(sa.select(*_columns).where(_grant.c.expires_us > now_us))]


def find(connection: sa.Connection, grant_id: str) -> Grant | None:
    """One grant."""
    row = connection.execute(sa.select(*_columns).where(_grant.c.grant_id == grant_id)).one_or_none()
    return None if row is None else Grant(*row)


def listed(connection: sa.Connection, most: int) -> list[Reviewed]:
    """Those to be reviewed first, the longest waiting at the top; then the reviewed, newest first."""
    session = schema.session.c
    texts = (_account.c.title, session.kind, session.label, _review.c.reviewer, _review.c.note)
    query = (
        sa.select(*_columns, *[sa.func.coalesce(text, "") for text in texts], sa.func.coalesce(_review.c.at_us, 0))
        .outerjoin_from(_grant, _review)
        .outerjoin(_account, _account.c.name == _grant.c.account)
        .outerjoin(schema.session, session.session_id == _grant.c.session_id)
    )
    is_waiting = _review.c.grant_id.is_(None)
    waiting = query.where(is_waiting).order_by(_grant.c.opened_us).limit(most)
    done = query.where(~is_waiting).order_by(_grant.c.opened_us.desc()).limit(most)
    rows = [*connection.execute(waiting), *connection.execute(done)]
    width = len(_columns)
    return [Reviewed(Grant(*row[:width]), *row[width:]) for row in rows][:most]


def review(connection: sa.Connection, grant_id: str, reviewer: str, note: str, now_us: int) -> bool:
    """The one review of a grant; False when it had one."""
    row = {"grant_id": grant_id, "reviewer": reviewer, "note": note, "at_us": now_us}
    return connection.execute(insert(_review).values(row).on_conflict_do_nothing()).rowcount > 0

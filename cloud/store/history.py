"""Stored rows with their place in history, found as they are read: no stored row and no board changes for it.

A row captured without a clock belongs `shift_us` later than it says, once its boot has a placement (placing.py); rows
that have their place are joined with none.
"""

from __future__ import annotations

import sqlalchemy as sa

from cloud.store import schema
from wire.clock import EARLIEST_PLAUSIBLE_US

_shift_us = schema.placement.c.shift_us
_waveform, _entry, _session = schema.waveform.c, schema.entry.c, schema.session.c


def with_placement(rows: sa.FromClause, placed: sa.ColumnElement[int], boot_id: sa.ColumnElement[bytes]) -> sa.Join:
    """Rows with the placement of their boot."""
    return rows.outerjoin(schema.placement, sa.and_(placed == 0, schema.placement.c.boot_id == boot_id))


def time_of(time_us: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """A time of these rows in its place, or as an unset clock said it."""
    return time_us + sa.func.coalesce(_shift_us, 0)


def is_in_history(placed: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether that is its place."""
    return sa.or_(placed == 1, _shift_us.is_not(None))


BLOCKS = with_placement(schema.waveform.join(schema.stream), _waveform.placed, schema.stream.c.boot_id)
BLOCK_US = time_of(_waveform.start_us)

ENTRIES = with_placement(schema.entry, _entry.placed, _entry.boot_id)
ENTRY_US = time_of(_entry.time_us)

_earliest_entry_us = (
    sa.select(sa.func.min(ENTRY_US))
    .select_from(ENTRIES)
    .where(_entry.session_id == _session.session_id, _entry.kind == "session", _entry.gateway == _session.gateway)
    .correlate(schema.session)
    .scalar_subquery()
)
# A session's board keeps the earliest opening, and nothing is earlier than what an unset clock says.
OPENED_US = sa.case(
    (_session.opened_us < EARLIEST_PLAUSIBLE_US, sa.func.coalesce(_earliest_entry_us, _session.opened_us)),
    else_=_session.opened_us,
)


def of_session(table: sa.Table, session_id: str) -> sa.ColumnElement[bool]:
    """Rows of a session from the gateway it belongs to: what another one says of it is stored and not read."""
    owner = sa.select(_session.gateway).where(_session.session_id == session_id)
    return sa.and_(table.c.session_id == session_id, table.c.gateway == owner.scalar_subquery())

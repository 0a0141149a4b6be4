"""On what ground a person's data are used: consent given, refused or withdrawn, or the exception of an emergency.

China's Personal Information Protection Law: health data need a separate consent (art. 29), below 14 a guardian's; what
protects life in an emergency needs none (art. 13 (4)), and its reason is written down.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import sqlalchemy as sa

from cloud.store.access_tables import consent as _consent


class Purpose(StrEnum):
    """What the data are used for."""

    CARE = "care"  # treatment in this episode
    HISTORY = "history"  # earlier readings shown to those who treat now


class Basis(StrEnum):
    """Why that is allowed, or that it is not."""

    CONSENT = "consent"
    GUARDIAN = "guardian"
    EMERGENCY = "emergency"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Consent(NamedTuple):
    """One act, as it was recorded."""

    session_id: str
    purpose: str
    basis: str
    note: str
    recorded_by: str
    at_us: int


def append(connection: sa.Connection, consent: Consent) -> None:
    """One more row; the newest of its session and purpose stands."""
    connection.execute(_consent.insert().values(**consent._asdict()))


def history(connection: sa.Connection, session_id: str, most: int) -> list[Consent]:
    """What was recorded of a session, newest first."""
    columns = [_consent.c[name] for name in Consent._fields]
    query = sa.select(*columns).where(_consent.c.session_id == session_id)
    return [Consent(*row) for row in connection.execute(query.order_by(_consent.c.consent_id.desc()).limit(most))]


def standing(connection: sa.Connection, session_id: str) -> dict[str, Consent]:
    """What stands, by purpose; a purpose nothing was recorded for is absent, which is no consent."""
    newest = (
        sa.select(sa.func.max(_consent.c.consent_id))
        .where(_consent.c.session_id == session_id)
        .group_by(_consent.c.purpose)
    )
    columns = [_consent.c[name] for name in Consent._fields]
    found = [Consent(*row) for row in connection.execute(sa.select(*columns).where(_consent.c.consent_id.in_(newest)))]
    return {each.purpose: each for each in found}

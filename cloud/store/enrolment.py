"""The tables of enrolment: codes that work once, and certificates that are valid until somebody says otherwise.

Every change also counts up a row of `meta`, so that a running cloud sees what another process did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from cloud.store import schema
from cloud.store.engine import insert

_OPEN, _USED, _BURNT = "open", "used", "burnt"
VALID, SUPERSEDED, REVOKED = "valid", "superseded", "revoked"
_LATER = (VALID, SUPERSEDED, REVOKED)  # a state only ever gives way to one further on
_CHANGES = "enrolment_changes"


class StoredCode(NamedTuple):
    """An open code; `digest` is of its secret."""

    code_id: str
    gateway: str
    digest: str
    expires_us: int
    tries: int


class StoredCertificate(NamedTuple):
    """A certificate as it stands."""

    serial: str
    gateway: str
    pem: str
    issued_us: int
    expires_us: int
    state: str


_codes, _certificates = schema.enrolment_code, schema.certificate
_certificate_columns = [_certificates.c[name] for name in StoredCertificate._fields]


def add_code(connection: sa.Connection, code: StoredCode, now_us: int) -> None:
    """Adds a code; an older one of the same gateway that is still open is burnt."""
    burn_codes(connection, code.gateway)
    connection.execute(_codes.insert().values(**code._asdict(), minted_us=now_us, state=_OPEN))


def open_code(connection: sa.Connection, code_id: str) -> StoredCode | None:
    """A code that nobody has used, burnt or outlived its tries; whether its time is over is for the caller to say."""
    columns = [_codes.c[name] for name in StoredCode._fields]
    query = sa.select(*columns).where(_codes.c.code_id == code_id, _codes.c.state == _OPEN)
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredCode(*row)


def use_code(connection: sa.Connection, code_id: str) -> bool:
    """Burns a code by its one use; False when somebody else was faster."""
    used = sa.update(_codes).where(_codes.c.code_id == code_id, _codes.c.state == _OPEN).values(state=_USED)
    return connection.execute(used).rowcount == 1


def count_try(connection: sa.Connection, code_id: str, most: int) -> None:
    """Counts a wrong secret, the last of which burns the code."""
    where = (_codes.c.code_id == code_id, _codes.c.state == _OPEN)
    connection.execute(sa.update(_codes).where(*where).values(tries=_codes.c.tries + 1))
    connection.execute(sa.update(_codes).where(*where, _codes.c.tries >= most).values(state=_BURNT))


def burn_codes(connection: sa.Connection, gateway: str) -> None:
    """Burns whatever code of a gateway is open."""
    where = (_codes.c.gateway == gateway, _codes.c.state == _OPEN)
    connection.execute(sa.update(_codes).where(*where).values(state=_BURNT))


def add_certificate(connection: sa.Connection, certificate: StoredCertificate, *, beside: str = "") -> None:
    """Adds a valid certificate; of its gateway's others only `beside`, the serial that asked for it, stays valid."""
    _end(connection, certificate.gateway, SUPERSEDED, but=beside)
    connection.execute(_certificates.insert().values(**certificate._asdict()))
    _count_change(connection)


def revoke(connection: sa.Connection, gateway: str) -> int:
    """Ends all that a gateway could come in with; returns how many certificates that were."""
    burn_codes(connection, gateway)
    ended = _end(connection, gateway, REVOKED)
    _count_change(connection)
    return ended


def _end(connection: sa.Connection, gateway: str, state: str, *, but: str = "") -> int:
    others = (_certificates.c.gateway == gateway, _certificates.c.state == VALID, _certificates.c.serial != but)
    return connection.execute(sa.update(_certificates).where(*others).values(state=state)).rowcount


def valid_certificates(connection: sa.Connection, now_us: int) -> list[StoredCertificate]:
    """Certificates that a box may come in with now, oldest first."""
    return [one for one in living_certificates(connection, now_us) if one.state == VALID]


def living_certificates(connection: sa.Connection, now_us: int) -> list[StoredCertificate]:
    """Certificates whose time is not over, in whatever state, oldest first."""
    query = (
        sa.select(*_certificate_columns)
        .where(_certificates.c.expires_us > now_us)
        .order_by(_certificates.c.issued_us, _certificates.c.serial)
    )
    return [StoredCertificate(*row) for row in connection.execute(query)]


def merge(connection: sa.Connection, noted: Sequence[StoredCertificate]) -> int:
    """Adds certificates that this store does not know and ends those that were ended; returns how many changed."""
    changed = 0
    for certificate in noted:
        mine = _certificates.c.serial == certificate.serial
        state = connection.scalar(sa.select(_certificates.c.state).where(mine))
        if state is None:
            connection.execute(_certificates.insert().values(**certificate._asdict()))
        elif _LATER.index(certificate.state) > _LATER.index(state):
            connection.execute(sa.update(_certificates).where(mine).values(state=certificate.state))
        else:
            continue
        changed += 1
    if changed:
        _count_change(connection)
    return changed


def newest_certificates(connection: sa.Connection) -> list[StoredCertificate]:
    """The last certificate of every gateway that ever had one, in whatever state."""
    query = sa.select(*_certificate_columns).order_by(_certificates.c.issued_us)
    newest = {row.gateway: StoredCertificate(*row) for row in connection.execute(query)}
    return [newest[gateway] for gateway in sorted(newest)]


def changes(connection: sa.Connection) -> int:
    """How often anything that concerns the broker's users changed."""
    value = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == _CHANGES))
    return int.from_bytes(value) if isinstance(value, bytes) else 0


def _count_change(connection: sa.Connection) -> None:
    mine = schema.meta.c.name == _CHANGES
    connection.execute(insert(schema.meta).values(name=_CHANGES, value=bytes(8)).on_conflict_do_nothing())
    # Locked, so that of two processes none counts over the other.
    value = connection.scalar(sa.select(schema.meta.c.value).where(mine).with_for_update())
    assert isinstance(value, bytes)
    connection.execute(sa.update(schema.meta).where(mine).values(value=(int.from_bytes(value) + 1).to_bytes(8)))

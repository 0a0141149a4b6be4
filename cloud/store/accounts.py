"""Accounts and sign-ins in the store, within the caller's transaction. A changed account is signed out everywhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from cloud.store.access_tables import account as _account
from cloud.store.access_tables import sign_in as _sign_in
from cloud.store.engine import insert

# The audit log tells who was here; rows of sign-ins that are over need not.
_KEPT_ENDED_US = 30 * 24 * 3600 * 1_000_000


class Account(NamedTuple):
    """A person as the store knows them."""

    name: str
    issuer: str
    subject: str
    title: str
    role: str
    hospital: str
    password_hash: str
    is_disabled: int
    made_us: int
    changed_us: int


class SignIn(NamedTuple):
    """One sign-in that its account still stands behind; limits of time are the caller's."""

    id_hash: bytes
    account: str
    title: str
    role: str
    hospital: str
    began_us: int
    seen_us: int


def find(connection: sa.Connection, name: str) -> Account | None:
    """One account."""
    row = connection.execute(sa.select(*_account.c).where(_account.c.name == name)).one_or_none()
    return None if row is None else Account(*row)


def find_subject(connection: sa.Connection, issuer: str, subject: str) -> Account | None:
    """The account another house vouches for."""
    query = sa.select(*_account.c).where(_account.c.issuer == issuer, _account.c.subject == subject)
    row = connection.execute(query).one_or_none()
    return None if row is None else Account(*row)


def every(connection: sa.Connection) -> list[Account]:
    """All accounts by name."""
    return [Account(*row) for row in connection.execute(sa.select(*_account.c).order_by(_account.c.name))]


def hospitals(connection: sa.Connection, roles: Collection[str]) -> frozenset[str]:
    """The hospitals that accounts of these roles are at, disabled ones aside; empty for one that is at none."""
    c = _account.c
    named = sa.select(c.hospital).distinct().where(c.role.in_(roles), c.is_disabled == 0)
    return frozenset(connection.scalars(named))


def add(connection: sa.Connection, account: Account) -> bool:
    """Adds an account; False when its name or subject is taken."""
    added = insert(_account).values(**account._asdict()).on_conflict_do_nothing()
    return connection.execute(added).rowcount > 0


def change(connection: sa.Connection, name: str, now_us: int, **columns: str | int) -> bool:
    """Changes columns of an account and ends its sign-ins; False when there is no such account."""
    changed = sa.update(_account).where(_account.c.name == name).values(changed_us=now_us, **columns)
    if not connection.execute(changed).rowcount:
        return False
    end_all(connection, name, now_us)
    return True


def vouched(connection: sa.Connection, said: Account) -> Account:
    """The account as another house describes it now, made at its first sign-in; one disabled here stays so."""
    known = find_subject(connection, said.issuer, said.subject)
    if known is None:
        connection.execute(_account.insert().values(**said._asdict()))
        return said
    if (known.role, known.hospital) != (said.role, said.hospital) and not known.is_disabled:
        change(connection, known.name, said.changed_us, role=said.role, hospital=said.hospital)
    return known._replace(role=said.role, hospital=said.hospital)


def rehash(connection: sa.Connection, name: str, old_hash: str, new_hash: str) -> None:
    """The same password under newer parameters: nobody is signed out."""
    same = (_account.c.name == name, _account.c.password_hash == old_hash)
    connection.execute(sa.update(_account).where(*same).values(password_hash=new_hash))


def begin(connection: sa.Connection, id_hash: bytes, account: Account, source: str, now_us: int) -> None:
    """A new sign-in; rows that have been over for long go."""
    over = sa.and_(_sign_in.c.ended_us.is_not(None), _sign_in.c.ended_us < now_us - _KEPT_ENDED_US)
    connection.execute(sa.delete(_sign_in).where(sa.or_(over, _sign_in.c.began_us < now_us - 2 * _KEPT_ENDED_US)))
    row = {
        "id_hash": id_hash,
        "account": account.name,
        "role": account.role,
        "hospital": account.hospital,
        "source": source,
        "began_us": now_us,
        "seen_us": now_us,
    }
    connection.execute(_sign_in.insert().values(row))


def standing(connection: sa.Connection, id_hashes: Collection[bytes]) -> list[SignIn]:
    """Those that nobody has ended and whose account is as it was when they began."""
    c = _sign_in.c
    columns = (c.id_hash, c.account, _account.c.title, c.role, c.hospital, c.began_us, c.seen_us)
    query = (
        sa.select(*columns)
        .join_from(_sign_in, _account)
        .where(c.id_hash.in_(id_hashes), c.ended_us.is_(None), _account.c.is_disabled == 0)
        .where(_account.c.role == c.role, _account.c.hospital == c.hospital)
    )
    return [SignIn(*row) for row in connection.execute(query)]


def touch(connection: sa.Connection, id_hash: bytes, now_us: int) -> None:
    """Somebody used it just now."""
    connection.execute(sa.update(_sign_in).where(_sign_in.c.id_hash == id_hash).values(seen_us=now_us))


def end(connection: sa.Connection, id_hash: bytes, now_us: int) -> None:
    """Signs one browser out."""
    _end(connection, _sign_in.c.id_hash == id_hash, now_us)


def end_all(connection: sa.Connection, account: str, now_us: int) -> None:
    """Signs every browser of an account out."""
    _end(connection, _sign_in.c.account == account, now_us)


def _end(connection: sa.Connection, which: sa.ColumnElement[bool], now_us: int) -> None:
    connection.execute(sa.update(_sign_in).where(which, _sign_in.c.ended_us.is_(None)).values(ended_us=now_us))

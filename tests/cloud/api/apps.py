"""The application of a cloud without broker and server, and how tests ask it."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from cloud.access_config import AccessConfig
from cloud.api.audit import Audit
from cloud.api.auth import Access
from cloud.api.rates import Rates
from cloud.api.reach import Reach
from cloud.api.server import build_app
from cloud.api.sign_in_desk import SignInDesk
from cloud.api.strangers import Strangers
from cloud.api.tokens import read_tokens
from cloud.api.unseen import UnseenAlerts
from cloud.commands import Commands
from cloud.counters import Counters
from cloud.devices import Devices
from cloud.feed import Feed
from cloud.oidc import OidcProvider
from cloud.passwords import PasswordDesk
from cloud.sign_ins import SignIns
from cloud.store import accounts, schema
from cloud.store.accounts import Account
from cloud.store.database import Database
from cloud.store.fleet import FleetReader
from cloud.store.reader import StoreReader
from tests.cloud.cloud_frames import NOW_US, FakeClock
from wire.commands import Command

PASSWORD = "blue kettle on tuesday"
ORIGIN = {"Origin": "http://127.0.0.1"}


def build(
    database: Database,
    access: AccessConfig,
    *,
    clock: FakeClock | None = None,
    counters: Counters | None = None,
    feed: Feed | None = None,
    gateways: Sequence[str] = ("gw-1",),
    provider: OidcProvider | None = None,
    rates: Rates | None = None,
    passwords: PasswordDesk | None = None,
) -> FastAPI:
    clock, counters = clock or FakeClock(), counters or Counters()

    async def send(gateway: str, command: Command) -> None:
        raise AssertionError("nothing is sent by a route itself")

    audit, sign_ins = Audit(database, clock), SignIns(database, clock, counters, access)
    tokens, feed = read_tokens(access), feed or Feed(clock, counters)
    reach = Reach(database, clock, access, tokens.hospitals, tokens.screens)
    strangers, passwords = Strangers(audit, clock, counters), passwords or PasswordDesk()
    return build_app(
        access=Access(access, tokens, sign_ins),
        desk=SignInDesk(
            database,
            clock,
            counters,
            audit,
            strangers,
            sign_ins,
            passwords,
            Devices(b"key of a test"),
            access.mode,
            provider,
        ),
        reach=reach,
        unseen=UnseenAlerts(feed, reach),
        database=database,
        audit=audit,
        strangers=strangers,
        reader=StoreReader(database),
        fleet_reader=FleetReader(database),
        commands=Commands(database, clock, counters, send, list(gateways)),
        feed=feed,
        counters=counters,
        clock=clock,
        rates=rates
        or Rates(clock, per_source=10_000, per_identity=10_000),  # a clock that stands still refills nothing
    )


def client_of(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=("10.0.0.9", 1)), base_url="http://127.0.0.1", headers=headers
    )


def person(name: str, role: str, hospital: str = "", password_hash: str = "", **columns: object) -> Account:
    made = Account(name, "", name, name.title(), role, hospital, password_hash, 0, NOW_US, NOW_US)
    return made._replace(**columns)


async def signed_in(app: FastAPI, database: Database, account: Account) -> httpx.AsyncClient:
    """A browser of this person, whose account is made when there is none."""
    database.transaction(lambda connection: accounts.add(connection, account))
    client = client_of(app, **ORIGIN)
    client.cookies.set("vw_session", await app.state.access.sign_ins.begin(account, "10.0.0.9"))
    return client


def audited(database: Database) -> list[tuple[str, str, str, str, str]]:
    c = schema.audit.c
    query = sa.select(c.principal, c.action, c.object, c.source, c.result).order_by(c.audit_id)
    return [tuple(row) for row in database.read_now(lambda connection: connection.execute(query).all())]  # type: ignore[misc]

"""Signing in and out as a browser does it, and what must not work."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from cloud.access_config import AccessConfig, AccessMode, LimitConfig
from cloud.counters import Counters
from cloud.passwords import hash_password
from cloud.store import access_tables, accounts
from cloud.store.database import Database
from tests.cloud.api.apps import ORIGIN, PASSWORD, audited, build, client_of, person, signed_in
from tests.cloud.cloud_frames import NOW_US, FakeClock

MINUTE_US = 60_000_000
HASH = hash_password(PASSWORD)
DOCTOR = person("wang", "er_clinician", "H1", HASH)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    opened.transaction(lambda connection: accounts.add(connection, DOCTOR))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def app(database: Database, clock: FakeClock, counters: Counters) -> FastAPI:
    limits = {"er_clinician": LimitConfig(idle_minutes=10, absolute_minutes=60)}
    access = AccessConfig(mode=AccessMode.ACCOUNTS, limits=limits)
    return build(database, access, clock=clock, counters=counters)


async def ask(client: httpx.AsyncClient, name: str = "wang", password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/v1/sign-in", json={"name": name, "password": password})


async def status(client: httpx.AsyncClient) -> int:
    return (await client.get("/api/v1/sessions")).status_code


async def test_a_person_signs_in_is_known_and_signs_out(app: FastAPI, database: Database) -> None:
    async with client_of(app, **ORIGIN) as client:
        assert await status(client) == 401
        answer = await ask(client)
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("vw_session=")
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
        assert "Secure" not in cookie  # plain HTTP within this machine
        assert await status(client) == 200
        me = (await client.get("/api/v1/me")).json()
        assert (me["name"], me["title"], me["role"], me["hospital"]) == ("wang", "Wang", "er_clinician", "H1")
        stolen = client.cookies["vw_session"]
        assert (await client.post("/api/v1/sign-out")).status_code == 200
        assert await status(client) == 401
        client.cookies.set("vw_session", stolen)
        assert await status(client) == 401
        kept = database.read_now(lambda c: c.execute(sa.select(access_tables.sign_in.c.id_hash)).scalars().all())
        assert kept == [hashlib.sha256(stolen.encode()).digest()]
    said = [row[1:] for row in audited(database) if row[0] == "wang"]
    assert said[0] == ("sign in", "", "10.0.0.9", "allowed")
    assert ("sign out", "", "10.0.0.9", "allowed") in said


async def test_over_tls_or_under_a_real_name_the_cookie_is_bound_to_it(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, client=("10.0.0.9", 1))
    for base in ("https://127.0.0.1", "http://vital.example"):
        async with httpx.AsyncClient(transport=transport, base_url=base, headers={"Origin": base}) as client:
            cookie = (await ask(client)).headers["set-cookie"]
            assert cookie.startswith("__Host-vw_session=")
            assert "Secure" in cookie


async def test_every_way_of_being_wrong_has_one_answer(app: FastAPI, database: Database, counters: Counters) -> None:
    database.transaction(lambda c: accounts.add(c, person("gone", "operator", "", HASH, is_disabled=1)))
    database.transaction(lambda c: accounts.add(c, person("oidc:1", "operator", "", "", issuer="https://id.example")))
    async with client_of(app, **ORIGIN) as client:
        tries = [
            ("wang", "wrong password"),
            ("nobody", PASSWORD),
            ("gone", PASSWORD),
            ("oidc:1", ""),
            ("' OR 1=1", "x"),
        ]
        answers = [await ask(client, name, password or "x") for name, password in tries]
    assert {(one.status_code, one.text, "set-cookie" in one.headers) for one in answers} == {
        (401, '{"error":"wrong name or password"}', False)
    }
    assert counters["sign_ins_refused"] == 5
    assert [row[0] for row in audited(database)] == ["wang", "(unknown)", "gone", "oidc:1", "(unknown)"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"name": "wang"}', b'{"name": "", "password": "x"}', b" " * 10_000, b"\xff",
             b'{"name": "wang", "password": "' + b"x" * 300 + b'"}'],
)  # fmt: skip
async def test_a_body_of_another_shape_is_refused(app: FastAPI, body: bytes) -> None:
    async with client_of(app, **ORIGIN) as client:
        assert (await client.post("/api/v1/sign-in", content=body)).status_code == 422


async def test_a_flood_is_refused_cheaply_counted_and_written_down_once_a_wait(
    app: FastAPI, database: Database, counters: Counters, clock: FakeClock
) -> None:
    async with client_of(app, **ORIGIN) as client:
        answers = [await ask(client, "wang", "wrong password") for _ in range(5)]
        refused = [await ask(client, "wang", PASSWORD) for _ in range(300)]
        assert {one.status_code for one in answers} == {401}
        assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(429, "1")}
        assert (counters["sign_ins_refused"], counters["sign_ins_limited"]) == (5, 300)
        assert [row[4] for row in audited(database)] == ["refused"] * 5 + ["limited"]
        clock.us += 1_000_000
        assert (await ask(client)).status_code == 200


async def test_limits_of_idleness_and_of_a_whole_shift(app: FastAPI, database: Database, clock: FakeClock) -> None:
    async with await signed_in(app, database, DOCTOR) as client:
        for _ in range(6):
            clock.us += 9 * MINUTE_US
            assert await status(client) == 200
        clock.us += 7 * MINUTE_US  # 61 minutes in all
        assert await status(client) == 401
    async with await signed_in(app, database, DOCTOR) as client:
        clock.us += 10 * MINUTE_US
        assert await status(client) == 401


async def test_a_changed_account_and_a_sign_out_everywhere_end_every_sign_in_at_once(
    app: FastAPI, database: Database
) -> None:
    changes = ({"is_disabled": 1}, {"role": "auditor", "is_disabled": 0}, {"role": "er_clinician", "hospital": "H2"})
    for change in changes:
        account = database.read_now(lambda c: accounts.find(c, "wang"))
        assert account is not None
        client = await signed_in(app, database, account)
        watching = asyncio.ensure_future(app.state.access.sign_ins.until_ended(hash_of(client)))
        await asyncio.sleep(0)
        database.transaction(lambda c, change=change: accounts.change(c, "wang", NOW_US, **change))
        assert await status(client) == 401
        await app.state.access.sign_ins.look()
        await watching
        await client.aclose()
    one, other = [await signed_in(app, database, account._replace(**change)) for _ in range(2)]
    watching = asyncio.ensure_future(app.state.access.sign_ins.until_ended(hash_of(other)))
    await asyncio.sleep(0)
    assert (await one.post("/api/v1/sign-out-everywhere")).status_code == 200
    await watching
    assert await status(other) == 401


def hash_of(client: httpx.AsyncClient) -> bytes:
    return hashlib.sha256(client.cookies["vw_session"].encode()).digest()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8081"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer x"}, 403),
    ],
)
async def test_no_foreign_page_changes_anything(
    app: FastAPI, database: Database, headers: dict[str, str], expected: int
) -> None:
    async with await signed_in(app, database, DOCTOR) as client:
        del client.headers["Origin"]
        assert (await client.post("/api/v1/sign-out", headers=headers)).status_code == expected
        assert (await ask_with(client, headers)) == expected


async def ask_with(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
    """Signing somebody in as another is a forgery too."""
    body = {"name": "wang", "password": PASSWORD}
    return (await client.post("/api/v1/sign-in", json=body, headers=headers)).status_code


async def test_where_only_tokens_open_no_password_does(database: Database, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("")
    app = build(database, AccessConfig(mode=AccessMode.TOKEN, tokens_file=str(tmp_path / "tokens")))
    async with await signed_in(app, database, DOCTOR) as client:
        assert await status(client) == 401
        assert (await ask(client)).status_code == 401
        assert (await client.get("/api/v1/me")).json()["ways"] == {"password": False, "oidc": None}


async def test_a_token_in_a_cookie_does_not_stand_in_for_who_signed_in(database: Database, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text(f"wall er_clinician@H2 {hashlib.sha256(b'wall-token').hexdigest()}\n")
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS, tokens_file=str(tokens)))
    client = await signed_in(app, database, person("else", "er_clinician", "H1"))
    client.cookies.set("vw_token", "wall-token")
    assert (await client.get("/api/v1/me")).json()["name"] == "else"
    async with client_of(app, Cookie="vw_token=wall-token") as alone:
        assert (await alone.get("/api/v1/me")).json()["name"] == ""
    async with client_of(app, Authorization="Bearer wall-token") as machine:
        assert (await machine.get("/api/v1/me")).json()["name"] == "wall"


async def test_a_flood_from_a_hospitals_address_shuts_out_no_browser_that_is_known(app: FastAPI) -> None:
    async with client_of(app, **ORIGIN) as known, client_of(app, **ORIGIN) as flood, client_of(app, **ORIGIN) as fresh:
        assert (await ask(known)).status_code == 200
        cookie = next(one for one in known.cookies.jar if one.name == "vw_device")
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "strict"
        for number in range(60):
            await flood.post("/api/v1/sign-in", json={"name": f"name-{number}", "password": "x" * 20})
        assert (await ask(fresh)).status_code == 429
        assert (await ask(known)).status_code == 200
        # For its own account, and no more often than anybody may try one.
        assert (await ask(known, name="chen")).status_code == 429
        assert [(await ask(known, password="x" * 20)).status_code for _ in range(6)] == [401] * 5 + [429]

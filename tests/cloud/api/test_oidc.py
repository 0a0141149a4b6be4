"""Sign-in by an identity provider over real sockets, and every way it must not work."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from joserfc.jwk import RSAKey

from cloud.access_config import AccessConfig, AccessMode, OidcConfig
from cloud.oidc import open_provider
from cloud.store import accounts
from cloud.store.accounts import Account
from cloud.store.database import Database
from tests.cloud.api.apps import ORIGIN, audited, build, client_of
from tests.cloud.identity_provider import CLIENT_ID, SECRET, IdentityProvider
from vitalwire.stage import free_port
from wire.clock import SystemClock

HERE = "http://127.0.0.1"
DOCTOR = {"sub": "1234", "name": "王力", "realm_access": {"roles": ["staff", "er-staff"]}, "org": "1002"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    running = IdentityProvider(dict(DOCTOR))
    yield running
    running.stop()


@pytest.fixture
def oidc(provider: IdentityProvider, tmp_path: Path) -> OidcConfig:
    (tmp_path / "secret").write_text(SECRET + "\n")
    return OidcConfig(
        issuer=provider.issuer,
        client_id=CLIENT_ID,
        client_secret_file=str(tmp_path / "secret"),
        roles={"it-staff": "operator", "er-staff": "er_clinician"},
        role_claim="realm_access.roles",
        hospital_claim="org",
        hospitals={"1001": "H1", "1002": "H2"},
    )


def served(database: Database, oidc: OidcConfig) -> FastAPI:
    clock = SystemClock()
    access = AccessConfig(mode=AccessMode.ACCOUNTS, public_url=HERE, oidc=oidc)
    found = open_provider(oidc, HERE, clock)
    return build(database, access, clock=clock, provider=found)  # type: ignore[arg-type]


@pytest.fixture
def app(database: Database, oidc: OidcConfig) -> FastAPI:
    return served(database, oidc)


async def to_the_provider(client: httpx.AsyncClient) -> str:
    """Leaves for the provider and comes back with its answer, not opened yet."""
    left = await client.get("/api/v1/oidc/start", params={"next": "/er?view=wall"})
    assert left.status_code == 303
    async with httpx.AsyncClient() as outside:
        return (await outside.get(left.headers["location"])).headers["location"]


async def sign_in(client: httpx.AsyncClient) -> str:
    """Where the browser is sent at last."""
    return str((await client.get(await to_the_provider(client))).headers["location"])


async def test_somebody_the_provider_vouches_for_is_signed_in(app: FastAPI, database: Database) -> None:
    async with client_of(app, **ORIGIN) as client:
        assert (await client.get("/api/v1/me")).json()["ways"]["oidc"] == "OpenID Connect"
        assert await sign_in(client) == "/sign-in?next=%2Fer%3Fview%3Dwall"
        me = (await client.get("/api/v1/me")).json()
        assert (me["title"], me["role"], me["hospital"]) == ("王力", "er_clinician", "H2")
        assert me["name"].startswith("oidc:")
        assert "vw_oidc" not in client.cookies
        assert (await client.get("/api/v1/sessions")).status_code == 200
    said = str(audited(database))
    assert "sign in by provider" in said
    assert "1234" not in said
    assert "王力" not in said


async def test_who_begins_without_end_pushes_out_nobody_else(
    app: FastAPI, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.oidc._MOST_PENDING", 100)
    transport = httpx.ASGITransport(app, client=("10.0.0.10", 1))
    async with (
        client_of(app, **ORIGIN) as flood,
        client_of(app, **ORIGIN) as neighbour,
        httpx.AsyncClient(transport=transport, base_url=HERE) as other,
    ):
        left = await to_the_provider(other)
        for _ in range(300):
            assert (await flood.get("/api/v1/oidc/start")).headers["location"].startswith(provider.issuer)
        assert len(app.state.desk.provider._pending) == 51
        assert (await other.get(left)).headers["location"].startswith("/sign-in?next")
        await sign_in(neighbour)  # behind the same address, while it goes on
        assert (await neighbour.get("/api/v1/sessions")).status_code == 200


def only(database: Database) -> Account:
    (account,) = database.read_now(accounts.every)
    return account


async def test_role_and_hospital_follow_the_provider_and_a_change_ends_other_sign_ins(
    app: FastAPI, database: Database, provider: IdentityProvider
) -> None:
    async with client_of(app, **ORIGIN) as first, client_of(app, **ORIGIN) as second:
        await sign_in(first)
        await sign_in(second)
        assert (await first.get("/api/v1/sessions")).status_code == 200
        provider.claims |= {"org": ["9", "1001"]}
        await sign_in(second)
        assert only(database).hospital == "H1"
        assert (await first.get("/api/v1/sessions")).status_code == 401
        assert (await second.get("/api/v1/sessions")).status_code == 200
        database.transaction(lambda c: accounts.change(c, only(database).name, 1, is_disabled=1))
        assert await sign_in(second) == "/sign-in?refused"


CLAIMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another issuer": lambda claims: claims.update(iss="https://evil.example"),
    "another client": lambda claims: claims.update(aud="somebody else"),
    "another party": lambda claims: claims.update(azp="somebody else"),
    "many clients": lambda claims: claims.update(aud=[CLIENT_ID, "somebody else"]),
    "expired": lambda claims: claims.update(exp=int(time.time()) - 61),
    "never expiring": lambda claims: claims.pop("exp"),
    "from the future": lambda claims: claims.update(iat=int(time.time()) + 3600),
    "another nonce": lambda claims: claims.update(nonce="guess"),
    "no nonce": lambda claims: claims.pop("nonce"),
    "nobody": lambda claims: claims.pop("sub"),
    "a number": lambda claims: claims.update(sub=7),
    "no role": lambda claims: claims.update(realm_access={"roles": ["gardener"]}),
    "roles of another shape": lambda claims: claims.update(realm_access=["er-staff"]),
    "no hospital": lambda claims: claims.pop("org"),
    "an unknown hospital": lambda claims: claims.update(org="1003"),
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_claims_that_do_not_fit_sign_nobody_in(
    app: FastAPI, database: Database, provider: IdentityProvider, name: str
) -> None:
    provider.twist = lambda claims: CLAIMS[name](claims) and None
    await refused(app, database)


async def refused(app: FastAPI, database: Database) -> None:
    async with client_of(app, **ORIGIN) as client:
        assert await sign_in(client) == "/sign-in?refused"
        assert "vw_session" not in client.cookies
    assert database.read_now(accounts.every) == []
    assert audited(database)[-1] == ("(unknown)", "sign in by provider", "", "10.0.0.9", "refused")


@pytest.mark.parametrize("how", ["foreign key", "unknown kid"])
async def test_a_token_of_another_key_signs_nobody_in(
    app: FastAPI, database: Database, provider: IdentityProvider, how: str
) -> None:
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "first"})
    if how == "unknown kid":
        provider.header = {"alg": "RS256", "kid": "../../etc"}
    await refused(app, database)


@pytest.mark.parametrize("how", ["unsigned", "hmac with the secret", "hmac with the public key"])
async def test_a_token_without_the_providers_own_signature_signs_nobody_in(
    app: FastAPI, database: Database, provider: IdentityProvider, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = SECRET.encode() if how.endswith("secret") else provider.key.as_pem(private=False)

    def forged(_header: object, claims: dict[str, Any], *_: object, **__: object) -> str:
        header = {"alg": "none"} if how == "unsigned" else {"alg": "HS256", "kid": "first"}
        text = ".".join(base64url(msgspec.json.encode(part)) for part in (header, claims))
        mark = b"" if how == "unsigned" else hmac.digest(secret, text.encode(), "sha256")
        return f"{text}.{base64url(mark)}"

    monkeypatch.setattr("tests.cloud.identity_provider.jwt.encode", forged)
    await refused(app, database)


def base64url(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_new_keys_of_the_provider_are_fetched_once_they_are_used(
    app: FastAPI, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(app, **ORIGIN) as client:
        assert "refused" not in await sign_in(client)
        provider.key, provider.header = RSAKey.generate_key(2048, {"kid": "next"}), {"alg": "RS256", "kid": "next"}
        assert "refused" in await sign_in(client)  # asked less than a minute ago: made-up key names cost nothing
        monkeypatch.setattr("cloud.oidc._KEYS_AGAIN_US", 0)
        assert "refused" not in await sign_in(client)
    assert provider.asked.count("/keys") == 2


async def test_an_answer_is_good_once_in_the_browser_that_asked(app: FastAPI, provider: IdentityProvider) -> None:
    async with client_of(app, **ORIGIN) as client, client_of(app, **ORIGIN) as victim:
        answer = await to_the_provider(client)
        # A stranger's answer in somebody else's browser would sign them in as the stranger.
        assert (await victim.get(answer)).headers["location"] == "/sign-in?refused"
        assert (await client.get(answer)).headers["location"] == "/sign-in?refused"
        answer = await to_the_provider(client)
        good = {name: one[0] for name, one in parse_qs(urlsplit(answer).query).items()}
        bad = [{}, good | {"state": "x"}, {"state": good["state"], "error": "access_denied"}]
        for query in bad:
            back = await client.get("/api/v1/oidc/callback", params=query)
            assert back.headers["location"] == "/sign-in?refused"
        answer = await to_the_provider(client)
        assert "refused" in (await client.get(answer + "&iss=x")).headers["location"]
        answer = await to_the_provider(client)
        assert "refused" not in (await client.get(answer)).headers["location"]
        assert "refused" in (await client.get(answer)).headers["location"]


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://evil.example"}, {"token_endpoint": "http://id.example/token"}, {"jwks_uri": 7}],
)
async def test_metadata_that_cannot_be_trusted_sends_nobody_anywhere(
    app: FastAPI, provider: IdentityProvider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    async with client_of(app, **ORIGIN) as client:
        assert (await client.get("/api/v1/oidc/start")).headers["location"] == "/sign-in?refused"


async def test_a_provider_that_is_away_is_said_and_not_an_error(database: Database, oidc: OidcConfig) -> None:
    away = msgspec.structs.replace(oidc, issuer=f"http://127.0.0.1:{free_port()}")
    async with client_of(served(database, away), **ORIGIN) as client:
        assert (await client.get("/api/v1/oidc/start")).headers["location"] == "/sign-in?refused"


async def test_one_client_serves_every_sign_in_and_keeps_nothing_of_any(
    app: FastAPI, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_again(*_: object, **__: object) -> None:
        raise AssertionError("reading every certificate holds up all screens")

    monkeypatch.setattr("httpx.AsyncClient", build_again)
    monkeypatch.setattr("cloud.oidc._METADATA_US", 0)
    async with app.state.desk.provider as ours:
        for _ in range(2):
            await ours.depart("", "10.0.0.9")
        assert list(ours._client.cookies.jar) == []
    assert ours._client.is_closed
    assert provider.asked == ["/.well-known/openid-configuration"] * 2


async def test_a_provider_that_answers_byte_by_byte_is_given_up(
    database: Database, oidc: OidcConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.oidc._TOTAL_S", 0.1)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while not reader.at_eof():
            writer.write(b" ")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", port := free_port()):
        slow = msgspec.structs.replace(oidc, issuer=f"http://127.0.0.1:{port}")
        async with client_of(served(database, slow), **ORIGIN) as client, asyncio.timeout(3):
            assert (await client.get("/api/v1/oidc/start")).headers["location"] == "/sign-in?refused"


@pytest.mark.timeout(60)
async def test_a_provider_that_somebody_else_wrote(database: Database, oidc: OidcConfig) -> None:
    """Our own could share our misreading of the specification."""
    port = free_port()
    person = '{"sub": "alice", "name": "Alice", "role": "it-staff"}'
    call = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--user-claims", person]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    theirs = await asyncio.create_subprocess_exec(*call, **quiet)
    try:
        issuer = f"http://127.0.0.1:{port}"
        app = served(database, msgspec.structs.replace(oidc, issuer=issuer, role_claim="role"))
        async with client_of(app, **ORIGIN) as client, httpx.AsyncClient() as outside:
            for _ in range(200):
                with contextlib.suppress(httpx.TransportError):
                    await outside.get(issuer)
                    break
                await asyncio.sleep(0.1)
            left = await client.get("/api/v1/oidc/start")
            agreed = await outside.post(left.headers["location"], data={"sub": "alice"})
            back = await client.get(agreed.headers["location"])
            assert back.headers["location"].startswith("/sign-in?next")
            me = (await client.get("/api/v1/me")).json()
            assert (me["title"], me["role"]) == ("Alice", "operator")
    finally:
        theirs.terminate()
        await theirs.wait()

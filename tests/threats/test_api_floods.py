"""What is too large, too slow or too often, against a running API: refused before it costs anything, and counted."""

from __future__ import annotations

import asyncio
import resource
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import websockets
from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.audit import Audit
from cloud.api.hasty import Doorway
from cloud.api.rates import Rates
from cloud.api.rim import MOST_BODY_BYTES, MOST_HEADER_BYTES, MOST_SOCKETS, MOST_URL_BYTES, Rim
from cloud.config import TlsConfig
from cloud.counters import Counters
from cloud.passwords import PasswordDesk
from cloud.sign_in_limits import SignInLimits
from cloud.store import accounts
from cloud.store.database import Database
from tests.cloud.api.apps import ORIGIN, audited, build, client_of, person, signed_in
from tests.cloud.bus.test_mqtt_tls import write_certificate
from tests.cloud.cloud_frames import FakeClock
from tests.threats.served import Served, served

SIGN_IN = "/api/v1/sign-in"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    opened.transaction(lambda connection: accounts.add(connection, person("wang", "er_clinician", "H1")))
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
    return build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=clock, counters=counters)


@pytest.fixture
async def api(app: FastAPI, counters: Counters) -> AsyncIterator[Served]:
    async with served(app, Doorway(counters, head_s=0.3, most_connections=20)) as running:
        yield running


def post(body: bytes, *headers: str) -> bytes:
    lines = [f"POST {SIGN_IN} HTTP/1.1", "Host: 127.0.0.1", "Origin: http://127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_what_is_too_large_is_refused_by_its_size_alone(api: Served, counters: Counters) -> None:
    assert status(await api.get("/er?" + "x" * MOST_URL_BYTES)) == 414
    assert status(await api.get("/er", "X-Big: " + "x" * MOST_HEADER_BYTES)) == 431
    # The body is never sent: its promise is enough, in whatever number it comes.
    for promised in (str(MOST_BODY_BYTES + 1), "9" * 18):
        assert status(await api.raw(post(b"", f"Content-Length: {promised}"))) == 413
    assert counters["requests_too_large"] == 4
    assert status(await api.get("/er", "X: " + "x" * (MOST_HEADER_BYTES - 200))) == 200


async def test_a_body_that_says_no_size_is_read_no_further_than_its_route_allows(api: Served) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    reader, writer = await asyncio.open_connection(api.host, api.port)
    sent = 0
    writer.write(post(b"", "Transfer-Encoding: chunked"))
    try:
        async with asyncio.timeout(10):
            while sent < 64 << 20:
                writer.write(chunk)
                sent += len(chunk)
                await writer.drain()
    except (ConnectionError, OSError):
        pass
    # What the sockets of both ends hold, and no more.
    assert sent < 32 << 20
    assert status(await read_all(reader)) in (413, 422)
    writer.close()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    try:
        async with asyncio.timeout(5):
            while part := await reader.read(65536):
                answer += part
    except ConnectionError:
        pass  # reset behind its answer, since we were still sending
    return answer or b"HTTP/1.1 413 reset"


async def test_a_route_that_reads_too_much_gets_no_more(database: Database, clock: FakeClock) -> None:
    counters, told = Counters(), []

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def endless() -> dict[str, object]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    async def never() -> dict[str, object]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def tell(message: object) -> None:
        told.append(message)

    rim = Rim(reads, Rates(clock, per_source=9, per_identity=9), Audit(database, clock), counters, body_s=0.05)
    scope = {"type": "http", "scheme": "http", "path": "/", "query_string": b"", "headers": [], "client": ("a", 1)}
    for source in (endless, never):
        await rim(scope, source, tell)  # type: ignore[arg-type]
    assert [message["status"] for message in told if "status" in message] == [413, 408]
    assert (counters["requests_too_large"], counters["requests_too_slow"]) == (2, 2)


async def test_half_requests_are_dropped_in_time_and_shut_nobody_out(api: Served, counters: Counters) -> None:
    halves = []
    for number in range(60):
        reader, writer = await asyncio.open_connection(api.host, api.port)
        writer.write(b"GET /er HTTP/1.1\r\nHost: " if number % 2 else b"")
        halves.append((reader, writer))
    async with httpx.AsyncClient(base_url=api.url) as client:
        assert (await client.get("/er")).status_code == 200
        for reader, writer in halves:
            async with asyncio.timeout(5):
                writer.write(b"x")  # a byte now and then does not keep it
                with pytest.raises((ConnectionError, EOFError)):
                    await reader.readexactly(1)
            writer.close()
        assert counters["http_connections_crowded_out"] >= 40
        assert counters["http_connections_crowded_out"] + counters["http_heads_too_slow"] >= 60
        assert (await client.get("/er")).status_code == 200


async def test_answers_that_nobody_reads_hold_no_connection() -> None:
    counters, app = Counters(), FastAPI()
    app.add_api_route("/", lambda: Response(b" " * (32 << 20)))
    async with served(app, Doorway(counters, stall_s=0.5)) as api:
        slow, slow_writer = await asyncio.open_connection(api.host, api.port)
        _, deaf_writer = await asyncio.open_connection(api.host, api.port, limit=1)  # reads on no further than this
        for writer in (slow_writer, deaf_writer):
            writer.write(f"GET / HTTP/1.1\r\nHost: {api.host}\r\n\r\n".encode())
        async with asyncio.timeout(5):
            for _ in range(10):
                assert len(await slow.readexactly(1 << 20)) == 1 << 20
                await asyncio.sleep(0.1)  # twice as long as nothing may be read
        assert counters["http_answers_unread"] == 1
        assert len(await slow.readexactly(20 << 20)) == 20 << 20
        for writer in (slow_writer, deaf_writer):
            writer.close()


async def test_a_newcomer_is_let_in_when_every_other_has_asked(database: Database) -> None:
    counters = Counters()
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), counters=counters)
    async with served(app, Doorway(counters, most_connections=4)) as api:
        slow = [await asyncio.open_connection(api.host, api.port) for _ in range(2)]
        for _, writer in slow:
            writer.write(post(b"{", "Content-Length: 9"))
            await writer.drain()
        await asyncio.sleep(0.1)  # their heads are whole
        async with asyncio.timeout(3):
            assert status(await api.get("/sign-in")) == 200
            assert await slow[0][0].read() == b""  # the oldest gave way: no source has more than half
        assert counters["http_connections_crowded_out"] == 1
        for _, writer in slow:
            writer.close()


def test_one_source_takes_no_more_than_half_and_the_newcomer_goes_last() -> None:
    counters, dropped = Counters(), []

    class One:
        def give_up(self, counter: str) -> None:
            dropped.append(self)

    doorway, ones = Doorway(counters, most_connections=4), [One() for _ in range(6)]

    def enter(number: int, source: str, connections: int) -> None:
        doorway.enter(ones[number], source, connections)  # type: ignore[arg-type]  # what it uses of one

    enter(0, "a", 1)
    enter(1, "a", 2)
    enter(2, "b", 3)
    doorway.half_open[ones[2]] = None  # type: ignore[index]
    enter(3, "c", 4)
    assert dropped == []
    enter(4, "a", 4)
    assert dropped == [ones[0]]  # of its own source, though another's has not asked yet
    doorway.leave(ones[0], "a")  # type: ignore[arg-type]
    doorway.half_open[ones[5]] = None  # type: ignore[index]
    enter(5, "d", 5)
    assert dropped == [ones[0], ones[2]]


def test_descriptors_are_left_for_the_store_the_broker_and_files() -> None:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, descriptors[1]))
        assert Doorway(Counters()).most_connections == 700
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, descriptors[1]))
        assert Doorway(Counters()).most_connections == 4096 - 324
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, descriptors)


async def test_half_a_tls_handshake_is_dropped_in_time(app: FastAPI, tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "server.crt", "localhost")
    tls = TlsConfig(str(certificate), str(certificate.with_suffix(".key")))
    async with served(app, Doorway(Counters(), head_s=0.3), tls) as api:
        assert await api.raw(b"\x16\x03\x01") == b""
        trust = ssl.create_default_context(cafile=str(certificate))
        async with httpx.AsyncClient(base_url=f"https://localhost:{api.port}", verify=trust) as client:
            answer = await client.get("/er")
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_bytes_that_are_no_http_are_answered_once_and_counted(api: Served, counters: Counters) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\r\n",
        b"\r\n\r\n\x00\xff" * 9,
        b"MSH|^~\\&|\r\r",
    ):
        answer = await api.raw(nonsense + b"\r\n\r\n")
        assert status(answer) == 400
        assert b"content-security-policy" in answer.lower()
    assert counters["http_malformed"] == 4


async def test_a_source_and_an_identity_have_their_rates(database: Database, clock: FakeClock) -> None:
    counters, rates = Counters(), Rates(clock, per_source=20, per_identity=3)
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=clock, counters=counters, rates=rates)
    one = await signed_in(app, database, person("one", "operator"))
    two = await signed_in(app, database, person("two", "operator"))
    async with one, two, client_of(app, Authorization="Bearer made up") as nobody:
        for known in (one, two):
            assert (await known.get("/api/v1/fleet")).status_code == 200
        answers = [await one.get("/api/v1/fleet") for _ in range(40)]
        assert [each.status_code for each in answers] == [200] * 30 + [429] * 10
        assert answers[-1].headers["retry-after"] == "1"
        clock.us += 1_000_000
        assert [(await one.get("/api/v1/fleet")).status_code for _ in range(4)] == [200] * 3 + [429]
        statuses = [(await nobody.get("/healthz")).status_code for _ in range(300)]
        assert statuses == [200] * 200 + [429] * 100
        # One unsigned machine behind the hospital's address shuts nobody out who is signed in there.
        assert [(await two.get("/api/v1/fleet")).status_code for _ in range(31)] == [200] * 30 + [429]
    assert counters["requests_limited"] == 10 + 1 + 100 + 1
    limited = [row for row in audited(database) if row[4] == "limited"]
    assert limited == [("", "too many requests", "", "10.0.0.9", "limited")] * 3  # once for each, not for each request


async def test_a_credential_is_known_for_an_hour_after_it_was_good(database: Database, clock: FakeClock) -> None:
    rates = Rates(clock, per_source=1, per_identity=3)
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=clock, rates=rates)
    browser = await signed_in(app, database, person("one", "operator"))
    async with browser, client_of(app) as nobody:
        assert (await browser.get("/api/v1/fleet")).status_code == 200
        clock.us += 3599_000_000
        for _ in range(11):
            await nobody.get("/healthz")
        # Whether it is good still is the route's to say: the sign-in is over by its idle limit.
        assert (await browser.get("/api/v1/fleet")).status_code == 401
        clock.us += 1_000_000
        await nobody.get("/healthz")
        assert (await browser.get("/api/v1/fleet")).status_code == 429


async def test_a_wall_screen_is_let_in_again_after_hours(database: Database, clock: FakeClock) -> None:
    rates = Rates(clock, per_source=1, per_identity=3)
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=clock, rates=rates)
    browser = await signed_in(app, database, person("wang", "er_clinician", "H1"))
    cookie = {"Cookie": f"vw_session={browser.cookies['vw_session']}"}
    await browser.aclose()
    async with served(app) as api, httpx.AsyncClient(base_url=api.url) as nobody:
        address = f"ws://{api.host}:{api.port}/api/v1/live"
        async with connect(address, additional_headers=cookie):
            clock.us += 4 * 3600 * 1_000_000
        for _ in range(11):
            await nobody.get("/healthz")
        async with connect(address, additional_headers=cookie) as again:
            assert '"hello"' in str(await again.recv())


def test_a_million_sources_take_bounded_memory(clock: FakeClock) -> None:
    """A sample with room for fewer: what is full replaces."""
    rates = Rates(clock, per_source=5, per_identity=5, most_buckets=1000)
    limits = SignInLimits(clock, most_entries=1000)
    tracemalloc.start()
    for number in range(6000):
        source = f"10.0.{number >> 8}.{number & 255}"
        identity = number.to_bytes(16, "big")
        rates.take(source)
        rates.vouch(identity)
        assert rates.take(source, [identity]) is None
        limits.take(f"name-{number}", source)
        if number == 2000:
            full = tracemalloc.get_traced_memory()[0]
    whole = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert whole < 1.1 * full
    assert whole < 4000 * 500  # each of five times a thousand


@pytest.mark.timeout(60)
async def test_a_flood_of_sign_ins_is_bounded_work_counted_and_audited(database: Database, clock: FakeClock) -> None:
    """A sample of a million: what is refused costs no Argon2 and, from one source, one row for each wait."""
    counters, desk = Counters(), PasswordDesk(at_once=2, most_waiting=4)
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=clock, counters=counters, passwords=desk)
    async with client_of(app, **ORIGIN) as client:

        async def ask(name: str) -> int:
            return (await client.post(SIGN_IN, json={"name": name, "password": "x" * 20})).status_code

        at_once = await asyncio.gather(*(ask(f"name-{number}") for number in range(150)))
        assert at_once.count(401) <= 6
        assert at_once.count(429) == 150 - at_once.count(401)
        after = [await ask("wang") for _ in range(100)]
        assert after == [401] * 5 + [429] * 95
    rows = [row[4] for row in audited(database)]
    refused = counters["sign_ins_refused"]
    assert rows.count("refused") == refused == at_once.count(401) + 5
    assert counters["sign_ins_limited"] + counters["sign_ins_too_busy"] == 250 - refused
    assert 1 <= rows.count("limited") <= 20


async def test_one_sign_in_opens_so_many_screens_and_no_more(app: FastAPI, database: Database) -> None:
    browser = await signed_in(app, database, person("wang", "er_clinician", "H1"))
    cookie = {"Cookie": f"vw_session={browser.cookies['vw_session']}"}
    await browser.aclose()
    async with served(app) as api:
        address = f"ws://{api.host}:{api.port}/api/v1/live"
        screens = [await connect(address, additional_headers=cookie) for _ in range(MOST_SOCKETS)]
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(address, additional_headers=cookie)
        assert refused.value.response.status_code == 429
        await screens[0].close()
        async with connect(address, additional_headers=cookie) as again:
            assert '"hello"' in str(await again.recv())
            # Screens only listen: a message longer than any of theirs ends the channel.
            await again.send("x" * 70_000)
            await again.wait_closed()
            assert again.close_code == 1009
        await asyncio.gather(*(screen.close() for screen in screens))

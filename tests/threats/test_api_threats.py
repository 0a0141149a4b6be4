"""What an attacker writes into every field of a running API, and what it may never lead to."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
import websockets
from fastapi import FastAPI
from fastapi.routing import APIRoute
from websockets.asyncio.client import connect

import screens
from cloud.access_config import AccessConfig, AccessMode, Unrouted
from cloud.api.rim import SECURITY_HEADERS
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store import schema
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from tests.cloud.api.apps import audited, build, person, signed_in
from tests.cloud.api.test_every_route import routes
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record, wave
from tests.threats.served import Served, served
from vitalwire.log import PrivateFormatter
from wire.messages import Lane
from wire.readings import Alert, AlertKind, AlertPhase, Priority, SessionEvent, SessionKind, SessionPhase

TOKENS = {
    "of_h1": "integration:record:read@H1",
    "of_h2": "integration:record:read@H2",
    "all": "integration:record:read@*",
}
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
FORGED = "x\r\nX-Injected: yes\r\n2026-11-25 08:00:00,000 INFO cloud routed by root\u2028\x1b[2J"
SQL = (
    "' OR '1'='1",
    "1; DROP TABLE session; --",
    "' UNION SELECT principal FROM audit --",
    "%' --",
    "\\'; --",
    "$1",
    ":a",
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    session = SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, SCRIPT)
    alert = Alert("a1", SCRIPT, AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, NOW_US, NOW_US)
    frames = [
        frame([record(session), record(alert)], 1, lane=Lane.URGENT),
        frame([heart_rate(61)], 1),
        frame([wave(0)], 1, lane=Lane.BULK),
    ]
    Appender(opened, FakeClock()).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])
    yield opened
    opened.close()


@pytest.fixture
async def app(database: Database, tmp_path: Path) -> FastAPI:
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"{n} {grant} {hashlib.sha256(n.encode()).hexdigest()}\n" for n, grant in TOKENS.items()))
    config = AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=Unrouted.NONE, tokens_file=str(tokens))
    built = build(database, config)
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    await built.state.reach.route("s1", "H1", is_routed=True, routed_by="test")
    return built


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[Served]:
    async with served(app) as running:
        yield running


def client(api: Served, token: str = "all", **headers: str) -> httpx.AsyncClient:
    held = {"Authorization": f"Bearer {token}", "Origin": api.url, **headers}
    return httpx.AsyncClient(base_url=api.url, headers=held)


@pytest.mark.parametrize(
    "path",
    [
        "../cloud/app.py", "..%2fcloud%2fapp.py", "%2e%2e/cloud/app.py", "%2e%2e%2fcloud%2fapp.py",
        "..%5ccloud%5capp.py", "....//cloud/app.py", "er/../../pyproject.toml", "%2fetc%2fpasswd", "//etc/passwd",
        "/etc/passwd", "er/er.js%00.html", "..%c0%af..%c0%afetc/passwd", "%252e%252e%252fcloud%252fapp.py",
        "er/%2e%2e/%2e%2e/configs/cloud.toml.js", "__init__.py", "__pycache__/__init__.cpython-311.pyc", "er", "", ".",
        "package.json/../../pyproject.toml.json",
    ],
)  # fmt: skip
async def test_no_path_leads_out_of_the_screens(api: Served, path: str) -> None:
    for prefix in ("/screens/", "/er/../screens/", ""):
        answer = await api.get(f"{prefix}{path}")
        assert answer.split(b" ")[1] in (b"404", b"400", b"405"), (prefix, path)
        for secret in (b"import ", b"root:", b"[project]", b"state_dir"):
            assert secret not in answer


async def test_sql_in_any_field_is_text(api: Served, database: Database) -> None:
    before = counts(database)
    async with client(api) as asking:
        for text in SQL:
            for path in (
                f"/api/v1/sessions/{quote(text, safe='')}/numerics",
                f"/api/v1/sessions/{quote(text, safe='')}/waveforms?stream={quote(text)}",
                f"/api/v1/sessions/s1/waveforms?stream={quote(text)}",
                f"/api/v1/alerts?session_id={quote(text)}",
                f"/api/v1/sessions/s1/numerics?metric={quote(text)}&from_us={quote(text)}",
            ):
                answer = await asking.get(path)
                assert answer.status_code in (200, 404, 422), path
                if answer.status_code == 200 and "octet" not in answer.headers["content-type"]:
                    assert answer.json() == {"alerts": []}
        for text in SQL[:2]:  # each costs an Argon2
            body = {"name": text, "password": text}
            assert (await asking.post("/api/v1/sign-in", json=body)).status_code == 401
    assert counts(database) == before


def counts(database: Database) -> list[int]:
    tables = [each for each in schema.metadata.sorted_tables if each.name != "audit"]
    query = [sa.select(sa.func.count()).select_from(table) for table in tables]
    return database.read_now(lambda connection: [connection.scalar(one) or 0 for one in query])


async def test_no_field_writes_a_header_or_a_line_of_the_log(app: FastAPI, api: Served) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(PrivateFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("cloud").warning("session %s", FORGED)
    try:
        for route, _ in routes(app):
            path = re.sub(r"\{[a-z_:]+\}", quote(FORGED, safe=""), route.path)
            fields = "&".join(f"{name}={quote(FORGED)}" for name in ("next", "stream", "state", "code", "iss", "most"))
            for method in getattr(route, "methods", ["GET"]):
                head = f"{method} {path}?{fields} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\nOrigin: {api.url}\r\n"
                answer = await api.raw(
                    (head + "Connection: close\r\nAuthorization: Bearer all\r\nContent-Length: 0\r\n\r\n").encode()
                )
                assert b"x-injected: yes\r\n" not in answer.split(b"\r\n\r\n")[0].lower(), path
                assert answer.split(b" ")[1] < b"500", path
    finally:
        logging.getLogger().removeHandler(handler)
    lines = written.getvalue().splitlines()
    assert lines
    assert all(re.match(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ", line) for line in lines)
    assert not any(line.startswith("2026-11-25 08:00:00,000") for line in lines)


async def test_text_from_a_box_is_data_to_a_browser(api: Served) -> None:
    """What a screen makes of it, tests/screens/test_screen_threats.py shows in a browser."""
    async with client(api) as asking:
        for path in ("/api/v1/sessions", "/api/v1/alerts"):
            answer = await asking.get(path)
            assert SCRIPT in answer.json().__str__()
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_token_of_another_hospital_opens_nothing(api: Served) -> None:
    for path in ("numerics", "waveforms", "waveforms?stream=ecg", "waveforms?stream=ecg&index=true"):
        async with client(api, "of_h1") as own, client(api, "of_h2") as other:
            assert (await own.get(f"/api/v1/sessions/s1/{path}")).status_code == 200
            foreign, absent = [await other.get(f"/api/v1/sessions/{one}/{path}") for one in ("s1", "s0")]
            assert (
                (foreign.status_code, foreign.content) == (absent.status_code, absent.content) == (404, absent.content)
            )
            assert (await other.get("/api/v1/sessions")).json() == {"sessions": []}


async def test_no_foreign_page_changes_anything_or_listens(app: FastAPI, api: Served, database: Database) -> None:
    browser = await signed_in(app, database, person("wang", "er_clinician", "H1"))
    cookie = f"vw_session={browser.cookies['vw_session']}"
    await browser.aclose()
    strangers = (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{api.port + 1}",
        "http://[",
        f"{api.url}.evil.example",
    )
    changing = [
        (r, m) for r, _ in routes(app) if isinstance(r, APIRoute) for m in r.methods if m not in ("GET", "HEAD")
    ]
    assert len(changing) >= 6
    before = len(audited(database))
    async with httpx.AsyncClient(base_url=api.url, headers={"Cookie": cookie}) as page:
        for route, method in changing:
            path = re.sub(r"\{[a-z_:]+\}", "s1", route.path)
            for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, *({"Origin": origin} for origin in strangers)):
                answer = await page.request(method, path, headers=headers, content=b'{"reason": "because it must be"}')
                assert answer.status_code == 403, (path, headers)
                assert "access-control-allow-origin" not in answer.headers
    assert {row[4] for row in audited(database)[before:]} <= {"refused", "limited"}
    for route, _ in routes(app):
        if isinstance(route, APIRoute):
            continue
        for origin in strangers:
            with pytest.raises(websockets.InvalidStatus) as refused:
                await connect(
                    f"ws://{api.host}:{api.port}{route.path}",
                    origin=origin,  # type: ignore[arg-type]
                    additional_headers={"Cookie": cookie},
                )
            assert refused.value.response.status_code == 403


async def test_every_answer_bears_the_headers(app: FastAPI, api: Served) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    asked = [
        ("GET", path) for path in ("/er", "/fleet", "/sign-in", "/screens/er/er.js", "/api/v1/vocabulary", "/metrics")
    ]
    asked += [("GET", "/nowhere"), ("PUT", "/er"), ("OPTIONS", "/api/v1/sessions"), ("POST", "/api/v1/sign-in")]
    asked += [("GET", "/broken"), ("GET", "/er?" + "x" * 9000), ("GET", "/api/v1/sessions?most=x"), ("HEAD", "/er")]
    statuses = set()
    async with client(api) as asking:
        for method, path in asked:
            answer = await asking.request(method, path)
            statuses.add(answer.status_code)
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers.get_list(name) == [value], (method, path)
            assert "server" not in answer.headers
    assert {200, 403, 404, 405, 414, 422, 500} <= statuses
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(f"ws://{api.host}:{api.port}/api/v1/live")
    for name, value in SECURITY_HEADERS.items():
        assert refused.value.response.headers[name] == value


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    parts = dict(part.strip().split(" ", 1) for part in SECURITY_HEADERS["Content-Security-Policy"].split(";"))
    assert parts.pop("default-src") == "'none'"
    assert set(parts.values()) <= {"'self'", "'none'"}
    assert {"script-src", "style-src", "connect-src", "base-uri", "form-action", "frame-ancestors"} <= set(parts)


class Inline(HTMLParser):
    """What a strict policy would forbid in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.found += [name for name in named if name.startswith("on") or name == "style"]
        self.found += [value for value in named.values() if value and re.match(r"(https?:)?//|javascript:", value)]
        if tag == "style" or (tag == "script" and "src" not in named):
            self.found.append(tag)


def test_no_screen_has_anything_inline_or_makes_markup_of_text() -> None:
    pages = sorted(screens.ROOT.rglob("*.html"))
    assert len(pages) >= 3
    for page in pages:
        inline = Inline()
        inline.feed(page.read_text(encoding="utf-8"))
        assert inline.found == [], page
    makes_markup = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
    for script in [*screens.ROOT.rglob("*.js"), *screens.ROOT.rglob("*.mjs")]:
        assert not makes_markup.search(script.read_text(encoding="utf-8")), script

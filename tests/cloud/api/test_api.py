"""Permissions, sign-in, audit and the routes, without a broker."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.auth import Permission, Requires
from cloud.api.tokens import read_tokens
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from tests.cloud.api.apps import audited, build, client_of
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.configuration import ConfigError
from wire.messages import Lane
from wire.readings import SessionEvent, SessionKind, SessionPhase
from wire.vocabulary import METRICS

_AUDITED = (Permission.VIEW_LIVE, Permission.VIEW_RECORD, Permission.VIEW_FLEET, Permission.COMMAND_GATEWAYS)
TOKENS = {"doctor": ("er_clinician", "d-token"), "ops": ("operator", "o-token")}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def token_app(database: Database, tmp_path: Path) -> FastAPI:
    lines = [f"{name} {role} {hashlib.sha256(token.encode()).hexdigest()}" for name, (role, token) in TOKENS.items()]
    (tmp_path / "tokens").write_text("# people\n" + "\n".join(lines) + "\n")
    return build(database, AccessConfig(mode=AccessMode.TOKEN, tokens_file=str(tmp_path / "tokens")))


@pytest.fixture
async def demo(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    opened = record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, "Ambulance 1"))
    frames = [
        frame([opened], 1, lane=Lane.URGENT),
        frame([heart_rate(60 + n, NOW_US + n) for n in range(5)], 1),
        frame([wave(100), wave(0), wave(50)], 1, lane=Lane.BULK),
    ]
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    async with client_of(build(database, AccessConfig(mode=AccessMode.DEMO))) as client:
        yield client


def test_every_route_declares_exactly_one_permission(token_app: FastAPI) -> None:
    kinds = {type(route) for route in token_app.routes}
    assert kinds == {APIRoute, APIWebSocketRoute}
    for route in token_app.routes:
        assert isinstance(route, APIRoute | APIWebSocketRoute)
        declared = [each.call for each in route.dependant.dependencies if isinstance(each.call, Requires)]
        assert len(declared) == 1, route.path


def test_what_shows_patients_or_boxes_or_commands_them_is_audited(token_app: FastAPI) -> None:
    for route in token_app.routes:
        assert isinstance(route, APIRoute | APIWebSocketRoute)
        (requires,) = [each.call for each in route.dependant.dependencies if isinstance(each.call, Requires)]
        if requires.permission in _AUDITED:
            assert requires.audited, route.path


async def test_unknown_is_401_and_not_allowed_is_403(token_app: FastAPI, database: Database) -> None:
    async with client_of(token_app) as client:
        assert (await client.get("/api/v1/sessions")).status_code == 401
        wrong = {"Authorization": "Bearer guess"}
        assert (await client.get("/api/v1/sessions", headers=wrong)).status_code == 401
        assert (await client.get("/healthz")).status_code == 200
    async with client_of(token_app, Authorization="Bearer o-token") as operator:
        assert (await operator.get("/api/v1/sessions")).status_code == 403
        assert (await operator.get("/metrics")).status_code == 200
    async with client_of(token_app, Cookie="vw_token=d-token") as doctor:
        assert (await doctor.get("/api/v1/sessions")).status_code == 200
        assert (await doctor.get("/metrics")).status_code == 403
    assert audited(database) == [
        ("", "list sessions", "", "10.0.0.9", "refused"),
        ("ops", "list sessions", "", "10.0.0.9", "refused"),
        ("doctor", "list sessions", "", "10.0.0.9", "allowed"),
        ("doctor", "/metrics", "", "10.0.0.9", "refused"),
    ]


async def test_a_demo_answers_only_under_a_loopback_name(database: Database) -> None:
    app = build(database, AccessConfig(mode=AccessMode.DEMO))
    async with client_of(app, Host="rebound.example") as client:
        assert (await client.get("/api/v1/sessions")).status_code == 403
    async with client_of(app, Origin="http://elsewhere.example") as client:
        assert (await client.get("/api/v1/sessions")).status_code == 403


async def test_stored_numerics_come_oldest_first_and_say_when_cut(demo: httpx.AsyncClient, database: Database) -> None:
    answer = (await demo.get("/api/v1/sessions/s1/numerics", params={"metric": "heart_rate", "most": 2})).json()
    assert answer["truncated"] is True
    assert [row["value"] for row in answer["numerics"]] == [63, 64]
    part = (await demo.get("/api/v1/sessions/s1/numerics", params={"from_us": NOW_US + 1, "to_us": NOW_US + 2})).json()
    assert [row["value"] for row in part["numerics"]] == [61, 62]
    assert audited(database)[-1] == ("demo", "view numerics", "s1", "10.0.0.9", "allowed")


async def test_stored_blocks_come_in_order_of_their_index(demo: httpx.AsyncClient) -> None:
    names = (await demo.get("/api/v1/sessions/s1/waveforms")).json()
    assert names["streams"] == ["ecg"]
    params = {"stream": "ecg", "index": "true", "from_index": "50"}
    index = (await demo.get("/api/v1/sessions/s1/waveforms", params=params)).json()
    assert [block["first_index"] for block in index["blocks"]] == [50, 100]
    content = (await demo.get("/api/v1/sessions/s1/waveforms", params={"stream": "ecg"})).content
    lengths = []
    while content:
        length = int.from_bytes(content[:4], "big")
        lengths.append(length)
        assert content[4:7] == b"\x01\x02s"
        content = content[4 + length :]
    assert len(lengths) == 3


@pytest.mark.parametrize(
    "path",
    ["/api/v1/sessions/s1/numerics?most=1000000", "/api/v1/sessions/s1/numerics?metric=nonsense"],
)
async def test_queries_out_of_bounds_are_refused(demo: httpx.AsyncClient, path: str) -> None:
    assert (await demo.get(path)).status_code == 422


async def test_an_unknown_session_is_404(demo: httpx.AsyncClient) -> None:
    assert (await demo.get("/api/v1/sessions/nobody/numerics")).status_code == 404


async def test_the_vocabulary_names_every_metric(demo: httpx.AsyncClient) -> None:
    vocabulary = (await demo.get("/api/v1/vocabulary")).json()
    assert set(vocabulary["metrics"]) == {metric.value for metric in METRICS}
    assert vocabulary["metrics"]["spo2"]["zh"] == "血氧饱和度"
    assert [vocabulary["metrics"][name]["episodic"] for name in ("nibp_mean", "gcs_total", "spo2")] == [
        True,
        True,
        False,
    ]
    assert len(vocabulary["leads"]) == 12


async def test_screens_are_served_with_a_strict_policy_and_no_python(demo: httpx.AsyncClient) -> None:
    door = await demo.get("/")
    assert (door.status_code, door.headers["location"]) == (307, "/er")
    page = await demo.get("/er")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (await demo.get("/screens/er/er.js")).status_code == 200
    for hidden in ("__init__.py", "../pyproject.toml", "%2e%2e/pyproject.toml", "er/missing.js"):
        assert (await demo.get(f"/screens/{hidden}")).status_code == 404


async def test_a_command_is_issued_seen_and_audited(demo: httpx.AsyncClient, database: Database) -> None:
    path = "/api/v1/gateways/gw-1/commands"
    answer = await demo.post(path, json={"order": {"kind": "replay", "lane": "bulk"}, "expires_s": 60})
    assert answer.status_code == 202
    issued = answer.json()["command"]
    assert (issued["kind"], issued["state"], issued["issued_by"]) == ("replay", "pending", "demo")
    assert issued["expires_us"] == NOW_US + 60_000_000
    order = {"kind": "apply_configuration", "toml": "gateway = 'gw-1'", "version": "7", "deadline_s": 30}
    assert (await demo.post(path, json={"order": order})).status_code == 202
    assert (await demo.get(f"{path}/{issued['command_id']}")).json() == {"command": issued}
    assert len((await demo.get(path)).json()["commands"]) == 2
    assert [row[1:3] for row in audited(database)] == [
        *[("issue command", "gw-1")] * 2,
        ("view command", "gw-1"),
        ("list commands", "gw-1"),
    ]


@pytest.mark.parametrize(
    ("gateway", "body", "status", "said"),
    [
        ("nobody", b'{"order": {"kind": "replay"}}', 404, "gateway"),
        ("gw-1", b'{"order": {"kind": "make_tea"}}', 422, "make_tea"),
        ("gw-1", b'{"order": {"kind": "replay", "lane": "fast"}}', 422, "fast"),
        ("gw-1", b'{"order": {"kind": "apply_configuration", "toml": "", "deadline_s": 1}}', 422, "deadline_s"),
        ("gw-1", b"not json", 422, "JSON"),
        ("gw-1", b" " * 500_000, 422, "bytes"),
    ],
)
async def test_a_wrong_command_is_refused_by_name(
    demo: httpx.AsyncClient, gateway: str, body: bytes, status: int, said: str
) -> None:
    answer = await demo.post(f"/api/v1/gateways/{gateway}/commands", content=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert (await demo.get(f"/api/v1/gateways/gw-1/commands/{'0' * 32}")).status_code == 404


async def test_only_an_operator_commands_boxes(token_app: FastAPI) -> None:
    path, body = "/api/v1/gateways/gw-1/commands", {"order": {"kind": "replay"}}
    async with client_of(token_app, Authorization="Bearer d-token") as doctor:
        assert (await doctor.post(path, json=body)).status_code == 403
        assert (await doctor.get(path)).status_code == 403
    async with client_of(token_app, Authorization="Bearer o-token") as operator:
        assert (await operator.post(path, json=body)).json()["command"]["issued_by"] == "ops"


async def test_metrics_count_rows(demo: httpx.AsyncClient) -> None:
    text = (await demo.get("/metrics")).text
    assert "vitalwire_stored_waveform_rows 3" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x nurse abc", "line 1"),
        ("x nurse " + "0" * 64, "roles: er_clinician"),
        ("x integration " + "0" * 64, "takes scopes"),
        ("x integration:everything " + "0" * 64, "record:read"),
        ("x operator:record:read " + "0" * 64, "no other role does"),
        ("x operator@H1 " + "0" * 64, "sees no hospital's patients"),
        ("x er_clinician@* " + "0" * 64, "only integration"),
    ],
)
def test_a_bad_token_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "tokens").write_text(line + "\n")
    with pytest.raises(ConfigError, match="line 1") as error:
        read_tokens(AccessConfig(mode=AccessMode.TOKEN, tokens_file=str(tmp_path / "tokens")))
    assert said in str(error.value)


async def test_an_integration_client_has_its_scopes_and_nothing_else(database: Database, tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"i-token").hexdigest()
    (tmp_path / "tokens").write_text(f"mirror integration:record:read,metrics:read@* {hashed}\n")
    app = build(database, AccessConfig(mode=AccessMode.TOKEN, tokens_file=str(tmp_path / "tokens")))
    async with client_of(app, Authorization="Bearer i-token") as client:
        assert (await client.get("/api/v1/sessions")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/api/v1/fleet")).status_code == 403

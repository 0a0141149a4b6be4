"""Which patients somebody sees: by routing, by break-glass, live and stored, and by no other way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.access_config import AccessConfig, AccessMode, OidcConfig, Unrouted
from cloud.api.permissions import ROLES, Principal
from cloud.api.reach import Reach
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.live_screen import LiveScreen
from cloud.store import accounts, commands, routed, schema
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from tests.cloud.api.apps import audited, build, client_of, person, signed_in
from tests.cloud.api.asgi_socket import Closed, join
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.commands import NewSession, decode_order
from wire.messages import Lane
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    CommandOutcome,
    CommandResult,
    Priority,
    SessionEvent,
    SessionKind,
    SessionPhase,
)

ONE, TWO = person("one", "er_clinician", "H1"), person("two", "er_clinician", "H2")
DISPATCHER, AUDITOR = person("disp", "dispatcher"), person("audi", "auditor")
REASON = {"reason": "arrest in the lobby, crew called"}
MINUTE_US = 60_000_000


def opened(session_id: str, phase: SessionPhase = SessionPhase.OPENED) -> bytes:
    return record(SessionEvent(session_id, SessionKind.MISSION, phase, NOW_US, session_id.upper()))


def raised(number: int) -> bytes:
    step = Alert(f"a{number}", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, NOW_US, NOW_US)
    return record(step, session_id=f"s{number}")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "store.sqlite")
    numbers = (1, 2, 3)
    frames = [
        frame([opened(f"s{n}") for n in numbers] + [raised(n) for n in numbers], 1, lane=Lane.URGENT),
        frame([heart_rate(60 + n, NOW_US + n, session_id=f"s{n}") for n in numbers], 1),
        frame([wave(0, session_id=f"s{n}") for n in numbers], 1, lane=Lane.BULK),
    ]
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])
    yield database
    database.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def feed(clock: FakeClock) -> Feed:
    return Feed(clock, Counters())


@pytest.fixture
async def app(database: Database, clock: FakeClock, feed: Feed) -> FastAPI:
    """s1 is routed to H1, s2 to H2, s3 nowhere yet."""
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    config = AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=Unrouted.NONE, hospitals=("H1", "H2"))
    app = build(database, config, clock=clock, feed=feed)
    for number in (1, 2):
        await app.state.reach.route(f"s{number}", f"H{number}", is_routed=True, routed_by="test")
    for session in StoreReader(database).sessions(most=9):
        feed.put_session(session, [])
    return app


async def sees(client: Any) -> set[str]:
    listed = (await client.get("/api/v1/sessions")).json()["sessions"]
    alerts = (await client.get("/api/v1/alerts")).json()["alerts"]
    found = {session["session_id"] for session in listed}
    assert {alert["session_id"] for alert in alerts} == found
    for number in (1, 2, 3):
        for path in ("numerics", "waveforms", "waveforms?stream=ecg", "waveforms?stream=ecg&index=true"):
            answer = await client.get(f"/api/v1/sessions/s{number}/{path}")
            assert answer.status_code == (200 if f"s{number}" in found else 404), (number, path)
            if answer.status_code == 404:
                assert answer.json() == (await client.get("/api/v1/sessions/nobody/numerics")).json()
    return found


async def test_a_hospital_sees_what_is_routed_to_it_until_the_session_closes(app: FastAPI, database: Database) -> None:
    one, two = [await signed_in(app, database, account) for account in (ONE, TWO)]
    dispatcher = await signed_in(app, database, DISPATCHER)
    assert (await sees(one), await sees(two)) == ({"s1"}, {"s2"})
    path = "/api/v1/sessions/s1/hospitals"
    assert (await dispatcher.post(path, json={"hospital": "H2"})).status_code == 200
    assert (await dispatcher.post(path, json={"hospital": "H1", "routed": False})).status_code == 200
    assert (await sees(one), await sees(two)) == (set(), {"s1", "s2"})
    history = (await dispatcher.get(path)).json()["routed"]
    assert [(row["hospital"], row["is_routed"], row["routed_by"]) for row in history] == [
        ("H1", 0, "disp"),
        ("H2", 1, "disp"),
        ("H1", 1, "test"),
    ]
    closed = frame([opened("s2", SessionPhase.CLOSED)], 100, lane=Lane.URGENT)
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", closed)])
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    assert await sees(two) == {"s1"}
    refused = [row for row in audited(database) if row[0] == "one" and row[2] == "s2"]
    assert {row[4] for row in refused} == {"refused"}


@pytest.mark.parametrize("unrouted", Unrouted)
async def test_a_session_taken_back_from_its_last_hospital_is_unrouted_again(
    app: FastAPI, database: Database, clock: FakeClock, unrouted: Unrouted
) -> None:
    config = AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=unrouted, hospitals=("H1", "H2"))
    app.state.reach = reach = Reach(database, clock, config)
    await reach.load()
    one, two = [await signed_in(app, database, account) for account in (ONE, TWO)]
    everybodys = {"s3"} if unrouted is Unrouted.ALL_HOSPITALS else set()
    assert (await sees(one), await sees(two)) == ({"s1"} | everybodys, {"s2"} | everybodys)
    with reach.watching(Principal("two", "er_clinician", frozenset(), "H2", b"x")) as until_changed:
        await reach.route("s1", "H1", is_routed=False, routed_by="test")
        async with asyncio.timeout(2):
            await until_changed()  # an open screen of the other hospital comes back for it
    if everybodys:
        everybodys |= {"s1"}
    assert (await sees(one), await sees(two)) == (everybodys, {"s2"} | everybodys)


@pytest.mark.parametrize(
    "body", [{}, {"hospital": ""}, {"hospital": "*"}, {"hospital": "H1'--"}, {"hospital": "x" * 64}]
)
async def test_routing_takes_known_sessions_and_plain_hospitals(
    app: FastAPI, database: Database, body: dict[str, str]
) -> None:
    dispatcher = await signed_in(app, database, DISPATCHER)
    assert (await dispatcher.post("/api/v1/sessions/s1/hospitals", json=body)).status_code == 422
    assert (await dispatcher.post("/api/v1/sessions/nobody/hospitals", json={"hospital": "H1"})).status_code == 404


async def test_a_session_goes_to_hospitals_that_somebody_names_and_leaves_any(
    database: Database, tmp_path: Path
) -> None:
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    tokens = tmp_path / "tokens.txt"
    grants = ["er_clinician@H5", "integration:live:read@H6", "integration:live:read@*", "integration:metrics:read@H7"]
    tokens.write_text("".join(f"t{number} {grant} {number:064x}\n" for number, grant in enumerate(grants)))
    oidc = OidcConfig("https://id.example", "v", "s", {}, hospitals={"1004": "H4"})
    app = build(
        database,
        AccessConfig(
            mode=AccessMode.ACCOUNTS,
            tokens_file=str(tokens),
            hospitals=("H3",),
            oidc=oidc,
            public_url="https://v.example",
        ),
    )
    dispatcher = await signed_in(app, database, DISPATCHER)
    for account in (ONE, person("gone", "er_clinician", "H2", is_disabled=1), person("boss", "operator", "H8")):
        database.transaction(lambda connection, account=account: accounts.add(connection, account))  # type: ignore[misc]
    path = "/api/v1/sessions/s1/hospitals"
    for number in (1, 3, 4, 5, 6):
        assert (await dispatcher.post(path, json={"hospital": f"H{number}"})).status_code == 200, number
    for number in (2, 7, 8, 9):
        answer = await dispatcher.post(path, json={"hospital": f"H{number}"})
        assert answer.status_code == 422
        assert answer.json()["error"] == (
            f"hospital: 'H{number}' is named by no account, token or [access] hospitals; named are: H1, H3, H4, H5, H6"
        )
    assert (await dispatcher.post(path, json={"hospital": "H9", "routed": False})).status_code == 200


async def test_the_dispatcher_finds_what_to_route_and_no_home(app: FastAPI, database: Database) -> None:
    home = record(SessionEvent("s8", SessionKind.HOME, SessionPhase.OPENED, NOW_US + 1, "Flat 3"), session_id="s8")
    closed = record(SessionEvent("s7", SessionKind.MISSION, SessionPhase.OPENED, NOW_US + 2, "S7"), session_id="s7")
    over = record(SessionEvent("s7", SessionKind.MISSION, SessionPhase.CLOSED, NOW_US + 3, "S7"), session_id="s7")
    more = [frame([home, closed, over], 7, lane=Lane.URGENT)]
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.urgent", one) for one in more])
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    dispatcher, clinician = [await signed_in(app, database, one) for one in (DISPATCHER, ONE)]
    told = (await dispatcher.get("/api/v1/routing")).json()
    sessions = {each["session_id"]: each for each in told["sessions"]}
    assert told["truncated"] is False
    assert "s7" not in sessions
    assert told["sessions"][0] == {
        "session_id": "s8",
        "kind": "home",
        "label": "",
        "origin": sessions["s1"]["origin"],
        "opened_us": NOW_US + 1,
        "hospitals": [],
        "is_seen": False,
    }
    assert (sessions["s1"]["label"], sessions["s1"]["hospitals"], sessions["s1"]["is_seen"]) == ("S1", ["H1"], True)
    assert (await clinician.get("/api/v1/routing")).status_code == 403
    # Routed to a hospital whose last person has left, it is seen by nobody.
    await signed_in(app, database, person("five", "er_clinician", "H5"))
    await app.state.reach.route("s3", "H5", is_routed=True, routed_by="test")
    for is_seen in (True, False):
        again = (await dispatcher.get("/api/v1/routing")).json()["sessions"]
        assert [(each["hospitals"], each["is_seen"]) for each in again if each["session_id"] == "s3"] == [
            (["H5"], is_seen)
        ]
        database.transaction(lambda connection: accounts.change(connection, "five", NOW_US, is_disabled=1))
    looks = [(who, result) for who, action, _, _, result in audited(database) if action == "list sessions to route"]
    assert looks == [("disp", "allowed"), ("one", "refused"), ("disp", "allowed"), ("disp", "allowed")]


async def test_open_alerts_that_no_hospital_sees_are_counted_and_told(
    app: FastAPI, database: Database, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    reader = StoreReader(database)
    for session in reader.sessions(most=9):
        feed.put_session(session, reader.alerts(session_id=session.session_id, cleared_since_us=0, most=9))
    dispatcher, operator = [await signed_in(app, database, one) for one in (DISPATCHER, person("op", "operator"))]
    # The configuration names H1 and H2, and nobody is there yet.
    listed = (await dispatcher.get("/api/v1/unseen-alerts")).json()["sessions"]
    assert {one["session_id"] for one in listed} == {"s1", "s2", "s3"}
    for clinician in (ONE, TWO):
        await signed_in(app, database, clinician)
    caplog.clear()
    told = {"session_id": "s3", "gateway_id": "gw-1", "label": "S3", "open_alerts": 1, "hospitals": []}
    for _ in range(2):
        assert (await dispatcher.get("/api/v1/unseen-alerts")).json() == {"sessions": [told]}
    assert "vitalwire_unseen_alerts 1\n" in (await operator.get("/metrics")).text
    assert [row["unseen_alerts"] for row in feed.fleet.rows()] == [1]
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []  # it was told already
    # The hospital it is routed to may lose its last account later.
    await signed_in(app, database, person("five", "er_clinician", "H5"))
    await app.state.reach.route("s3", "H5", is_routed=True, routed_by="test")
    assert (await dispatcher.get("/api/v1/unseen-alerts")).json() == {"sessions": []}
    assert [row["unseen_alerts"] for row in feed.fleet.rows()] == [0]
    database.transaction(lambda connection: accounts.change(connection, "five", NOW_US, is_disabled=1))
    sessions = (await dispatcher.get("/api/v1/unseen-alerts")).json()["sessions"]
    assert sessions == [told | {"hospitals": ["H5"]}]
    cleared = {"phase": AlertPhase.CLEARED}
    for session in reader.sessions(most=9):
        alerts = reader.alerts(session_id=session.session_id, cleared_since_us=0, most=9)
        over = [one._replace(alert=msgspec.structs.replace(one.alert, **cleared)) for one in alerts]
        feed.put_session(session, over)
    assert "vitalwire_unseen_alerts 0\n" in (await operator.get("/metrics")).text
    assert [row["unseen_alerts"] for row in feed.fleet.rows()] == [0]


@pytest.mark.parametrize(
    ("mode", "accounts_of", "provider_roles", "watched"),
    [
        (AccessMode.ACCOUNTS, [], {}, set()),  # a token is a machine's here, and a name in the configuration nobody
        (AccessMode.ACCOUNTS, [ONE._replace(is_disabled=1), DISPATCHER], {"d": "dispatcher"}, set()),
        (AccessMode.ACCOUNTS, [ONE], {}, {"H1"}),
        (AccessMode.ACCOUNTS, [person("any", "er_clinician")], {}, {""}),
        (AccessMode.ACCOUNTS, [], {"er": "er_clinician"}, {"H4"}),  # who comes from the provider has no account yet
        (AccessMode.TOKEN, [ONE], None, {"H5"}),  # a screen's, and nobody signs in
    ],
)
async def test_only_where_people_are_is_anything_seen(
    database: Database,
    tmp_path: Path,
    feed: Feed,
    mode: AccessMode,
    accounts_of: list[accounts.Account],
    provider_roles: dict[str, str] | None,
    watched: set[str],
) -> None:
    tokens = tmp_path / "tokens.txt"
    grants = ["er_clinician@H5", "integration:live:read@H6", "integration:live:read@*"]
    tokens.write_text("".join(f"t{number} {grant} {number:064x}\n" for number, grant in enumerate(grants)))
    oidc = None if provider_roles is None else OidcConfig("https://id.example", "v", "s", provider_roles)
    if oidc is not None:
        oidc = msgspec.structs.replace(oidc, hospitals={"1004": "H4"})
    config = AccessConfig(
        mode=mode, tokens_file=str(tokens), hospitals=("H3",), oidc=oidc, public_url="https://v.example"
    )
    for account in accounts_of:
        database.transaction(lambda connection, account=account: accounts.add(connection, account))  # type: ignore[misc]
    reach = build(database, config, feed=feed).state.reach
    assert await reach.watched_hospitals() == watched
    # Routed nowhere, it is shown to all hospitals: that is nobody where nobody is.
    assert reach.is_seen("s3", frozenset(watched)) is bool(watched)


async def test_the_dispatcher_has_a_box_close_a_session_and_the_next_inherits_no_routing(
    app: FastAPI, database: Database
) -> None:
    one, dispatcher = [await signed_in(app, database, account) for account in (ONE, DISPATCHER)]
    path = "/api/v1/sessions/s1/close"
    assert (await one.post(path)).status_code == 403
    assert (await dispatcher.post("/api/v1/sessions/nobody/close")).status_code == 404
    asked = [await dispatcher.post(path) for _ in range(2)]
    assert [answer.status_code for answer in asked] == [202, 202]
    (command,) = (await dispatcher.get(path)).json()["commands"]
    assert [answer.json()["command"] for answer in asked] == [command, command]
    assert (command["kind"], command["gateway"], command["state"]) == ("new_session", "gw-1", "pending")
    order = await app.state.commands._database.read(
        lambda connection: commands.order_of(connection, command["command_id"])
    )
    assert decode_order(order) == NewSession("s1")
    # What the box does with it: tests/edge/test_new_session.py.
    outcome = record(CommandOutcome(bytes.fromhex(command["command_id"]), CommandResult.DONE, "", NOW_US))
    done = [opened("s1", SessionPhase.CLOSED), opened("s4"), outcome]
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", frame(done, 100, lane=Lane.URGENT))])
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    view = (await dispatcher.get(path)).json()
    assert (view["closed_us"], [each["state"] for each in view["commands"]]) == (NOW_US, ["done"])
    assert (await dispatcher.post(path)).status_code == 409
    assert (await one.get("/api/v1/sessions")).json()["sessions"] == []
    assert (await dispatcher.get("/api/v1/sessions/s4/hospitals")).json()["routed"] == []


async def test_breaking_the_glass_opens_one_session_for_one_person_for_a_while(
    app: FastAPI, database: Database, clock: FakeClock
) -> None:
    one, two = [await signed_in(app, database, account) for account in (ONE, TWO)]
    colleague = await signed_in(app, database, person("else", "er_clinician", "H1"))
    for reason in ("because", "because" + " " * 9, "x" * 501):
        assert (await one.post("/api/v1/sessions/s2/break-glass", json={"reason": reason})).status_code == 422
    assert (await one.post("/api/v1/sessions/nobody/break-glass", json=REASON)).status_code == 404
    assert (await one.post("/api/v1/sessions/s2/break-glass", json=REASON)).status_code == 201
    assert [await sees(client) for client in (one, two, colleague)] == [{"s1", "s2"}, {"s2"}, {"s1"}]
    clock.us += 60 * MINUTE_US
    assert await sees(one) == {"s1"}


async def test_what_is_open_elsewhere_is_listed_with_nothing_of_the_patient(
    app: FastAPI, database: Database, clock: FakeClock
) -> None:
    one = await signed_in(app, database, ONE)
    lived_in = record(SessionEvent("s4", SessionKind.HOME, SessionPhase.OPENED, NOW_US + 1, "Mrs Li, Lane 4"))
    ended = [opened("s5"), opened("s5", SessionPhase.CLOSED)]
    Appender(database, FakeClock()).append(
        [Incoming("vw.1.gw-1.up.x", frame([lived_in, *ended], 200, lane=Lane.URGENT))]
    )
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    answer = (await one.get("/api/v1/elsewhere")).json()
    assert (answer["minutes"], answer["truncated"]) == (60, False)
    at_home, *ambulances = answer["sessions"]
    assert at_home == {"session_id": "s4", "kind": "home", "label": "", "origin": 2, "opened_us": NOW_US + 1}
    assert sorted(ambulances, key=str) == [
        {"session_id": f"s{n}", "kind": "mission", "label": f"S{n}", "origin": 2, "opened_us": NOW_US} for n in (2, 3)
    ]
    assert ("one", "list sessions elsewhere", "", "10.0.0.9", "allowed") in audited(database)
    assert (await one.post("/api/v1/sessions/s2/break-glass", json=REASON)).status_code == 201
    assert await elsewhere(one) == {"s3", "s4"}
    clock.us += 60 * MINUTE_US
    assert await elsewhere(one) == {"s2", "s3", "s4"}


async def elsewhere(client: Any) -> set[str]:
    return {session["session_id"] for session in (await client.get("/api/v1/elsewhere")).json()["sessions"]}


async def test_a_token_lists_nothing_elsewhere_and_breaks_no_glass(database: Database, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"wall er_clinician@H1 {hashlib.sha256(b'secret').hexdigest()}\n", encoding="utf-8")
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS, tokens_file=str(tokens)))
    wall = client_of(app, Authorization="Bearer secret")
    assert (await wall.get("/api/v1/sessions")).status_code == 200
    assert (await wall.get("/api/v1/elsewhere")).status_code == 403
    assert (await wall.post("/api/v1/sessions/s2/break-glass", json=REASON)).status_code == 403
    refused = {row[1] for row in audited(database) if row[4] == "refused"}
    assert refused == {"list sessions elsewhere", "break glass"}


async def test_the_auditor_sees_it_as_to_be_reviewed_and_another_person_reviews_it_once(
    app: FastAPI, database: Database
) -> None:
    one, auditor = [await signed_in(app, database, account) for account in (ONE, AUDITOR)]
    await one.post("/api/v1/sessions/s2/break-glass", json=REASON)
    (grant,) = (await auditor.get("/api/v1/break-glass")).json()["grants"]
    assert (grant["account"], grant["session_id"], grant["to_review"]) == ("one", "s2", True)
    assert (grant["title"], grant["hospital"], grant["kind"], grant["label"]) == ("One", "H1", "mission", "S2")
    assert (grant["reason"], grant["reviewed_us"]) == (REASON["reason"], None)
    of_one = sa.select(schema.audit.c.reason).where(schema.audit.c.principal == "one", schema.audit.c.reason != "")
    assert database.read_now(lambda connection: connection.scalars(of_one).all()) == [REASON["reason"]]
    path, note = f"/api/v1/break-glass/{grant['grant_id']}/review", {"note": "the crew confirms the call"}
    assert (await one.post(path, json=note)).status_code == 403
    assert (await auditor.post(path, json={"note": "ok"})).status_code == 422
    assert (await auditor.post(path.replace(grant["grant_id"], "0" * 32), json=note)).status_code == 404
    # The same name under another role is still the same person.
    own = await app.state.reach.break_glass(
        Principal("audi", "er_clinician", frozenset(), "H1", b"x"), "s2", "mine mine"
    )
    assert (await auditor.post(f"/api/v1/break-glass/{own.grant_id}/review", json=note)).status_code == 403
    assert (await auditor.post(path, json=note)).status_code == 200
    assert (await auditor.post(path, json=note)).status_code == 409
    grants = (await auditor.get("/api/v1/break-glass")).json()["grants"]
    assert [(row["account"], row["to_review"], row["reviewer"]) for row in grants] == [
        ("audi", True, ""),
        ("one", False, "audi"),
    ]


async def test_the_live_feed_tells_a_hospital_only_of_its_own(app: FastAPI, database: Database, feed: Feed) -> None:
    cookie = (await signed_in(app, database, ONE)).cookies["vw_session"]
    async with join(app, "/api/v1/live", cookie) as socket:
        said = await socket.until('"s1"')
        for number in (2, 3, 1):
            heard = [heart_rate(70, NOW_US + 9, session_id=f"s{number}")]
            feed.hear("vw.1.gw-1.up.routine", frame(heard, 50 + number))
        said += await socket.until('"numeric"')
        assert '"break_glass":{}' in said
        assert not any(other in said for other in ("s2", "s3", "S2", "S3"))
        await app.state.reach.route("s3", "H1", is_routed=True, routed_by="test")
        with pytest.raises(Closed, match="4205"):
            await socket.until("never said")
    async with join(app, "/api/v1/live", cookie) as socket:
        assert "s2" not in await socket.until('"s3"')
        await app.state.reach.break_glass(
            Principal("one", "er_clinician", frozenset(), "H1", b"x"), "s2", "arrest here"
        )
        with pytest.raises(Closed, match="4205"):
            await socket.until("never said")
    async with join(app, "/api/v1/live", cookie) as socket:
        assert f'"break_glass":{{"s2":{NOW_US + 60 * MINUTE_US}}}' in await socket.until('"S2"')
        await app.state.access.sign_ins.end_all("one")
        with pytest.raises(Closed, match="4401"):
            await socket.until("never said")


async def test_what_is_routed_right_behind_the_first_snapshot_is_not_missed(
    database: Database, clock: FakeClock, app: FastAPI
) -> None:
    class LateFeed(Feed):
        """The routing lands when the snapshots are made and the screen's tasks have not begun."""

        def join(self, screen: LiveScreen) -> None:
            super().join(screen)
            reach: Reach = app.state.reach
            reach._routes["s3"] = frozenset({"H1"})
            reach._tell(lambda principal: principal.hospital == "H1")

    app.state.feed = LateFeed(clock, Counters())
    for session in StoreReader(database).sessions(most=9):
        app.state.feed.put_session(session, [])
    cookie = (await signed_in(app, database, ONE)).cookies["vw_session"]
    async with join(app, "/api/v1/live", cookie) as socket:
        with pytest.raises(Closed, match="4205"):
            await socket.until("never said")


async def test_what_a_grant_opened_ends_with_it_on_an_open_screen(app: FastAPI, clock: FakeClock) -> None:
    reach: Reach = app.state.reach
    principal = Principal("one", "er_clinician", ROLES["er_clinician"], "H1", b"x")
    await reach.break_glass(principal, "s2", "a reason long enough")
    view = reach.live_view(principal)
    assert view("s2")
    clock.us += 60 * MINUTE_US - 10_000
    with reach.watching(principal) as until_changed:
        async with asyncio.timeout(2):
            await until_changed()
    clock.us += 10_000
    assert not view("s2")


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("route"), st.sampled_from("123"), st.sampled_from("12"), st.booleans()),
        st.tuples(st.just("break"), st.sampled_from("123"), st.sampled_from("12"), st.booleans()),
        st.tuples(st.just("wait"), st.just("1"), st.just("1"), st.booleans()),
    ),
    max_size=12,
)


@pytest.mark.timeout(60)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS, st.sampled_from(Unrouted), st.booleans())
def test_the_rule_in_memory_is_the_rule_of_the_queries(
    database: Database, acts: list[tuple[str, str, str, bool]], unrouted: Unrouted, is_loaded: bool
) -> None:
    async def play() -> None:
        database.transaction(clear)
        clock, config = FakeClock(), AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=unrouted, hospitals=("H1", "H2"))
        reach = Reach(database, clock, config)
        people = [Principal(f"p{h}", "er_clinician", frozenset(), f"H{h}", mark) for h in "12" for mark in (b"x", b"")]
        for kind, session, hospital, flag in acts:
            if kind == "route":
                await reach.route(f"s{session}", f"H{hospital}", is_routed=flag, routed_by="x")
            elif kind == "break":
                await reach.break_glass(people[0 if hospital == "1" else 2], f"s{session}", "because it must")
            else:
                clock.us += 31 * MINUTE_US
        if is_loaded:
            reach = Reach(database, clock, config)
            await reach.load()
        for principal in people:
            view = reach.live_view(principal)
            for session in ("s1", "s2", "s3"):
                if unrouted is Unrouted.ALL_HOSPITALS and all(
                    not rows or not rows[0].is_routed for rows in await newest(reach, session)
                ):
                    assert view(session), (principal, session)
                assert view(session) == await reach.may_see(principal, session), (principal, session)

    asyncio.run(play())


async def newest(reach: Reach, session_id: str) -> list[list[routed.Routing]]:
    history = await reach.history(session_id, 99)
    return [[row for row in history if row.hospital == hospital][:1] for hospital in ("H1", "H2")]


def clear(connection: sa.Connection) -> None:
    for table in (routed._routing, routed._grant):
        connection.execute(sa.delete(table))


def test_the_queries_find_their_rows_by_index(database: Database) -> None:
    seen = routed.Seen("one", "H1", NOW_US, True)
    query = sa.select(routed.condition(seen, sa.literal("s1")))
    text = str(query.compile(database.engine.core, compile_kwargs={"literal_binds": True}))
    plan = database.read_now(lambda connection: connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}")).all())
    assert "SCAN session" not in str(plan).replace("SCAN CONSTANT ROW", "")
    assert orjson.dumps([list(row) for row in plan])

"""A running API, asked by everybody: what schemathesis makes of our OpenAPI, and every object of another hospital."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cloud.access_config import AccessConfig, AccessMode, Unrouted
from cloud.api.permissions import INTEGRATION, NOBODY, OF_PATIENTS, ROLES, SCOPES, Permission, Principal
from cloud.api.tokens import read_tokens
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store import accounts
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from tests.cloud.api.apps import build, person
from tests.cloud.api.test_every_route import routes
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record, wave
from tests.threats.served import served
from wire.commands import Replay
from wire.messages import Lane
from wire.readings import Alert, AlertKind, AlertPhase, Priority, SessionEvent, SessionKind, SessionPhase

# Of hospital H9: whoever else is told this word has been told too much.
FOREIGN = "FOREIGN-AMBULANCE"
PEOPLE = [person(role, role) for role in ROLES if role not in (INTEGRATION, "er_clinician")]
CLINICIANS = [person(f"er_{hospital}", "er_clinician", hospital.upper()) for hospital in ("h1", "h2")]
TOKENS = {
    "reads_h1": f"{INTEGRATION}:live:read,record:read@H1",
    "reads_nowhere": f"{INTEGRATION}:record:read",
    "metrics": f"{INTEGRATION}:metrics:read",
    "all_of_h2": f"{INTEGRATION}:{','.join(SCOPES)}@H2",
    "er_token": "er_clinician@H1",
}
# What belongs to no hospital, so that whoever may ask at all may ask for every one. Breaking the glass is for what is
# another's: it takes a reason that is on the trail before anything is told.
OF_THE_REGION = {
    Permission.OPEN,
    Permission.SIGNED_IN,
    Permission.BREAK_GLASS,
    Permission.ROUTE_SESSIONS,
    Permission.REVIEW_BREAK_GLASS,
    Permission.VIEW_METRICS,
    Permission.VIEW_FLEET,
    Permission.COMMAND_GATEWAYS,
}
# Bodies are checked by msgspec and stand in no OpenAPI: anything at all, and what nearly fits.
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b'{"hospital": "H1"}', b'{"reason": "x"}', b'{"name": "a", "password": "b"}', b"[[[[", b'{"a": 1e999}']
    ),
)
# What break-glass chooses from, its auditor reviews and a dispatcher routes: the vehicle, and nothing of the patient.
MAY_NAME_AN_AMBULANCE = ("/api/v1/elsewhere", "/api/v1/break-glass", "/api/v1/routing")

Told = tuple[int, bytes, list[tuple[str, str]]]


class Asker(NamedTuple):
    """Somebody, with what they hold."""

    principal: Principal
    client: httpx.AsyncClient


class Site(NamedTuple):
    """A served cloud with everybody before it, and ids of what is there and not theirs."""

    app: FastAPI
    askers: list[Asker]
    there: dict[str, str]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    session = record(SessionEvent("s9", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, FOREIGN), session_id="s9")
    alert = Alert("a9", FOREIGN, AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, NOW_US, NOW_US)
    frames = [
        frame([session, record(alert, session_id="s9")], 1, lane=Lane.URGENT),
        frame([heart_rate(61, NOW_US, session_id="s9")], 1),
        frame([wave(0, session_id="s9")], 1, lane=Lane.BULK),
    ]
    Appender(opened, FakeClock()).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])
    yield opened
    opened.close()


@asynccontextmanager
async def site(database: Database, folder: Path) -> AsyncIterator[Site]:
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{n} {grant} {hashlib.sha256(n.encode()).hexdigest()}\n" for n, grant in TOKENS.items()))
    config = AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=Unrouted.NONE, tokens_file=str(tokens), hospitals=("H9",))
    app = build(database, config, gateways=("gw-1", "gw-2"))
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    reach = app.state.reach
    await reach.route("s9", "H9", is_routed=True, routed_by="test")
    owner = Principal("er_h9", "er_clinician", ROLES["er_clinician"], "H9", b"x")
    grant = await reach.break_glass(owner, "s9", "because it was so")
    command = await app.state.commands.issue("gw-1", Replay(None), lifetime_s=60, issued_by="test")
    there = {"session_id": "s9", "gateway_id": "gw-1", "grant_id": grant.grant_id, "command_id": command.command_id}
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(served(app))
        trust = ssl.create_default_context()  # loaded once: it takes longer than a test may

        async def enter(principal: Principal, **held: str) -> Asker:
            client = httpx.AsyncClient(base_url=api.url, headers={"Origin": api.url, **held}, verify=trust, timeout=10)
            return Asker(principal, await stack.enter_async_context(client))

        askers = [await enter(NOBODY), await enter(NOBODY, Authorization="Bearer made-up")]
        for account in (*PEOPLE, *CLINICIANS):
            database.transaction(lambda connection, account=account: accounts.add(connection, account))
            cookie = await app.state.access.sign_ins.begin(account, "10.0.0.9")
            principal = Principal(account.name, account.role, ROLES[account.role], account.hospital, b"x")
            askers.append(await enter(principal, Cookie=f"vw_session={cookie}"))
        known = read_tokens(config)
        for name in TOKENS:
            token = known.find(name)
            assert token is not None
            askers.append(await enter(token, Authorization=f"Bearer {name}"))
        yield Site(app, askers, there)


async def everybody_asks(site: Site, case: schemathesis.Case, path: str, body: bytes, permission: Permission) -> None:
    """One request, from each: no error of ours, nothing foreign, and refused just where the table says so."""
    content = body if case.method.upper() == "POST" else None
    requests = [each.client.request(case.method, path, params=case.query, content=content) for each in site.askers]
    for (principal, _), answer in zip(site.askers, await asyncio.gather(*requests), strict=True):
        said = (principal.name, case.method, path, case.query, answer.status_code, answer.text[:200])
        assert answer.status_code < 500, said
        assert FOREIGN not in answer.text or case.path in MAY_NAME_AN_AMBULANCE, said
        if permission not in principal.permissions:
            assert answer.status_code in (401, 403, 404), said
        elif permission is not Permission.OPEN:  # of the open ones some refuse by their own word
            assert answer.status_code != 401, said
            is_for_people = permission in (Permission.BREAK_GLASS, Permission.REVIEW_BREAK_GLASS)
            assert answer.status_code != 403 or is_for_people, said


def play(site: Site, runner: asyncio.Runner, operation: Any, permission: Permission, most: int, ends_s: float) -> int:
    """Asks what schemathesis makes of one operation, at least once; how often it was."""
    asked = 0

    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), body=BODIES, is_foreign=st.booleans())
    def ask(case: schemathesis.Case, body: bytes, is_foreign: bool) -> None:
        nonlocal asked
        if asked and time.monotonic() > ends_s:
            return
        asked += 1
        path = case.formatted_path
        known = {name: id_ for name, id_ in site.there.items() if name in case.path_parameters}
        if is_foreign and known:
            path = case.path.format(**{**case.path_parameters, **known})
        runner.run(everybody_asks(site, case, path, body, permission))

    ask()
    return asked


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("most", "seconds"), [(4, 12), pytest.param(150, 600, marks=pytest.mark.soak)])
def test_no_request_of_anybody_is_an_error_of_ours_or_shows_what_is_foreign(
    database: Database, tmp_path: Path, most: int, seconds: float
) -> None:
    ends_s = time.monotonic() + seconds
    with asyncio.Runner() as runner:
        opened = site(database, tmp_path)
        here = runner.run(opened.__aenter__())
        try:
            permissions = {
                (method, route.path_format): permission
                for route, permission in routes(here.app)
                if isinstance(route, APIRoute)
                for method in route.methods
            }
            for found in schemathesis.openapi.from_dict(here.app.openapi()).get_all_operations():
                operation = found.ok()
                permission = permissions.pop((operation.method.upper(), operation.path))
                if not operation.path.startswith("/api/v1/sign-out"):  # would leave nobody to go on asking
                    assert play(here, runner, operation, permission, most, ends_s)
            assert not permissions, "a route is in no OpenAPI"
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def everybodys(askers: list[Asker], method: str, path: str) -> dict[str, Told]:
    """What each is answered."""
    requests = [each.client.request(method, path, content=b"{}") for each in askers]
    answers = await asyncio.gather(*requests)
    return {str(number): told(answer) for number, answer in enumerate(answers)}


def told(answer: httpx.Response) -> Told:
    """All of an answer but the time of day."""
    return answer.status_code, answer.content, [one for one in answer.headers.items() if one[0] != "date"]


async def test_an_object_of_another_hospital_is_answered_like_one_that_is_not_there(
    database: Database, tmp_path: Path
) -> None:
    nowhere = {"session_id": "s0", "gateway_id": "gw-0", "grant_id": "0" * 32, "command_id": "0" * 32}
    compared = 0
    async with site(database, tmp_path) as here:
        for route, permission in routes(here.app):
            assert permission in OF_THE_REGION | OF_PATIENTS
            names = set(route.param_convertors) - {"path"}
            if not isinstance(route, APIRoute) or not names:
                continue
            assert names <= set(nowhere), f"{route.path}: an object this test does not know"
            kept_out = [each for each in here.askers if permission not in OF_THE_REGION & each.principal.permissions]
            for method in route.methods:
                foreign, absent = [
                    await everybodys(kept_out, method, route.path_format.format(**ids)) for ids in (here.there, nowhere)
                ]
                assert foreign == absent, route.path
                assert {status for status, _, _ in foreign.values()} <= {401, 403, 404}
                compared += len(foreign)
        foreign, absent = [
            await everybodys(here.askers, "GET", f"/api/v1/alerts?session_id={session}") for session in ("s9", "s0")
        ]
        assert foreign == absent
    assert compared > 50


async def test_a_command_is_found_under_its_own_box_alone(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as here:
        (operator,) = [client for principal, client in here.askers if principal.role == "operator"]
        command = here.there["command_id"]
        assert (await operator.get(f"/api/v1/gateways/gw-1/commands/{command}")).status_code == 200
        other = await operator.get(f"/api/v1/gateways/gw-2/commands/{command}")
        absent = await operator.get(f"/api/v1/gateways/gw-2/commands/{'0' * 32}")
        assert (other.status_code, other.text.replace(command, "")) == (404, absent.text.replace("0" * 32, ""))

"""What schemathesis makes of our OpenAPI, asked as every role: nothing is an error of ours, nothing foreign is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.access_config import AccessConfig, AccessMode, Unrouted
from cloud.api.permissions import INTEGRATION, ROLES
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from tests.cloud.api.apps import ORIGIN, build, client_of, person, signed_in
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record
from wire.messages import Lane
from wire.readings import SessionEvent, SessionKind, SessionPhase

# Of another hospital: whoever is told this word has been told too much.
FOREIGN = "FOREIGN-AMBULANCE"
PEOPLE = ["", *(role for role in ROLES if role != INTEGRATION)]
# Bodies are checked by msgspec and stand in no OpenAPI: anything at all, and what nearly fits.
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b'{"hospital": "H1"}', b'{"reason": "x"}', b'{"name": "a", "password": "b"}', b"[[[[", b'{"a": 1e999}']
    ),
)


def fill(database: Database) -> None:
    opened = record(SessionEvent("s9", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, FOREIGN), session_id="s9")
    value = heart_rate(61, NOW_US, session_id="s9")
    frames = [frame([opened], 1, lane=Lane.URGENT), frame([value], 1)]
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("role", PEOPLE)
def test_no_request_of_any_role_is_an_error_of_ours_or_shows_what_is_foreign(tmp_path: Path, role: str) -> None:
    database = Database(tmp_path / "store.sqlite")
    fill(database)
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=Unrouted.NONE, hospitals=("H9",)))
    hospital = "H1" if role == "er_clinician" else ""
    with asyncio.Runner() as runner:
        runner.run(boards_consumer(database, Counters(), lambda session_id: None).catch_up())
        runner.run(app.state.reach.route("s9", "H9", is_routed=True, routed_by="test"))
        client = (
            runner.run(signed_in(app, database, person("me", role, hospital))) if role else client_of(app, **ORIGIN)
        )
        for found in schemathesis.openapi.from_dict(app.openapi()).get_all_operations():
            operation = found.ok()
            if operation.path in ("/api/v1/sign-out", "/api/v1/sign-out-everywhere"):
                continue  # would leave nobody to go on asking

            @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(), body=BODIES, session_id=st.sampled_from(["s9", ""]))
            def ask(case: schemathesis.Case, body: bytes, session_id: str) -> None:
                path = case.formatted_path
                if session_id and "session_id" in case.path_parameters:
                    path = case.path.format(**{**case.path_parameters, "session_id": session_id})
                content = body if case.method == "POST" else None
                answer = runner.run(client.request(case.method, path, params=case.query, content=content))
                assert answer.status_code < 500, (case.method, path, case.query)
                # The one route that names an ambulance of another hospital, for break-glass.
                assert FOREIGN not in answer.text or (role, case.path) == ("er_clinician", "/api/v1/elsewhere")

            ask()
        runner.run(client.aclose())
    database.close()

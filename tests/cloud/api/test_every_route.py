"""Every route for every role: what the one table of permissions says happens, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.auth import Requires
from cloud.api.permissions import INTEGRATION, ROLES, SCOPES, Permission
from cloud.store.database import Database
from tests.cloud.api.apps import build, client_of, person, signed_in
from tests.cloud.api.asgi_socket import Closed, join

PEOPLE = [role for role in ROLES if role != INTEGRATION]
PATHS = {"session_id": "s1", "gateway_id": "gw-1", "command_id": "0" * 32, "grant_id": "0" * 32, "path": "er/er.js"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def app(database: Database) -> FastAPI:
    return build(database, AccessConfig(mode=AccessMode.ACCOUNTS))


def routes(app: FastAPI) -> list[tuple[APIRoute | APIWebSocketRoute, Permission]]:
    """Each with its permission: one that declares none, or that a mount hides, fails here."""
    found = []
    for route in app.routes:
        assert isinstance(route, APIRoute | APIWebSocketRoute), route
        (declared,) = [each.call for each in route.dependant.dependencies if isinstance(each.call, Requires)]
        found.append((route, declared.permission))
    return found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("role", ["", *PEOPLE])
async def test_a_role_reaches_the_routes_of_its_permissions_and_no_other(
    app: FastAPI, database: Database, role: str
) -> None:
    hospital = "H1" if role == "er_clinician" else ""
    client = await signed_in(app, database, person("me", role, hospital)) if role else client_of(app)
    cookie = client.cookies.get("vw_session", default="")
    allowed = ROLES.get(role, frozenset({Permission.OPEN}))
    for route, permission in routes(app):
        path, is_allowed = route.path_format.format(**PATHS), permission in allowed
        if isinstance(route, APIWebSocketRoute):
            status = await joined(app, path, cookie)
            assert status == (101 if is_allowed else 403 if role else 401), path
            continue
        if permission is Permission.SIGNED_IN and is_allowed:
            continue  # would sign the one who asks out
        for method in route.methods:
            answer = await client.request(method, path, headers={"Origin": "http://127.0.0.1"})
            assert answer.status_code < 500, (method, path)
            if is_allowed:
                assert answer.status_code not in (401, 403), (method, path)
            else:
                assert answer.status_code == (403 if role else 401), (method, path)


async def joined(app: FastAPI, path: str, cookie: str) -> int:
    async with join(app, path, cookie) as socket:
        try:
            assert '"hello"' in await socket.next()
        except Closed as refused:
            return refused.code
    return 101


def test_every_permission_belongs_to_somebody_and_patients_to_clinicians_alone(app: FastAPI) -> None:
    used = {permission for _, permission in routes(app)}
    given = frozenset[Permission]().union(*ROLES.values())
    assert used == given == set(Permission)
    for role in ROLES:
        shows = ROLES[role] & {Permission.VIEW_LIVE, Permission.VIEW_RECORD, Permission.BREAK_GLASS}
        assert bool(shows) == (role == "er_clinician"), role
    assert {Permission.BREAK_GLASS, Permission.REVIEW_BREAK_GLASS}.isdisjoint(SCOPES.values())

"""The routes of who sees a session: routing it to hospitals, closing it, and what nobody sees."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from cloud.access_config import Hospital
from cloud.api.auth import Requires
from cloud.api.bodies import read_body
from cloud.api.permissions import Permission, Principal
from cloud.api.reach import Reach
from cloud.api.routes import Json
from cloud.api.unseen import UnseenAlerts
from cloud.commands import Commands
from cloud.store.commands import PENDING
from cloud.store.reader import StoredSession, StoreReader
from cloud.words import elsewhere_json
from wire.commands import NewSession

router = APIRouter()

_MOST = 200
# The order names its session, so it stays right however late a box comes back to hear it.
_CLOSE_S = 24 * 3600.0
_MOST_BYTES = 1024


class _Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a hospital is to see it."""

    hospital: Hospital
    routed: bool = True


@router.post("/api/v1/sessions/{session_id}/hospitals")
async def route_session(
    session_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.ROUTE_SESSIONS, "route session"))],
) -> Response:
    """Routes a session to a hospital, or no longer."""
    asked = await read_body(request, _Route, _MOST_BYTES)
    await check_session(request, session_id)
    reach = reach_of(request)
    await reach.route(session_id, asked.hospital, is_routed=asked.routed, routed_by=principal.name)
    return Json({"routed": [each._asdict() for each in await reach.history(session_id, _MOST)]})


@router.get(
    "/api/v1/sessions/{session_id}/hospitals",
    dependencies=[Depends(Requires(Permission.ROUTE_SESSIONS, "view routing"))],
)
async def view_routing(session_id: str, request: Request) -> Response:
    """How a session was routed, newest first."""
    return Json({"routed": [each._asdict() for each in await reach_of(request).history(session_id, _MOST)]})


@router.post("/api/v1/sessions/{session_id}/close")
async def close_session(
    session_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.ROUTE_SESSIONS, "close session"))],
) -> Response:
    """Asks the box to close the session and open the next; asked again, it is the same command while it is pending."""
    session = await check_session(request, session_id)
    if session.closed_us is not None:
        return Json({"error": "the session is closed"}, status_code=409)
    commands, order = _commands(request), NewSession(session_id)
    for command in await commands.of_order(session.gateway, order, most=1):
        if command.state == PENDING:
            return Json({"command": command._asdict()}, status_code=202)
    command = await commands.issue(session.gateway, order, lifetime_s=_CLOSE_S, issued_by=principal.name)
    return Json({"command": command._asdict()}, status_code=202)


@router.get(
    "/api/v1/sessions/{session_id}/close",
    dependencies=[Depends(Requires(Permission.ROUTE_SESSIONS, "view closing"))],
)
async def view_closing(session_id: str, request: Request) -> Response:
    """Whether the session is closed, and what became of asking its box, newest first."""
    session = await check_session(request, session_id)
    found = await _commands(request).of_order(session.gateway, NewSession(session_id), most=_MOST)
    return Json({"closed_us": session.closed_us, "commands": [command._asdict() for command in found]})


@router.get("/api/v1/routing", dependencies=[Depends(Requires(Permission.ROUTE_SESSIONS, "list sessions to route"))])
async def list_to_route(request: Request) -> Response:
    """Open sessions, newest first, each with the hospitals it is routed to and whether any hospital sees it."""
    reach = reach_of(request)
    reader: StoreReader = request.app.state.reader
    found = await asyncio.to_thread(lambda: reader.sessions(most=_MOST + 1, open_only=True))
    named = await reach.named_hospitals()
    return Json(
        {
            "truncated": len(found) > _MOST,
            "sessions": [
                {
                    **elsewhere_json(session),
                    "hospitals": sorted(reach.hospitals_of(session.session_id)),
                    "is_seen": reach.is_seen(session.session_id, named),
                }
                for session in found[:_MOST]
            ],
        }
    )


@router.get("/api/v1/unseen-alerts", dependencies=[Depends(Requires(Permission.ROUTE_SESSIONS, "list unseen alerts"))])
async def list_unseen_alerts(request: Request) -> Response:
    """Open sessions with open alerts that no hospital can see: route them."""
    unseen: UnseenAlerts = request.app.state.unseen
    return Json({"sessions": [each._asdict() for each in await unseen.look()]})


async def check_session(request: Request, session_id: str) -> StoredSession:
    """Within the route, after its permission: whether a session is there is not told to everybody."""
    reader: StoreReader = request.app.state.reader
    return await asyncio.to_thread(reader.session, session_id)  # or UnknownSession


def _commands(request: Request) -> Commands:
    commands = request.app.state.commands
    assert isinstance(commands, Commands)
    return commands


def reach_of(request: Request) -> Reach:
    """The rule of this application."""
    reach = request.app.state.reach
    assert isinstance(reach, Reach)
    return reach

"""The routes that say who may see a session: routing it, closing it, breaking the glass, reviewing that."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import FileResponse
from msgspec import Meta

import screens
from cloud.access_config import Hospital
from cloud.api.audit import Audit
from cloud.api.auth import Refused, Requires, source_of
from cloud.api.bodies import BadBody, read_body
from cloud.api.permissions import Permission, Principal
from cloud.api.reach import Reach
from cloud.api.routes import Json
from cloud.api.unseen import UnseenAlerts
from cloud.commands import Commands
from cloud.store import break_glass
from cloud.store.commands import PENDING
from cloud.store.database import Database
from cloud.store.reader import StoredSession, StoreReader
from cloud.words import elsewhere_json, public_label
from wire.clock import Clock
from wire.commands import NewSession

router = APIRouter()

_MOST = 200
# The order names its session, so it stays right however late a box comes back to hear it.
_CLOSE_S = 24 * 3600.0
# A sentence: shorter than 10 characters gives no reason a reviewer could judge (in Chinese that is one too).
_SHORTEST = 10
_Words = Annotated[str, Meta(max_length=500)]
_MOST_BYTES = 12 * 500 + 200


class _Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a hospital is to see it."""

    hospital: Hospital
    routed: bool = True


class _Break(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why."""

    reason: _Words


class _Review(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the reviewer found."""

    note: _Words


@router.post("/api/v1/sessions/{session_id}/hospitals")
async def route_session(
    session_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.ROUTE_SESSIONS, "route session"))],
) -> Response:
    """Routes a session to a hospital, or no longer."""
    asked = await read_body(request, _Route, _MOST_BYTES)
    await _check_session(request, session_id)
    reach = _reach(request)
    await reach.route(session_id, asked.hospital, is_routed=asked.routed, routed_by=principal.name)
    return Json({"routed": [each._asdict() for each in await reach.history(session_id, _MOST)]})


@router.get(
    "/api/v1/sessions/{session_id}/hospitals",
    dependencies=[Depends(Requires(Permission.ROUTE_SESSIONS, "view routing"))],
)
async def view_routing(session_id: str, request: Request) -> Response:
    """How a session was routed, newest first."""
    return Json({"routed": [each._asdict() for each in await _reach(request).history(session_id, _MOST)]})


@router.post("/api/v1/sessions/{session_id}/close")
async def close_session(
    session_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.ROUTE_SESSIONS, "close session"))],
) -> Response:
    """Asks the box to close the session and open the next; asked again, it is the same command while it is pending."""
    session = await _check_session(request, session_id)
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
    session = await _check_session(request, session_id)
    found = await _commands(request).of_order(session.gateway, NewSession(session_id), most=_MOST)
    return Json({"closed_us": session.closed_us, "commands": [command._asdict() for command in found]})


@router.get("/api/v1/unseen-alerts", dependencies=[Depends(Requires(Permission.ROUTE_SESSIONS, "list unseen alerts"))])
async def list_unseen_alerts(request: Request) -> Response:
    """Open sessions with open alerts that no hospital can see: route them."""
    unseen: UnseenAlerts = request.app.state.unseen
    return Json({"sessions": [each._asdict() for each in await unseen.look()]})


@router.get("/api/v1/elsewhere")
async def list_elsewhere(
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.BREAK_GLASS, "list sessions elsewhere"))],
) -> Response:
    """Open sessions the asker may not see, newest first, with nothing of the patients: what break-glass could open."""
    await _check_person(request, principal, "list sessions elsewhere")
    reach = _reach(request)
    reader: StoreReader = request.app.state.reader
    seen = reach.seen_by(principal)
    found = (
        []
        if seen is None
        else await asyncio.to_thread(lambda: reader.sessions(most=_MOST + 1, open_only=True, hidden_from=seen))
    )
    return Json(
        {
            "minutes": reach.break_glass_minutes,
            "truncated": len(found) > _MOST,
            "sessions": [elsewhere_json(session) for session in found[:_MOST]],
        }
    )


@router.post("/api/v1/sessions/{session_id}/break-glass")
async def break_the_glass(
    session_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.BREAK_GLASS, "break glass"))],
) -> Response:
    """Opens one session for the person who asks, for a limited time; the auditor sees it as to be reviewed."""
    await _check_person(request, principal, "break glass", session_id)
    asked = await read_body(request, _Break, _MOST_BYTES)
    _check_words("reason", asked.reason)
    await _check_session(request, session_id)
    audit: Audit = request.app.state.audit
    source = source_of(request)
    # The reason is on the trail before anything is shown for it.
    await audit.write(
        principal.name, principal.role, "give a reason", session_id, source, "allowed", reason=asked.reason
    )
    grant = await _reach(request).break_glass(principal, session_id, asked.reason)
    return Json({"grant": grant._asdict()}, status_code=201)


@router.get("/review", dependencies=[Depends(Requires(Permission.OPEN, "open screen review"))])
async def review_screen() -> Response:
    """The screen of who reviews break-glass."""
    return FileResponse(screens.ROOT / "review" / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/api/v1/break-glass", dependencies=[Depends(Requires(Permission.REVIEW_BREAK_GLASS, "list break-glass"))])
async def list_break_glass(request: Request) -> Response:
    """Every grant, those to be reviewed first."""
    database: Database = request.app.state.database
    found = await database.read(lambda connection: break_glass.listed(connection, _MOST))
    rows = [
        {
            **each.grant._asdict(),
            "title": each.title or each.grant.account,
            "kind": each.session_kind,
            "label": public_label(each.session_kind, each.session_label),
            "to_review": not each.reviewer,
            "reviewer": each.reviewer,
            "note": each.note,
            "reviewed_us": each.at_us or None,
        }
        for each in found
    ]
    clock: Clock = request.app.state.clock
    return Json({"server_us": clock.now_us(), "grants": rows})


@router.post("/api/v1/break-glass/{grant_id}/review")
async def review_break_glass(
    grant_id: Annotated[str, Path(max_length=32)],
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.REVIEW_BREAK_GLASS, "review break-glass"))],
) -> Response:
    """The one review of a grant, by another person than the one it was for."""
    asked = await read_body(request, _Review, _MOST_BYTES)
    _check_words("note", asked.note)
    database: Database = request.app.state.database
    clock: Clock = request.app.state.clock
    grant = await database.read(lambda connection: break_glass.find(connection, grant_id))
    if grant is None:
        return Json({"error": "no such grant"}, status_code=404)
    if grant.account == principal.name or not principal.is_person:
        raise Refused(403, "another person reviews it")
    now_us = clock.now_us()
    is_new = await database.write(
        lambda connection: break_glass.review(connection, grant_id, principal.name, asked.note, now_us)
    )
    return Json({"reviewed": True}) if is_new else Json({"error": "reviewed already"}, status_code=409)


async def _check_person(request: Request, principal: Principal, action: str, about: str = "") -> None:
    """Behind a token is nobody who could be asked why afterwards."""
    if principal.is_person:
        return
    audit: Audit = request.app.state.audit
    await audit.write(principal.name, principal.role, action, about, source_of(request), "refused")
    raise Refused(403, "only a person who has signed in may break the glass")


def _check_words(name: str, words: str) -> None:
    """Blanks are no reason either."""
    if len(words.strip()) < _SHORTEST:
        raise BadBody(f"{name}: at least {_SHORTEST} characters, blanks around them not counted")


async def _check_session(request: Request, session_id: str) -> StoredSession:
    """Within the route, after its permission: whether a session is there is not told to everybody."""
    reader: StoreReader = request.app.state.reader
    return await asyncio.to_thread(reader.session, session_id)  # or UnknownSession


def _commands(request: Request) -> Commands:
    commands = request.app.state.commands
    assert isinstance(commands, Commands)
    return commands


def _reach(request: Request) -> Reach:
    reach = request.app.state.reach
    assert isinstance(reach, Reach)
    return reach

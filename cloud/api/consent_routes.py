"""The routes that record on what ground a person's data are used, and show what stands."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Meta

from cloud.api.auth import Requires
from cloud.api.bodies import BadBody, read_body
from cloud.api.permissions import Permission, Principal
from cloud.api.routes import Json
from cloud.store import consent
from cloud.store.consent import Basis, Consent, Purpose
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from wire.clock import Clock

router = APIRouter()

_MOST = 200
_MOST_BYTES = 12 * 500 + 300
# The law wants these explained: why it could not wait, what was said no to.
_EXPLAINED = (Basis.EMERGENCY, Basis.REFUSED, Basis.WITHDRAWN)
_SHORTEST_NOTE = 10


class _Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One act of consent. `note` names no person: it says how consent was given, or why it could not be asked for."""

    basis: Basis
    purpose: Purpose = Purpose.CARE
    note: Annotated[str, Meta(max_length=500)] = ""


@router.post("/api/v1/sessions/{session_id}/consent")
async def record_consent(
    session_id: str,
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.RECORD_CONSENT, "record consent"))],
) -> Response:
    """Adds what was consented to, refused, withdrawn, or done in an emergency without asking."""
    asked = await read_body(request, _Recorded, _MOST_BYTES)
    if asked.basis in _EXPLAINED and len(asked.note.strip()) < _SHORTEST_NOTE:
        raise BadBody(f"note: basis {asked.basis.value!r} needs a reason of at least {_SHORTEST_NOTE} characters")
    reader: StoreReader = request.app.state.reader
    await asyncio.to_thread(reader.session, session_id)  # or UnknownSession
    database, clock = _database(request), _clock(request)
    row = Consent(session_id, asked.purpose.value, asked.basis.value, asked.note, principal.name, clock.now_us())
    await database.write(lambda connection: consent.append(connection, row))
    return Json({"recorded": row._asdict()}, status_code=201)


@router.get(
    "/api/v1/sessions/{session_id}/consent", dependencies=[Depends(Requires(Permission.VIEW_RECORD, "view consent"))]
)
async def view_consent(session_id: str, request: Request) -> Response:
    """What stands for each purpose, null where nothing was recorded, and everything that was, newest first."""
    reader: StoreReader = request.app.state.reader
    await asyncio.to_thread(reader.session, session_id)
    database = _database(request)
    standing = await database.read(lambda connection: consent.standing(connection, session_id))
    history = await database.read(lambda connection: consent.history(connection, session_id, _MOST))
    return Json(
        {
            "standing": {
                purpose.value: standing[purpose.value]._asdict() if purpose.value in standing else None
                for purpose in Purpose
            },
            "history": [each._asdict() for each in history],
        }
    )


def _database(request: Request) -> Database:
    database = request.app.state.database
    assert isinstance(database, Database)
    return database


def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock

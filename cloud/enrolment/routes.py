"""Where boxes enrol and renew: HTTPS routes on a listener of their own, whose certificate our authority signed.

Nobody is signed in here: a code or the signature of a known key is what counts, and an answer says no more than no.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from cloud.api.audit import Audit
from cloud.api.auth import Access, Refused, Requires, source_of
from cloud.api.bodies import BadBody, read_body
from cloud.api.permissions import Permission
from cloud.api.rim import BODY_S, BeyondLimit, Bounds
from cloud.api.strangers import Strangers
from cloud.api.wrapped_app import WrappedApp
from cloud.counters import Counters
from cloud.enrolment.authority import Authority
from cloud.enrolment.keeper import EnrolmentKeeper
from cloud.enrolment.register import EnrolmentRefused, Register
from cloud.limiter import Limiter, Turn
from cloud.store.database import StoreUnavailable
from wire.clock import Clock
from wire.enrolment import (
    AUTHORITY_PATH,
    ENROL_PATH,
    MOST_REQUEST_BYTES,
    RENEW_PATH,
    Enrolled,
    EnrolmentRequest,
    Refusal,
    RenewalRequest,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

router = APIRouter()


def build_enrolment_app(
    *,
    access: Access,
    audit: Audit,
    strangers: Strangers,
    register: Register,
    authority: Authority,
    keeper: EnrolmentKeeper,
    counters: Counters,
    clock: Clock,
    body_s: float = BODY_S,
) -> FastAPI:
    """The application with what its routes use."""
    app = WrappedApp("vitalwire enrolment", lambda within: Bounds(within, counters, body_s=body_s))
    app.state.access, app.state.audit, app.state.strangers = access, audit, strangers
    app.state.register, app.state.authority, app.state.keeper = register, authority, keeper
    app.state.counters, app.state.limiter = counters, Limiter(clock)
    app.router.routes += router.routes
    app.add_exception_handler(Refused, _refuse)
    app.add_exception_handler(BeyondLimit, _beyond)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    return app


@router.get(AUTHORITY_PATH, dependencies=[Depends(Requires(Permission.OPEN))])
async def view_authority(request: Request) -> Response:
    """The authority's certificate, for a box that knows its fingerprint and so need not trust this answer."""
    authority = request.app.state.authority
    assert isinstance(authority, Authority)
    return Response(authority.ca_pem, media_type="application/x-pem-file")


@router.post(ENROL_PATH, dependencies=[Depends(Requires(Permission.OPEN))])
async def enrol(request: Request) -> Response:
    """A one-time code and a key in, a certificate out."""
    register = _register(request)
    return await _decide(request, "enrol", EnrolmentRequest, register.enrol)


@router.post(RENEW_PATH, dependencies=[Depends(Requires(Permission.OPEN))])
async def renew(request: Request) -> Response:
    """The next key, signed by the one before, in; its certificate out."""
    register = _register(request)
    return await _decide(request, "renew certificate", RenewalRequest, register.renew)


async def _decide(request: Request, act: str, kind: type[T], decide: Callable[[T], Awaitable[Enrolled]]) -> Response:
    """Reads, decides, writes down, and only then answers; who fails too often is not listened to for a while."""
    audit: Audit = request.app.state.audit
    limiter: Limiter = request.app.state.limiter
    counters: Counters = request.app.state.counters
    source = source_of(request)
    turn = limiter.take(source)
    if turn is not Turn.GIVEN:
        counters.add("enrolment_limited")
        if turn is Turn.DENIED_FROM_NOW:
            await audit.write("", "box", f"{act}: not listened to for a minute", "", source, "refused")
        return _no(429, "too many refusals: wait a minute")
    try:
        enrolled = await decide(await read_body(request, kind, MOST_REQUEST_BYTES))
    except (BadBody, EnrolmentRefused) as error:
        counters.add("enrolment_refused")
        gateway = error.gateway if isinstance(error, EnrolmentRefused) else ""
        why = error.why if isinstance(error, EnrolmentRefused) else "cannot be read"
        _log.warning("%s of %s refused: %s", act, gateway or "nobody we know", why)
        await audit.write("", "box", f"{act}: {why}", gateway, source, "refused")
        return _no(403, "refused")
    except StoreUnavailable:
        limiter.give_back(source)
        raise
    limiter.give_back(source)
    await audit.write(enrolled.gateway, "box", act, enrolled.gateway, source, "allowed")
    keeper: EnrolmentKeeper = request.app.state.keeper
    with suppress(StoreUnavailable, OSError):  # it goes on trying; what is given is given
        await keeper.look()
    return Response(msgspec.json.encode(enrolled), media_type="application/json")


def _no(status: int, reason: str) -> Response:
    return Response(msgspec.json.encode(Refusal(reason)), status_code=status, media_type="application/json")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _no(error.status, error.reason)


async def _beyond(_: Request, error: Exception) -> Response:
    assert isinstance(error, BeyondLimit)
    response = _no(error.status, error.reason)
    response.headers["Connection"] = "close"
    return response


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it; as an error of ours each would be a traceback


async def _unavailable(_: Request, error: Exception) -> Response:
    return _no(503, "the store does not answer")


def _register(request: Request) -> Register:
    register = request.app.state.register
    assert isinstance(register, Register)
    return register

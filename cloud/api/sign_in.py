"""The routes of signing in and out, and who one is."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from msgspec import Meta

import screens
from cloud.api.auth import Access, Requires, is_secure, session_cookie, source_of, vouch
from cloud.api.bodies import read_body
from cloud.api.permissions import Permission, Principal
from cloud.api.routes import Json
from cloud.api.sign_in_desk import SignInDesk
from cloud.passwords import MOST_CHARACTERS

router = APIRouter()

# A name and a password of the longest, each character escaped by JSON as twelve.
_MOST_BYTES = 12 * (MOST_CHARACTERS + 100) + 200

# A browser keeps no cookie longer (RFC 6265bis: 400 days).
_DEVICE_S = 400 * 86_400


class _SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who, and the proof."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)]


@router.get("/sign-in", dependencies=[Depends(Requires(Permission.OPEN))])
async def sign_in_screen() -> Response:
    """The page to sign in on."""
    return FileResponse(screens.ROOT / "sign_in" / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/api/v1/me", dependencies=[Depends(Requires(Permission.OPEN))])
async def me(request: Request) -> Response:
    """Who is asking, and how one may sign in here."""
    access: Access = request.app.state.access
    desk: SignInDesk = request.app.state.desk
    principal = await access.identify(request)
    return Json(
        {
            "name": principal.name,
            "title": principal.title or principal.name,
            "role": principal.role,
            "hospital": principal.hospital,
            "sees_patients": Permission.VIEW_LIVE in principal.permissions,
            "can_sign_out": principal.is_person,
            "auto_sign_in": access.is_demo,
            "ways": {"password": desk.is_open, "oidc": desk.provider.config.title if desk.provider else None},
        }
    )


@router.post("/api/v1/sign-in", dependencies=[Depends(Requires(Permission.OPEN))])
async def sign_in(request: Request) -> Response:
    """Signs in by name and password; the browser keeps the cookie, and one that opens nothing."""
    desk: SignInDesk = request.app.state.desk
    asked = await read_body(request, _SignIn, _MOST_BYTES)
    secure = is_secure(request)
    cookie = "__Host-vw_device" if secure else "vw_device"
    device = request.cookies.get(cookie, "")
    token = await desk.by_password(asked.name, asked.password, source_of(request), device)
    response = Json({"signed_in": True})
    set_session(response, request, token)
    device = desk.devices.remember(device, asked.name)
    response.set_cookie(cookie, device, max_age=_DEVICE_S, path="/", secure=secure, httponly=True, samesite="strict")
    return response


@router.post("/api/v1/sign-out")
async def sign_out(
    request: Request, principal: Annotated[Principal, Depends(Requires(Permission.SIGNED_IN, "sign out"))]
) -> Response:
    """Signs this browser out."""
    access: Access = request.app.state.access
    await access.sign_ins.end(principal.sign_in)
    return _signed_out(request)


@router.post("/api/v1/sign-out-everywhere")
async def sign_out_everywhere(
    request: Request, principal: Annotated[Principal, Depends(Requires(Permission.SIGNED_IN, "sign out everywhere"))]
) -> Response:
    """Signs every browser of this person out."""
    access: Access = request.app.state.access
    if principal.is_person:  # a token may bear the name of somebody's account
        await access.sign_ins.end_all(principal.name)
    return _signed_out(request)


def set_session(response: Response, request: Request, token: str) -> None:
    """Gives the browser its sign-in, until it closes; the server's limits end it before."""
    vouch(request, token)
    response.set_cookie(
        session_cookie(request), token, path="/", secure=is_secure(request), httponly=True, samesite="strict"
    )


def _signed_out(request: Request) -> Response:
    response = Json({"signed_in": False})
    secure = is_secure(request)
    response.delete_cookie(session_cookie(request), path="/", secure=secure, httponly=True, samesite="strict")
    return response

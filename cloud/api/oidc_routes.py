"""The routes to the identity provider and back."""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from cloud.api.auth import Requires, is_secure, source_of
from cloud.api.permissions import Permission
from cloud.api.sign_in import set_session
from cloud.api.sign_in_desk import SignInDesk
from cloud.oidc import PENDING_S, OidcUnavailable
from cloud.oidc_claims import OidcRefused

router = APIRouter()
_log = logging.getLogger(__name__)

# Comes back with a navigation from the provider's site, which a Strict cookie does not; it opens nothing by itself.
_COOKIE = "vw_oidc"
_PATH = "/api/v1/oidc"
_REFUSED = "/sign-in?refused"


@router.get("/api/v1/oidc/start", dependencies=[Depends(Requires(Permission.OPEN))])
async def start(request: Request, next_path: Annotated[str, Query(alias="next", max_length=1000)] = "") -> Response:
    """Sends the browser to the provider."""
    desk: SignInDesk = request.app.state.desk
    if desk.provider is None:
        return Response(status_code=404)
    try:
        departure = await desk.provider.depart(next_path, source_of(request))
    except OidcUnavailable as error:
        _log.warning("sign-in by the provider is not possible: %s", error)
        return _to(_REFUSED)
    response = _to(departure.url)
    response.set_cookie(
        _COOKIE,
        departure.browser,
        max_age=PENDING_S,
        path=_PATH,
        secure=is_secure(request),
        httponly=True,
        samesite="lax",
    )
    return response


@router.get("/api/v1/oidc/callback", dependencies=[Depends(Requires(Permission.OPEN))])
async def callback(
    request: Request,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4096)] = "",
    iss: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """Signs in whom the provider vouches for, then lets the sign-in page decide where to go."""
    desk: SignInDesk = request.app.state.desk
    if desk.provider is None:
        return Response(status_code=404)
    source, browser = source_of(request), request.cookies.get(_COOKIE, "")
    try:
        arrival = await desk.provider.arrive(state, code, browser, iss)
        token = await desk.by_provider(arrival.person, source)
    except (OidcRefused, OidcUnavailable) as error:
        _log.warning("sign-in by the provider refused: %s", error)
        await desk.provider_refused(source)
        return _to(_REFUSED)
    # Not to the screen itself: that request would still count as come from the provider, without the Strict cookie.
    response = _to(f"/sign-in?{urlencode({'next': arrival.next})}")
    set_session(response, request, token)
    response.delete_cookie(_COOKIE, path=_PATH, secure=is_secure(request), httponly=True, samesite="lax")
    return response


def _to(url: str) -> Response:
    return RedirectResponse(url, status_code=303, headers={"Cache-Control": "no-store"})

"""Who is asking and what they may do. Every route declares exactly one permission by `Requires`."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi.requests import HTTPConnection

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.audit import Audit
from cloud.api.permissions import DEMO, NOBODY, OF_PATIENTS, ROLES, Permission, Principal
from cloud.api.reach import Reach
from cloud.api.strangers import Strangers
from cloud.api.tokens import Tokens
from cloud.sign_ins import SignIns
from cloud.store.reader import UnknownSession

TOKEN_COOKIE = "vw_token"  # noqa: S105 - a name
# A browser cannot set a header on a WebSocket, and a token in a URL would end in logs: it travels as a subprotocol.
SUBPROTOCOL = "vw.token."
# Where a scope holds what is to be told of a credential that was found good.
VOUCH = "vitalwire.vouch"
_OBJECTS = ("session_id", "gateway_id", "grant_id")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Refused(Exception):
    """401 for who is unknown, 403 for who may not."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Access:
    """Knows everybody who may ask this process."""

    def __init__(self, config: AccessConfig, tokens: Tokens, sign_ins: SignIns) -> None:
        self.is_demo = config.mode is AccessMode.DEMO
        self.sign_ins = sign_ins
        self._tokens = tokens
        self._knows_people = config.mode is AccessMode.ACCOUNTS

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The principal, or the one nobody is. Raises StoreUnavailable."""
        if self.is_demo:
            return DEMO
        # Where people sign in, a token is never a cookie: any host beside ours could set one and be asked as.
        if token := _token(connection, takes_cookie=not self._knows_people):
            principal = self._tokens.find(token)
            if principal is None:
                return NOBODY
            vouch(connection, token)
            return principal
        cookie = connection.cookies.get(session_cookie(connection))
        if not cookie or not self._knows_people:
            return NOBODY
        found = await self.sign_ins.find(cookie)
        if found is None or found.role not in ROLES:
            return NOBODY
        vouch(connection, cookie)
        return Principal(found.account, found.role, ROLES[found.role], found.hospital, found.id_hash, found.title)


class Requires:
    """The one permission of a route, checked and, where `audited` names the act, written down."""

    def __init__(self, permission: Permission, audited: str = "") -> None:
        self.permission, self.audited = permission, audited

    async def __call__(self, connection: HTTPConnection) -> Principal:
        access: Access = connection.app.state.access
        # A script or a style sheet asks for nobody: no look into the store for each.
        is_plain = self.permission is Permission.OPEN and not self.audited
        principal = NOBODY if is_plain else await access.identify(connection)
        try:
            _check_origin(connection, access)
            if self.permission not in principal.permissions:
                raise Refused(403 if principal.name else 401, "not allowed" if principal.name else "sign in first")
            await self._check_reach(connection, principal)
        except (Refused, UnknownSession):
            await self._write(connection, principal, "refused")
            raise
        if self.audited:
            await self._write(connection, principal, "allowed")
        return principal

    async def _write(self, connection: HTTPConnection, principal: Principal, result: str) -> None:
        audit: Audit = connection.app.state.audit
        strangers: Strangers = connection.app.state.strangers
        about = next((str(connection.path_params[name]) for name in _OBJECTS if name in connection.path_params), "")
        action, source = self.audited or connection.url.path, source_of(connection)
        if principal.name:
            await audit.write(principal.name, principal.role, action, about, source, result)
        else:
            await strangers.write(action, about, source, result)

    async def _check_reach(self, connection: HTTPConnection, principal: Principal) -> None:
        """Another hospital's session is answered like one that is not there. Raises UnknownSession."""
        session_id = connection.path_params.get("session_id")
        if session_id is None or self.permission not in OF_PATIENTS:
            return
        reach: Reach = connection.app.state.reach
        if not await reach.may_see(principal, str(session_id)):
            raise UnknownSession("no such session")


def source_of(connection: HTTPConnection) -> str:
    """The address that asks; behind a proxy of the site, the proxy's."""
    return connection.client.host if connection.client else ""


def offered_credentials(connection: HTTPConnection) -> list[bytes]:
    """Hashes of what a request brings to be known by, before anybody looked whether any of it is good."""
    found = [_bearer(connection), _subprotocol(connection)]
    # A foreign host can set the second cookie, and not the first.
    found += [connection.cookies.get(name, "") for name in (session_cookie(connection), TOKEN_COOKIE)]
    return [_hash(credential) for credential in found if credential]


def vouch(connection: HTTPConnection, credential: str) -> None:
    """Says that a credential is good to whoever limits the requests, if anybody does."""
    tell: Callable[[bytes], None] | None = connection.scope.get(VOUCH)
    if tell is not None:
        tell(_hash(credential))


def _hash(credential: str) -> bytes:
    return hashlib.blake2b(credential.encode(errors="replace"), digest_size=16).digest()


def is_secure(connection: HTTPConnection) -> bool:
    """Whether cookies must travel by TLS alone: always, but for plain HTTP within this machine."""
    return connection.url.scheme in ("https", "wss") or not _names_loopback(connection.headers.get("host", ""))


def session_cookie(connection: HTTPConnection) -> str:
    """The cookie's name. Under `__Host-` a browser takes it from this very host by TLS only, for no other host."""
    return "__Host-vw_session" if is_secure(connection) else "vw_session"


def _token(connection: HTTPConnection, *, takes_cookie: bool) -> str:
    if bearer := _bearer(connection):
        return bearer
    if takes_cookie and (cookie := connection.cookies.get(TOKEN_COOKIE)):
        return cookie
    return _subprotocol(connection)


def _subprotocol(connection: HTTPConnection) -> str:
    for offered in connection.headers.get("sec-websocket-protocol", "").split(","):
        if offered.strip().startswith(SUBPROTOCOL):
            return offered.strip().removeprefix(SUBPROTOCOL)
    return ""


def _bearer(connection: HTTPConnection) -> str:
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else ""


def _check_origin(connection: HTTPConnection, access: Access) -> None:
    """A foreign page in the same browser must not borrow a sign-in, nor reach a demo under another name."""
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    if origin is not None and _netloc(origin) != host:
        raise Refused(403, "another site's page may not ask")
    if access.is_demo and not _names_loopback(host):
        raise Refused(403, "a demo answers only to localhost")
    if connection.scope["type"] == "websocket" or connection.scope["method"] in _SAFE_METHODS:
        return
    _check_change(connection, access, has_origin=origin is not None)


def _check_change(connection: HTTPConnection, access: Access, *, has_origin: bool) -> None:
    """What changes something needs proof that no foreign page asks, beside the SameSite of the cookie.

    Browsers prove it by Origin or Sec-Fetch-Site and no page can forge either; programs by a bearer token, which no
    browser adds by itself. Another port or subdomain is the same *site*, and not the same origin.
    """
    fetched_from = connection.headers.get("sec-fetch-site")
    if fetched_from not in (None, "same-origin", "none"):
        raise Refused(403, "another site's page may not ask")
    is_proven = has_origin or fetched_from == "same-origin" or bool(_bearer(connection))
    if not is_proven and not access.is_demo:
        raise Refused(403, "say where the page comes from: Origin")


def _netloc(origin: str) -> str | None:
    """Host and port as the browser writes them; None, which is no host's, for what is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

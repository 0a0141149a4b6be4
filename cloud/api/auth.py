"""Who is asking and what they may do. Every route declares exactly one permission by `Requires`."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fastapi.requests import HTTPConnection

from cloud.api.audit import Audit
from cloud.config import AccessConfig, AccessMode
from wire.configuration import ConfigError

COOKIE = "vw_token"
# A browser cannot set a header on a WebSocket, and a token in a URL would end in logs: it travels as a subprotocol.
SUBPROTOCOL = "vw.token."


class Permission(StrEnum):
    """What a route needs. OPEN holds nothing of any patient."""

    OPEN = "open"
    VIEW_LIVE = "view_live"
    VIEW_RECORD = "view_record"
    VIEW_METRICS = "view_metrics"
    VIEW_FLEET = "view_fleet"  # boxes, never patients
    COMMAND_GATEWAYS = "command_gateways"


ROLES: dict[str, frozenset[Permission]] = {
    "er_clinician": frozenset({Permission.OPEN, Permission.VIEW_LIVE, Permission.VIEW_RECORD}),
    "operator": frozenset(
        {Permission.OPEN, Permission.VIEW_METRICS, Permission.VIEW_FLEET, Permission.COMMAND_GATEWAYS}
    ),
}
_DEMO_PERMISSIONS = frozenset(Permission)


class Principal(NamedTuple):
    """Who is asking."""

    name: str
    role: str
    permissions: frozenset[Permission]


_NOBODY = Principal("", "", frozenset({Permission.OPEN}))
_DEMO = Principal("demo", "er_clinician", _DEMO_PERMISSIONS)


class Refused(Exception):
    """401 for who is unknown, 403 for who may not."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Access:
    """The sign-in of one process."""

    def __init__(self, config: AccessConfig) -> None:
        self.is_demo = config.mode is AccessMode.DEMO
        self._by_hash = {} if self.is_demo else read_tokens(Path(config.tokens_file))

    def identify(self, connection: HTTPConnection) -> Principal:
        """The principal, or the one nobody is."""
        if self.is_demo:
            return _DEMO
        token = _token(connection)
        if not token:
            return _NOBODY
        asked = hashlib.sha256(token.encode()).hexdigest()
        found = _NOBODY
        for known, principal in self._by_hash.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known, asked):
                found = principal
        return found


class Requires:
    """The one permission of a route, checked and, where `audited` names the act, written down."""

    def __init__(self, permission: Permission, audited: str = "") -> None:
        self.permission, self.audited = permission, audited

    async def __call__(self, connection: HTTPConnection) -> Principal:
        access: Access = connection.app.state.access
        audit: Audit = connection.app.state.audit
        principal = access.identify(connection)
        source = connection.client.host if connection.client else ""
        about = str(connection.path_params.get("session_id") or connection.path_params.get("gateway_id", ""))
        action = self.audited or connection.url.path
        try:
            _check_origin(connection, access)
            if self.permission not in principal.permissions:
                raise Refused(403 if principal.name else 401, "not allowed" if principal.name else "sign in first")
        except Refused:
            await audit.write(principal.name, principal.role, action, about, source, "refused")
            raise
        if self.audited:
            await audit.write(principal.name, principal.role, action, about, source, "allowed")
        return principal


def read_tokens(path: Path) -> dict[str, Principal]:
    """Principals by token hash from lines `name role sha256`. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"access.tokens_file: {path}: {error.strerror}") from error
    found: dict[str, Principal] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or words[1] not in ROLES or not re.fullmatch(r"[0-9a-f]{64}", words[2]):
            raise ConfigError(f"{path}: line {number}: expected: name role sha256-hex; roles: {', '.join(ROLES)}")
        found[words[2]] = Principal(words[0], words[1], ROLES[words[1]])
    return found


def _token(connection: HTTPConnection) -> str:
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    if cookie := connection.cookies.get(COOKIE):
        return cookie
    for offered in connection.headers.get("sec-websocket-protocol", "").split(","):
        if offered.strip().startswith(SUBPROTOCOL):
            return offered.strip().removeprefix(SUBPROTOCOL)
    return ""


def _check_origin(connection: HTTPConnection, access: Access) -> None:
    """A foreign page in the same browser must not borrow a sign-in, nor reach a demo under another name."""
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Refused(403, "another site's page may not ask")
    if access.is_demo and not _names_loopback(host):
        raise Refused(403, "a demo answers only to localhost")


def _names_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

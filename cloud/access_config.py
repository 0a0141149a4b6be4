"""What a site may set of who may look: the table [access] of the cloud's configuration."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from cloud.api.permissions import INTEGRATION, ROLES

_PEOPLE = [role for role in ROLES if role != INTEGRATION]


Hospital = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]


class AccessMode(StrEnum):
    """How people sign in."""

    DEMO = "demo"
    TOKEN = "token"  # noqa: S105 - the name of a mode
    ACCOUNTS = "accounts"


class Unrouted(StrEnum):
    """Who sees a session that was never routed to a hospital."""

    ALL_HOSPITALS = "all_hospitals"
    NONE = "none"


class LimitConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a sign-in lasts: without a request, and at most. NIST SP 800-63B, AAL2: 30 minutes and 12 hours."""

    idle_minutes: Annotated[int, Meta(ge=1, le=7 * 24 * 60)] = 30
    absolute_minutes: Annotated[int, Meta(ge=1, le=7 * 24 * 60)] = 12 * 60


# A screen on a wall is watched and never touched: going dark while an ambulance is on its way would harm more than a
# shift's length of being signed in does.
_SHIFT = LimitConfig(idle_minutes=12 * 60)
_DEFAULT_LIMITS = {"er_clinician": _SHIFT, "dispatcher": _SHIFT}


class OidcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity provider. `roles` and `hospitals` read its words as ours; the first that fits counts.

    A claim `a.b` is b within a. Without `hospitals` the claim names the hospital as we do.
    """

    issuer: str
    client_id: str
    client_secret_file: str
    roles: dict[str, str]
    title: str = "OpenID Connect"
    scope: str = "openid profile"
    role_claim: str = "roles"
    hospital_claim: str = "hospital"
    hospitals: dict[str, str] = {}
    title_claim: str = "name"

    def __post_init__(self) -> None:
        if not is_safe_url(self.issuer):
            raise ValueError(f"issuer = {self.issuer!r} must be https, or http on a loopback address")
        for role in self.roles.values():
            if role not in _PEOPLE:
                raise ValueError(f"roles: {role!r} is no role; allowed: {', '.join(_PEOPLE)}")


def is_safe_url(url: str) -> bool:
    """Whether what is sent there travels by TLS or stays on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme != "http":
        return parts.scheme == "https" and bool(host)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class AccessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`demo` signs everybody in and is only for loopback; `token` knows only `tokens_file`, `accounts` also people."""

    mode: AccessMode = AccessMode.TOKEN
    tokens_file: str = ""
    public_url: str = ""
    oidc: OidcConfig | None = None
    limits: dict[str, LimitConfig] = {}
    unrouted: Unrouted = Unrouted.ALL_HOSPITALS
    # Beside those of accounts, tokens and oidc.hospitals: a session is routed to no other.
    hospitals: tuple[Hospital, ...] = ()
    # Long enough for an ambulance's way and the hand-over, short enough to be one emergency.
    break_glass_minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 60

    def __post_init__(self) -> None:
        if self.mode is AccessMode.TOKEN and not self.tokens_file:
            raise ValueError("mode = 'token' needs tokens_file, lines of: name role sha256-of-token")
        for role in self.limits:
            if role not in _PEOPLE:
                raise ValueError(f"limits.{role}: no such role; allowed: {', '.join(_PEOPLE)}")
        if self.oidc is not None and self.mode is not AccessMode.ACCOUNTS:
            raise ValueError(f"oidc: only for mode = 'accounts', not {self.mode.value!r}")
        if self.oidc is not None and not is_safe_url(self.public_url):
            raise ValueError("oidc needs public_url, where browsers reach this cloud: https, or http on loopback")

    @property
    def named_hospitals(self) -> frozenset[str]:
        """The hospitals this configuration names."""
        return frozenset(self.hospitals) | frozenset(self.oidc.hospitals.values() if self.oidc else ())

    def limit(self, role: str) -> LimitConfig:
        """How long a sign-in of this role lasts."""
        return self.limits.get(role) or _DEFAULT_LIMITS.get(role) or LimitConfig()

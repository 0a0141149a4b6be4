"""What a site may set of who may look: the table [access] of the cloud's configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from cloud.api.permissions import INTEGRATION, ROLES


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


class AccessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`demo` signs everybody in and is only for loopback; `token` knows only `tokens_file`, `accounts` also people."""

    mode: AccessMode = AccessMode.TOKEN
    tokens_file: str = ""
    limits: dict[str, LimitConfig] = {}
    unrouted: Unrouted = Unrouted.ALL_HOSPITALS
    # Long enough for an ambulance's way and the hand-over, short enough to be one emergency.
    break_glass_minutes: Annotated[int, Meta(ge=1, le=24 * 60)] = 60

    def __post_init__(self) -> None:
        if self.mode is AccessMode.TOKEN and not self.tokens_file:
            raise ValueError("mode = 'token' needs tokens_file, lines of: name role sha256-of-token")
        people = [role for role in ROLES if role != INTEGRATION]
        for role in self.limits:
            if role not in people:
                raise ValueError(f"limits.{role}: no such role; allowed: {', '.join(people)}")

    def limit(self, role: str) -> LimitConfig:
        """How long a sign-in of this role lasts."""
        return self.limits.get(role) or _DEFAULT_LIMITS.get(role) or LimitConfig()

"""Who may do what: the one table of roles, scopes and permissions."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Permission(StrEnum):
    """What a route needs. OPEN holds nothing of any patient."""

    OPEN = "open"
    SIGNED_IN = "signed_in"  # one's own sign-in, and nothing else
    VIEW_LIVE = "view_live"
    VIEW_RECORD = "view_record"
    BREAK_GLASS = "break_glass"
    RECORD_CONSENT = "record_consent"
    ROUTE_SESSIONS = "route_sessions"
    REVIEW_BREAK_GLASS = "review_break_glass"
    VIEW_METRICS = "view_metrics"
    VIEW_FLEET = "view_fleet"  # boxes, never patients
    COMMAND_GATEWAYS = "command_gateways"


# These show patients: beside the permission, cloud.api.reach must say yes to each session.
OF_PATIENTS = frozenset({Permission.VIEW_LIVE, Permission.VIEW_RECORD, Permission.RECORD_CONSENT})

INTEGRATION = "integration"
_EVERYBODY = frozenset({Permission.OPEN, Permission.SIGNED_IN})


def _role(*permissions: Permission) -> frozenset[Permission]:
    return _EVERYBODY | frozenset(permissions)


ROLES: dict[str, frozenset[Permission]] = {
    "er_clinician": _role(
        Permission.VIEW_LIVE, Permission.VIEW_RECORD, Permission.BREAK_GLASS, Permission.RECORD_CONSENT
    ),
    "dispatcher": _role(Permission.ROUTE_SESSIONS),
    "operator": _role(Permission.VIEW_METRICS, Permission.VIEW_FLEET, Permission.COMMAND_GATEWAYS),
    "auditor": _role(Permission.REVIEW_BREAK_GLASS),
    # What these three see belongs to cases and households, which no route shows yet.
    "crew": _role(),
    "family_doctor": _role(),
    "resident": _role(),
    INTEGRATION: _role(),  # and its scopes
}

SCOPES: dict[str, Permission] = {
    "live:read": Permission.VIEW_LIVE,
    "record:read": Permission.VIEW_RECORD,
    "consent:write": Permission.RECORD_CONSENT,
    "sessions:route": Permission.ROUTE_SESSIONS,
    "metrics:read": Permission.VIEW_METRICS,
    "fleet:read": Permission.VIEW_FLEET,
    "gateways:command": Permission.COMMAND_GATEWAYS,
}

# People whose view is a hospital's.
HOSPITAL_ROLES = frozenset({"er_clinician"})
# For an integration client of the whole region; no person has it.
EVERY_HOSPITAL = "*"


class Principal(NamedTuple):
    """Who is asking; `sign_in` is the id hash of a person's browser, empty for a token."""

    name: str
    role: str
    permissions: frozenset[Permission]
    hospital: str = ""
    sign_in: bytes = b""
    title: str = ""

    @property
    def is_person(self) -> bool:
        """Signed in by themselves, not by a token that machines share."""
        return bool(self.sign_in)


NOBODY = Principal("", "", frozenset({Permission.OPEN}))
DEMO = Principal("demo", "er_clinician", frozenset(Permission), EVERY_HOSPITAL)

"""What an identity provider says of a person: its signature and claims checked, then read as one of our roles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from cloud.access_config import OidcConfig
from cloud.api.permissions import HOSPITAL_ROLES

# Asymmetric ones alone: "none" needs no key, and an HMAC key would be the secret that the provider shares with us.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
# Clocks of two houses.
_LEEWAY_S = 60
_HOSPITAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

Claims = Mapping[str, Any]  # Any: JSON of another house


class OidcRefused(Exception):
    """The provider does not vouch for anybody who may sign in here; the text is for the log, never for the browser."""


class Person(NamedTuple):
    """Somebody the provider vouches for."""

    subject: str
    title: str
    role: str
    hospital: str


def verify(id_token: str, keys: KeySet, config: OidcConfig, nonce: str, now_s: int) -> Claims:
    """The claims of an ID token (OpenID Connect Core 3.1.3.7). Raises OidcRefused."""
    try:
        token = jwt.decode(id_token, keys, algorithms=list(ALGORITHMS))
        registry = jwt.JWTClaimsRegistry(
            now=now_s,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": config.issuer},
            aud={"essential": True, "value": config.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(token.claims)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise OidcRefused(f"ID token: {type(error).__name__}: {error}") from None
    party, audience = token.claims.get("azp"), token.claims["aud"]
    if (party or (isinstance(audience, list) and len(audience) > 1)) and party != config.client_id:
        raise OidcRefused("ID token: made for another party")
    return token.claims


def read_person(claims: Claims, config: OidcConfig) -> Person:
    """Whom the claims describe, by the configured mapping. Raises OidcRefused."""
    subject = claims.get("sub")
    # Core 2: at most 255 ASCII characters.
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise OidcRefused("no usable subject")
    said = _texts(claims, config.role_claim)
    role = next((ours for theirs, ours in config.roles.items() if theirs in said), None)
    if role is None:
        raise OidcRefused(f"{config.role_claim} names none of the configured roles")
    title = _texts(claims, config.title_claim)
    return Person(subject, title[0][:100] if title else "", role, _hospital(claims, config, role))


def _hospital(claims: Claims, config: OidcConfig, role: str) -> str:
    if role not in HOSPITAL_ROLES:
        return ""
    for theirs in _texts(claims, config.hospital_claim):
        ours = config.hospitals.get(theirs, "") if config.hospitals else theirs
        if _HOSPITAL.fullmatch(ours):
            return ours
    raise OidcRefused(f"{config.hospital_claim} names no hospital for an {role}")


def _texts(claims: Claims, path: str) -> list[str]:
    """The texts at a claim, `a.b` being b within a; what has another shape says nothing."""
    value: Any = claims
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one]

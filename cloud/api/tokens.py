"""The tokens of machines: one line of a file each, known only by hash."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.permissions import EVERY_HOSPITAL, HOSPITAL_ROLES, INTEGRATION, OF_PATIENTS, ROLES, SCOPES, Principal
from wire.configuration import ConfigError

_GRANT = re.compile(r"(?P<role>[a-z_]+)(?::(?P<scopes>[a-z:,]+))?(?:@(?P<hospital>[A-Za-z0-9._-]{1,63}|\*))?")


class Tokens:
    """Who a token is."""

    def __init__(self, by_hash: dict[str, Principal]) -> None:
        self._by_hash = by_hash

    @property
    def hospitals(self) -> frozenset[str]:
        """The single hospitals whose patients a token shows."""
        found = [one.hospital for one in self._by_hash.values() if one.permissions & OF_PATIENTS]
        return frozenset(found) - {"", EVERY_HOSPITAL}

    @property
    def screens(self) -> frozenset[str]:
        """The hospitals at which a token stands for whoever watches a screen; empty for one at none."""
        return frozenset(one.hospital for one in self._by_hash.values() if one.role in HOSPITAL_ROLES)

    def find(self, token: str) -> Principal | None:
        """The principal of a token, in a time that tells nothing."""
        asked = hashlib.sha256(token.encode(errors="replace")).hexdigest()
        found = None
        for known, principal in self._by_hash.items():
            if hmac.compare_digest(known, asked):
                found = principal
        return found


def read_tokens(config: AccessConfig) -> Tokens:
    """Tokens from lines `name GRANT sha256`. Raises ConfigError."""
    if not config.tokens_file or config.mode is AccessMode.DEMO:
        return Tokens({})
    path = Path(config.tokens_file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"access.tokens_file: {path}: {error}") from error
    found: dict[str, Principal] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or not re.fullmatch(r"[0-9a-f]{64}", words[2]):
            raise ConfigError(f"{path}: line {number}: expected: name role sha256-hex; roles: {', '.join(ROLES)}")
        try:
            found[words[2]] = parse_grant(words[0], words[1])
        except ValueError as error:
            raise ConfigError(f"{path}: line {number}: {error}") from None
    return Tokens(found)


def parse_grant(name: str, grant: str) -> Principal:
    """Reads ROLE, ROLE@HOSPITAL or integration:SCOPE,SCOPE@HOSPITAL. Raises ValueError."""
    match = _GRANT.fullmatch(grant)
    if match is None or match["role"] not in ROLES:
        raise ValueError(f"{grant!r} is not ROLE or ROLE@HOSPITAL; roles: {', '.join(ROLES)}")
    role, hospital = match["role"], match["hospital"] or ""
    scopes = match["scopes"].split(",") if match["scopes"] else []
    if (role == INTEGRATION) != bool(scopes) or not set(scopes) <= set(SCOPES):
        raise ValueError(f"{grant!r}: {INTEGRATION}:SCOPE,... takes scopes, no other role does: {', '.join(SCOPES)}")
    if hospital and role not in HOSPITAL_ROLES | {INTEGRATION}:
        raise ValueError(f"{grant!r}: {role} sees no hospital's patients")
    if hospital == EVERY_HOSPITAL and role != INTEGRATION:
        raise ValueError(f"{grant!r}: only {INTEGRATION} may see every hospital")
    return Principal(name, role, ROLES[role] | {SCOPES[scope] for scope in scopes}, hospital)

"""Where a store lies: a SQLite file, or a database of a PostgreSQL server. Text only, nothing is opened."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SQLITE = "sqlite"
POSTGRESQL = "postgresql+psycopg"
_FORMS = f"{SQLITE}:///FILE or {POSTGRESQL}://USER@HOST:PORT/NAME"


@dataclass(frozen=True)
class ServerStore:
    """A database of a PostgreSQL server; the password stands apart, so that a printed URL never shows it."""

    url: str
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url


StoreLocation = Path | ServerStore


def parse_store_url(url: str) -> StoreLocation:
    """Reads a store URL. Raises ValueError naming what is allowed."""
    parts = urlsplit(url)
    if parts.scheme == SQLITE and url.startswith(f"{SQLITE}:///") and len(url) > len(f"{SQLITE}:///"):
        return Path(url.removeprefix(f"{SQLITE}:///"))
    # The URL is not repeated where it may hold a password.
    if parts.password is not None:
        raise ValueError("store_url must not hold a password; name a file with store_password_file")
    if parts.scheme != POSTGRESQL or not parts.path.strip("/"):
        raise ValueError(f"store_url = {url!r} is not {_FORMS}")
    options = parse_qs(parts.query)
    host = parts.hostname or options.get("host", [""])[-1]
    if not _is_local(host) and options.get("sslmode") != ["verify-full"]:
        raise ValueError(f"store_url: {host!r} is another machine and needs ?sslmode=verify-full&sslrootcert=FILE")
    return ServerStore(url)


def _is_local(host: str) -> bool:
    """Whether a host is this machine: a socket's folder, or a loopback address."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

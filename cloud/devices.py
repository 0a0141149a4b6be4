"""Browsers that signed in here before: a cookie proves it for an account without saying which account that is.

It opens nothing. Whoever floods the sign-in from a hospital's address thereby shuts out no browser that it knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from cloud.private_files import write_private

_KEY_BYTES = 32
# 128 bits each: a tag that is guessed gains only a waiting time of its own.
_TAG_BYTES = 16
# The people who share one computer of a ward; the longest not seen is forgotten first.
_MOST_TAGS = 16
_TEXT_LENGTH = len(base64.urlsafe_b64encode(bytes(_TAG_BYTES)).rstrip(b"="))


class Devices:
    """Makes and reads the cookies: a random number of the browser, and a tag for each account under the key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def remember(self, cookie: str, account: str) -> str:
        """What the browser is to hold now that somebody signed in with it; `cookie` is what it held before."""
        browser, *tags = cookie.split(".")
        if len(browser) != _TEXT_LENGTH or any(len(tag) != _TEXT_LENGTH for tag in tags):
            browser, tags = _text(secrets.token_bytes(_TAG_BYTES)), []
        tag = self._tag(browser, account)
        return ".".join([browser, tag, *[one for one in tags if one != tag][: _MOST_TAGS - 1]])

    def find(self, cookie: str, account: str) -> str:
        """The browser in which this account signed in before; empty if it did not, or that cannot be seen."""
        browser, *tags = cookie.split(".")
        mine = self._tag(browser, account).encode()
        is_known = False
        for tag in tags[:_MOST_TAGS]:
            is_known |= hmac.compare_digest(mine, tag.encode(errors="replace"))
        return browser if is_known else ""

    def _tag(self, browser: str, account: str) -> str:
        said = f"{browser} {account}".encode(errors="replace")
        return _text(hmac.digest(self._key, said, hashlib.sha256)[:_TAG_BYTES])


def open_devices(state_path: Path) -> Devices:
    """With the key of this cloud, which is made when there is none."""
    path = state_path / "secrets" / "devices.key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(_KEY_BYTES))
    return Devices(bytes.fromhex(path.read_text(encoding="ascii")))


def _text(tag: bytes) -> str:
    return base64.urlsafe_b64encode(tag).rstrip(b"=").decode()

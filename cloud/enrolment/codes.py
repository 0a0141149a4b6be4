"""One-time codes: 8 characters that name it and 20 that are its secret, of which the store keeps a hash alone."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

# Crockford's 32 characters: none of them is taken for another when read aloud.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ID_CHARACTERS = 8
_SECRET_CHARACTERS = 20  # 100 bits: no use to guess, so a plain hash hides it and needs no salt
_GROUP = 4

# A person reads it off one screen and types it into a box in the same visit.
LIFETIME_US = 3600 * 1_000_000
# Typing errors; the secret is too long to be guessed anyway.
MOST_TRIES = 5


class Code(NamedTuple):
    """A code as its two parts."""

    code_id: str
    secret: str

    def __str__(self) -> str:
        text = self.code_id + self.secret
        return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def mint() -> Code:
    """A code nobody has seen."""
    return Code(_random(_ID_CHARACTERS), _random(_SECRET_CHARACTERS))


def parse(text: str) -> Code:
    """Reads a code as a person types it. Raises ValueError."""
    bare = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if len(bare) != _ID_CHARACTERS + _SECRET_CHARACTERS or set(bare) - set(_ALPHABET):
        raise ValueError(f"a code is {_ID_CHARACTERS + _SECRET_CHARACTERS} letters and digits")
    return Code(bare[:_ID_CHARACTERS], bare[_ID_CHARACTERS:])


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def is_secret(secret: str, stored: str) -> bool:
    """Whether this is the secret, in a time that tells nothing."""
    return hmac.compare_digest(digest(secret), stored)


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))

"""Passwords: what may be one (NIST SP 800-63B), and Argon2id over it, never on the event loop and never unbounded."""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import argon2
from argon2.profiles import RFC_9106_LOW_MEMORY

# SP 800-63B-4 3.1.1.2 asks for 15 where a password stands alone and 8 beside another factor; sign-in here is also
# limited by rate, and 12 is what the site's own rule asks for. Long ones must be allowed: at least 64.
LEAST_CHARACTERS = 12
MOST_CHARACTERS = 256
_LEAST_DISTINCT = 5

# Two at a time take 128 MiB and, at 50 to 100 ms each, about 20 a second: many more than people who sign in.
_AT_ONCE = 2
# Together a wait of about 2 s, which a person bears; more than that is no crowd of people.
_MOST_WAITING = 32

# What people of this trade take when they must take something; compared without case, digits and signs around it.
_WORDS = """
password passwort passw0rd adminadmin administrator letmein welcome qwerty qwertyuiop asdfghjkl zxcvbnm iloveyou
changeme changeit default secret trustno monkey dragon sunshine princess football hospital emergency ambulance
doctor nurse clinician operator dispatcher auditor vitalwire vitalsign vitalsigns mima woaini yiyuan jijiu
correcthorsebatterystaple
"""
_DENIED = frozenset(_WORDS.split())
_ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiopasdfghjklzxcvbnm")

# RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes. OWASP's least is 19 MiB and 2 passes.
_HASHER = argon2.PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)

# For a name that has no password: the same work, against a hash that no password is known for.
NOBODYS_HASH = (
    f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}${'A' * 22}${'A' * 43}"
)


class WeakPassword(ValueError):
    """Choose another; the text says why."""


class TooBusy(Exception):
    """More passwords are waiting than people sign in: refuse now, cheaply."""


class Verdict(NamedTuple):
    """Whether it was the password; `new_hash` when the stored one was made with older parameters."""

    is_right: bool
    new_hash: str = ""


def check_choice(password: str, name: str) -> None:
    """Raises WeakPassword for one that the rules refuse."""
    text = _normal(password)
    if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
        raise WeakPassword(f"a password has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters")
    folded = text.casefold()
    if len(set(folded)) < _LEAST_DISTINCT:
        raise WeakPassword("the same few characters again and again are guessed first")
    core = folded.strip("0123456789!@#$%^&*()-_=+.,?~ ")
    halves = {core, core[: len(core) // 2]} if core[: len(core) // 2] * 2 == core else {core}
    if halves & (_DENIED | {name.casefold(), ""}) or (len(name) > 3 and name.casefold() in folded):
        raise WeakPassword("that is a common password, the account's name or only digits: guessed first")
    if any(folded in row or folded in row[::-1] for row in _ROWS):
        raise WeakPassword("a row of neighbouring characters is guessed first")


def hash_password(password: str) -> str:
    """Takes some 50 ms and 64 MiB: not on the event loop."""
    return _HASHER.hash(_normal(password))


def verify(password_hash: str, password: str) -> Verdict:
    """Compares, and hashes anew what older parameters made."""
    try:
        _HASHER.verify(password_hash, _normal(password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return Verdict(False)
    return Verdict(True, hash_password(password) if _HASHER.check_needs_rehash(password_hash) else "")


class PasswordDesk:
    """Verifies at most a few at once; full policy: refuse at once."""

    def __init__(self, *, at_once: int = _AT_ONCE, most_waiting: int = _MOST_WAITING) -> None:
        self._threads = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="argon2")
        self._most = at_once + most_waiting
        self._taken = 0

    async def verify(self, password_hash: str, password: str) -> Verdict:
        """As `verify`; an empty hash takes as long and is never right. Raises TooBusy."""
        if self._taken >= self._most:
            raise TooBusy("too many people sign in at this moment")
        self._taken += 1
        try:
            asked = password_hash or NOBODYS_HASH
            verdict = await asyncio.get_running_loop().run_in_executor(self._threads, verify, asked, password)
        finally:
            self._taken -= 1
        return verdict if password_hash else Verdict(False)


def _normal(password: str) -> str:
    """One spelling for what looks the same (SP 800-63B asks for NFKC or NFC)."""
    return unicodedata.normalize("NFKC", password)

"""How often one may try to sign in: by account and by source, each failure doubling the wait, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import NamedTuple

from wire.clock import MICROSECONDS, Clock

# 200 bytes each: 20 MB at most. Filling it takes as many addresses, each of which has to wait in turn.
_MOST_ENTRIES = 50_000
_FORGET_US = 3600 * MICROSECONDS


class Rule(NamedTuple):
    """`free` failures cost nothing; each one after that doubles a wait that begins with 1 s."""

    free: int
    most_wait_s: int


# A person's typing mistakes. 300 s let a stranger try 288 times a day, which a password of 12 characters bears, and a
# clinician whom somebody else locks out waits no longer than that.
PER_ACCOUNT = Rule(free=5, most_wait_s=300)
# A hospital behind one address: a shift that begins makes more mistakes than one person.
PER_SOURCE = Rule(free=20, most_wait_s=900)


class Wait(NamedTuple):
    """Not now; `is_first` of this wait, so that it is written down once."""

    seconds: int
    is_first: bool


class _Entry:
    __slots__ = ("blocked_until_us", "failures", "is_told", "seen_us")

    def __init__(self) -> None:
        self.failures, self.seen_us, self.blocked_until_us, self.is_told = 0, 0, 0, False


class _Failures:
    """Failures by key, the longest unseen forgotten first."""

    def __init__(self, rule: Rule, most: int) -> None:
        self._rule, self._most = rule, most
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def wait(self, key: str, now_us: int) -> Wait | None:
        """How long still."""
        entry = self._entries.get(key)
        if entry is None or entry.blocked_until_us <= now_us:
            return None
        is_first, entry.is_told = not entry.is_told, True
        return Wait(-((now_us - entry.blocked_until_us) // MICROSECONDS), is_first)

    def add(self, key: str, now_us: int) -> None:
        """One more."""
        entry = self._entries.setdefault(key, _Entry())
        if now_us - entry.seen_us > _FORGET_US:
            entry.failures = 0
        entry.failures += 1
        entry.seen_us, entry.is_told = now_us, False
        over = entry.failures - self._rule.free
        if over >= 0:
            wait_s = min(self._rule.most_wait_s, 1 << min(over, 30))
            entry.blocked_until_us = now_us + wait_s * MICROSECONDS
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def forgive(self, key: str, *, everything: bool) -> None:
        """Takes one back, or all."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.failures -= 1
        if entry.failures < self._rule.free:
            entry.blocked_until_us = 0
        if everything or entry.failures <= 0:
            del self._entries[key]


class SignInLimits:
    """Counts an attempt as failed until it succeeds, so that a thousand at once are no way around."""

    def __init__(self, clock: Clock, *, most_entries: int = _MOST_ENTRIES) -> None:
        self._clock = clock
        self._accounts = _Failures(PER_ACCOUNT, most_entries)
        self._sources = _Failures(PER_SOURCE, most_entries)

    def take(self, account: str, source: str, browser: str = "") -> Wait | None:
        """Takes one attempt, or says how long to wait, which takes none.

        A `browser` in which the account signed in before has the limit of an account to itself: nobody at its address,
        and nobody who knows the name, shuts it out.
        """
        now_us, source = self._clock.monotonic_us(), network_of(source)
        if browser:
            wait = self._accounts.wait(key := _own(account, browser), now_us)
            if wait is None:
                self._accounts.add(key, now_us)
            return wait
        waits = [self._sources.wait(source, now_us), self._accounts.wait(account, now_us)]
        if longest := max((wait for wait in waits if wait), default=None):
            return longest
        self._accounts.add(account, now_us)
        self._sources.add(source, now_us)
        return None

    def give_back(self, account: str, source: str, browser: str = "", *, succeeded: bool) -> None:
        """The attempt succeeded, or was not made after all."""
        if browser:
            self._accounts.forgive(_own(account, browser), everything=succeeded)
            return
        self._accounts.forgive(account, everything=succeeded)
        self._sources.forgive(network_of(source), everything=False)


def _own(account: str, browser: str) -> str:
    return f"{browser} {account}"  # nobody else knows the browser's number, to type it as a name


def network_of(source: str) -> str:
    """An IPv6 household has 2^64 addresses: they count as one."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return source

"""Who is signed in, kept here so that an end is an end: a browser holds 256 random bits, the store only their hash."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Collection

from cloud.access_config import AccessConfig
from cloud.counters import Counters
from cloud.store import accounts
from cloud.store.accounts import Account, SignIn
from cloud.store.database import Database, StoreUnavailable
from wire.clock import MICROSECONDS, Clock

_log = logging.getLogger(__name__)

_ID_BYTES = 32
# Being used is written down no more often than this: it is a commit, and the shortest idle limit is a minute.
_TOUCH_US = 20 * MICROSECONDS
_MINUTE_US = 60 * MICROSECONDS
# An account disabled on the command line ends its open screens no later than this.
_LOOK_S = 1.0
_MOST_AT_ONCE = 500


class SignIns:
    """Begins, finds and ends sign-ins; tells open channels when theirs is over."""

    def __init__(self, database: Database, clock: Clock, counters: Counters, config: AccessConfig) -> None:
        self._database, self._clock, self._counters, self._config = database, clock, counters, config
        self._watched: dict[asyncio.Event, bytes] = {}

    async def begin(self, account: Account, source: str) -> str:
        """Signs somebody in; returns what only the browser will know. Raises StoreUnavailable."""
        token = secrets.token_urlsafe(_ID_BYTES)
        now_us = self._clock.now_us()
        await self._database.write(lambda one: accounts.begin(one, id_hash(token), account, source, now_us))
        return token

    async def find(self, token: str) -> SignIn | None:
        """Who is signed in by it, if anybody still is; counts as use. Raises StoreUnavailable."""
        now_us = self._clock.now_us()
        found = await self._standing([id_hash(token)], now_us)
        if not found:
            return None
        sign_in = found[0]
        if now_us - sign_in.seen_us >= _TOUCH_US:
            await self._database.write(lambda one: accounts.touch(one, sign_in.id_hash, now_us))
        return sign_in

    async def end(self, id_hash: bytes) -> None:
        """Signs one browser out, and its open channels at once."""
        now_us = self._clock.now_us()
        await self._database.write(lambda one: accounts.end(one, id_hash, now_us))
        await self.look()

    async def end_all(self, account: str) -> None:
        """Signs every browser of an account out, and their open channels at once."""
        now_us = self._clock.now_us()
        await self._database.write(lambda one: accounts.end_all(one, account, now_us))
        await self.look()

    async def until_ended(self, id_hash: bytes) -> None:
        """Returns once this sign-in is over, for whatever reason."""
        ended = asyncio.Event()
        self._watched[ended] = id_hash
        try:
            await ended.wait()
        finally:
            del self._watched[ended]

    async def look(self) -> None:
        """Tells those who wait in `until_ended`."""
        watched = sorted(set(self._watched.values()))
        standing: set[bytes] = set()
        for first in range(0, len(watched), _MOST_AT_ONCE):
            part = watched[first : first + _MOST_AT_ONCE]
            standing |= {each.id_hash for each in await self._standing(part, self._clock.now_us())}
        for ended, id_hash in self._watched.items():
            if id_hash in watched and id_hash not in standing:
                ended.set()

    async def run(self) -> None:
        """Looks every second, because accounts change on the command line too."""
        is_told = False
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if self._watched:
                    await self.look()
                is_told = False
            except StoreUnavailable as error:
                # A store that is away for a moment must not darken every screen.
                self._counters.add("sign_in_looks_missed")
                if not is_told:
                    _log.warning("open screens are not checked against their sign-ins: %s", error)
                is_told = True

    async def _standing(self, id_hashes: Collection[bytes], now_us: int) -> list[SignIn]:
        found = await self._database.read(lambda one: accounts.standing(one, id_hashes))
        return [sign_in for sign_in in found if self._is_in_time(sign_in, now_us)]

    def _is_in_time(self, sign_in: SignIn, now_us: int) -> bool:
        limit = self._config.limit(sign_in.role)
        is_idle = now_us - sign_in.seen_us >= limit.idle_minutes * _MINUTE_US
        return not is_idle and now_us - sign_in.began_us < limit.absolute_minutes * _MINUTE_US


def id_hash(token: str) -> bytes:
    """What the store knows of a sign-in: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()

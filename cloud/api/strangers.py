"""What nobody known asks is audited once per source and minute; the rest of it is counted, and becomes one row.

Anybody who reaches the port can ask for ever: a row for each request would fill the disk and bury what matters.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from sqlalchemy.exc import IntegrityError

from cloud.api.audit import Audit
from cloud.counters import Counters
from cloud.sign_in_limits import network_of
from cloud.store.database import StoreUnavailable
from wire.clock import MICROSECONDS, Clock

_log = logging.getLogger(__name__)

# 200 bytes each. Full-policy: what further sources ask is counted together, as of MANY.
_MOST_SOURCES = 10_000
_MINUTE_US = 60 * MICROSECONDS
_LOOK_S = 5.0
MANY = "(many)"
MORE = "ask more"


class _Key(NamedTuple):
    source: str
    result: str


class _Minute:
    __slots__ = ("began_us", "more")

    def __init__(self, began_us: int) -> None:
        self.began_us, self.more = began_us, 0


class Strangers:
    """Writes the rows; `run` those that only count."""

    def __init__(self, audit: Audit, clock: Clock, counters: Counters, *, most_sources: int = _MOST_SOURCES) -> None:
        self._audit, self._clock, self._counters, self._most_sources = audit, clock, counters, most_sources
        self._minutes: OrderedDict[_Key, _Minute] = OrderedDict()  # the oldest first

    async def write(self, action: str, about: str, source: str, result: str, *, principal: str = "") -> None:
        """The row of the first in a minute is committed when this returns. Raises StoreUnavailable."""
        key = _Key(network_of(source), result)
        if key not in self._minutes and len(self._minutes) >= self._most_sources:
            key = _Key(MANY, result)
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = _Minute(self._clock.monotonic_us())
            if key.source != MANY:
                await self._audit.write(principal, "", action, about, source, result)
                return
        minute.more += 1
        self._counters.add("strangers_counted")

    async def run(self) -> None:
        """Writes what was counted as its minutes end, until cancelled, and then what is left."""
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                await self.write_counts()
        finally:
            await self.write_counts(is_all=True)

    async def write_counts(self, *, is_all: bool = False) -> None:
        """One row for every minute that is over and had more than its first; what the store refuses waits."""
        now_us = self._clock.monotonic_us()
        over = [key for key, one in self._minutes.items() if is_all or now_us - one.began_us >= _MINUTE_US]
        for key in over:
            minute = self._minutes.pop(key)
            if not minute.more:
                continue
            try:
                await self._audit.write("", "", MORE, str(minute.more), key.source, key.result)
            except (StoreUnavailable, IntegrityError) as error:
                _log.warning("audit: what strangers asked is counted on: %s", error)
                waiting = self._minutes.setdefault(key, _Minute(now_us))
                waiting.more += minute.more
                return

"""Lets go of readings that are older than the site keeps them, each class by its own rule."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from cloud.api.audit import Audit
from cloud.counters import Counters
from cloud.retention_config import RetentionConfig
from cloud.store import retention
from cloud.store.database import Database, StoreUnavailable
from cloud.store.retention import Kept
from wire.clock import MICROSECONDS, Clock

_log = logging.getLogger(__name__)

_BETWEEN_SWEEPS_S = 3600.0
_SILENT_US = 2 * 86_400 * MICROSECONDS


class RetentionKeeper:
    """Sweeps every hour. Each removal is on the audit trail before it begins."""

    def __init__(
        self, database: Database, audit: Audit, clock: Clock, counters: Counters, config: RetentionConfig
    ) -> None:
        self._database, self._audit, self._clock = database, audit, clock
        self._counters, self._config = counters, config

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                _log.warning("retention: %s; going on later", error)
            await asyncio.sleep(_BETWEEN_SWEEPS_S)

    async def sweep(self) -> int:
        """Removes all that is too old now; how many rows. Raises StoreUnavailable.

        A store that has heard nothing for days, by a clock that may be wrong, is left as it is.
        """
        now_us, newest_us = self._clock.now_us(), await self._database.read(retention.newest_arrival_us)
        if abs(now_us - newest_us) > _SILENT_US:
            if newest_us:
                _log.warning("retention: nothing was stored for more than 2 days by this clock: nothing is removed")
            return 0
        return sum([await self._sweep(kept) for kept in self._config.classes(now_us)])

    async def _sweep(self, kept: Kept) -> int:
        removed = 0
        name = kept.origin.name.lower()
        for each in await self._database.read(lambda connection: retention.removals(connection, kept)):
            # Looked for in a read first: most sources have nothing old, and the writing thread is busy.
            while await self._database.read(partial(retention.has_old, removal=each)):
                if not removed:
                    rule = f"readings before {kept.readings_before_us}, waveforms before {kept.waveforms_before_us} us"
                    await self._audit.write("", "", "remove readings", name, "", "allowed", reason=rule)
                removed += await self._database.write(partial(retention.remove, removal=each))
        if removed:
            self._counters.add("retention_rows_removed", removed)
            _log.info("retention: %d rows of %s data removed", removed, name)
        return removed

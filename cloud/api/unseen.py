"""Open alerts that no hospital can see: routed where nobody looks, or nowhere at a site that shows nobody the unrouted.

Told to those who can mend it: the dispatcher by the API, the operator at /fleet and by a gauge at /metrics.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import NamedTuple

from cloud.api.reach import Reach
from cloud.feed import Feed
from cloud.store.database import StoreUnavailable

_log = logging.getLogger(__name__)

# As often as a box tells how it is.
_LOOK_S = 5.0


class Unseen(NamedTuple):
    """An open session with open alerts and nobody to see them; nothing of the patient."""

    session_id: str
    gateway_id: str
    label: str
    open_alerts: int
    hospitals: list[str]


class UnseenAlerts:
    """Looks now and then while `run` runs, and whenever it is asked."""

    def __init__(self, feed: Feed, reach: Reach) -> None:
        self._feed, self._reach = feed, reach
        self._told: set[str] = set()

    async def look(self) -> list[Unseen]:
        """What nobody sees now; the boxes' rows on the fleet screen follow. Raises StoreUnavailable."""
        watched = await self._reach.watched_hospitals()
        found = [
            Unseen(one.session_id, one.gateway, one.label, count, sorted(self._reach.hospitals_of(one.session_id)))
            for one, count in self._feed.open_alerts()
            if not self._reach.is_seen(one.session_id, watched)
        ]
        by_gateway: Counter[str] = Counter()
        for one in found:
            by_gateway[one.gateway_id] += one.open_alerts
        for gateway in self._feed.fleet.gateways:
            gateway.unseen(by_gateway[gateway.gateway_id])
        for one in found:
            if one.session_id not in self._told:
                _log.error("session %s of %s has open alerts and no hospital sees it", one.session_id, one.gateway_id)
        self._told = {one.session_id for one in found}
        return found

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                _log.warning("alerts that nobody sees are not looked for: %s", error)
            await asyncio.sleep(_LOOK_S)

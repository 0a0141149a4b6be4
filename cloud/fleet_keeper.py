"""Keeps what the fleet knows of the store: all of it at the start, gaps as they are committed."""

from __future__ import annotations

import asyncio
import logging

from cloud.fleet import Fleet
from cloud.store.database import StoreUnavailable
from cloud.store.fleet import FleetReader, StoredGateway
from wire.clock import MICROSECONDS, Clock
from wire.messages import DecodeError, decode_body
from wire.readings import Status

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_DAY_US = 24 * 3600 * MICROSECONDS


class FleetKeeper:
    """Owns the task beside a fleet."""

    def __init__(self, fleet: Fleet, reader: FleetReader, clock: Clock) -> None:
        self._fleet, self._reader, self._clock = fleet, reader, clock
        # Bounded by the number of boxes; full policy: a box waits once, however often it changed.
        self._changed: dict[str, None] = {}
        self._woken = asyncio.Event()

    def changed(self, gateway_id: str) -> None:
        """A box's board changed by more than a heartbeat."""
        self._changed[gateway_id] = None
        self._woken.set()

    async def fill(self) -> None:
        """Shows what is stored of every box that is configured, so that a restart does not empty the screens."""
        now_us = self._clock.now_us()
        configured = {gateway.gateway_id for gateway in self._fleet.gateways}
        for stored in await asyncio.to_thread(self._reader.gateways):
            if stored.gateway in configured:
                self._put(stored, now_us)
        for gateway_id, epoch, received_us in await asyncio.to_thread(self._reader.starts, now_us - _DAY_US):
            if gateway_id in configured:
                self._fleet.gateway(gateway_id).started(epoch, received_us)

    async def run(self) -> None:
        """Follows the boards until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._changed:
                gateway_id = next(iter(self._changed))
                del self._changed[gateway_id]
                try:
                    stored = await asyncio.to_thread(self._reader.gateway, gateway_id)
                except StoreUnavailable as error:
                    _log.warning("fleet: %s; gateway %s is looked at again", error, gateway_id)
                    self._changed[gateway_id] = None
                    await asyncio.sleep(_RETRY_S)
                    continue
                if stored is not None:
                    self._put(stored, self._clock.now_us())

    def _put(self, stored: StoredGateway, now_us: int) -> None:
        gateway = self._fleet.gateway(stored.gateway)
        gateway.lost(stored.gaps, stored.lost_records, stored.last_gap_us)
        if stored.status is None or stored.moment is None:
            return
        try:
            status = decode_body(stored.status)
        except DecodeError:
            return  # of a version this one does not know; the next heartbeat comes within seconds
        assert isinstance(status, Status)
        # The store has placed it in history; here it is the box's own word that counts, as from the bus.
        moment = stored.moment._replace(time_us=status.time_us)
        gateway.remembered(status, moment, stored.session_id, now_us)

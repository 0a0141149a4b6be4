"""One real box of a load: a spool, an outbox and an uplink, without devices in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bench._enrolled import endpoint_of, identity_of
from cloud.bus.broker_config import password_path
from cloud.config import CloudConfig
from edge.ledger import Ledger
from edge.outbox import Outbox, Source
from edge.spool import Chunk, Spool, SpoolConfig
from edge.uplink import Uplink, UplinkConfig
from wire.clock import SystemClock
from wire.readings import Origin, SessionEvent, SessionKind, SessionPhase

T = TypeVar("T")
_POLL_S = 0.05


def session_of(gateway: str) -> str:
    """The one session of a box of the load, the same in each of its lives."""
    return f"session-{gateway}"


class Box:
    """A gateway of a cloud's configuration with its state in a folder of its own."""

    def __init__(
        self,
        config: CloudConfig,
        gateway: str,
        folder: Path,
        *,
        endpoint: str = "",
        backoff_cap_s: float = UplinkConfig().backoff_cap_s,
        ledger: Ledger | None = None,
        may_backfill: Callable[[], bool] = lambda: True,
    ) -> None:
        is_enrolled = config.enrolment is not None
        uplink_config = UplinkConfig(
            endpoints=(endpoint or endpoint_of(config),),
            password_file=None if is_enrolled else str(password_path(config.state_path, gateway)),
            backoff_cap_s=backoff_cap_s,
        )
        self.clock = SystemClock()
        self.source = Source("monitor", session_of(gateway), Origin.TEST)
        self.spool = Spool(folder, SpoolConfig(reserve_mib=0))
        self.uplink = Uplink(
            gateway,
            uplink_config,
            self.spool,
            self.clock,
            version="bench",
            store_changed=lambda _store: False,
            may_backfill=may_backfill,
            identity=identity_of(config, gateway) if is_enrolled else None,
        )
        self.outbox = Outbox(self.spool, self.clock, self._committed)
        self._gateway = gateway
        self._ledger = ledger

    def _committed(self, chunk: Chunk) -> None:
        if self._ledger is not None:
            self._ledger.committed(chunk)
        self.uplink.offer(chunk)

    async def live(self, act: Callable[[], Awaitable[T]]) -> T:
        """Opens the spool and keeps outbox and uplink alive while `act` runs."""
        await self.spool.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self.outbox.run()), tasks.create_task(self.uplink.run())]
                result = await act()
                for task in running:
                    task.cancel()
            return result
        finally:
            await self.spool.close()

    async def open_session(self) -> None:
        """Appends the session that every reading of this box belongs to."""
        now_us = self.clock.now_us()
        opened = SessionEvent(
            self.source.session_id, SessionKind.MISSION, SessionPhase.OPENED, now_us, label=self._gateway
        )
        await self.outbox.append(self.source, [opened], transfer="session")

    async def settled(self, limit_s: float) -> None:
        """Until everything on the disk is receipted. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while any(lane.pending_records for lane in (await self.spool.holdings()).values()):
                await asyncio.sleep(_POLL_S)

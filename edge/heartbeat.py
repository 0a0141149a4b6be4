"""Tells how the box is: a Status record every few seconds, without any patient value."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.box_session import BoxSession
from edge.commands import Commands
from edge.device_session import DeviceSession
from edge.outbox import Outbox
from edge.spool import Memo, Spool
from edge.uplink import Uplink
from wire.clock import Clock
from wire.messages import Lane
from wire.readings import Status

_MIB = 1024 * 1024


class Heartbeat:
    """Collects every part's counters and gauges."""

    def __init__(
        self,
        clock: Clock,
        outbox: Outbox,
        spool: Spool,
        uplink: Uplink,
        commands: Commands,
        sessions: Sequence[DeviceSession],
        *,
        version: str,
        folder: Path,
    ) -> None:
        self._clock = clock
        self._outbox = outbox
        self._spool = spool
        self._uplink = uplink
        self._commands = commands
        self._sessions = sessions
        self._version = version
        self._folder = folder

    async def run(self, session: BoxSession, every_s: float, memos: Callable[[], list[Memo]]) -> None:
        """Appends a Status every `every_s` seconds, with what the agent wants remembered, until cancelled."""
        while True:
            await self._outbox.append(session.source, [await self.status()], memos=memos())
            await asyncio.sleep(every_s)

    async def status(self) -> Status:
        """The box as it is now."""
        pending = await self._spool.pending_records()
        clock = self._clock.state()
        stat = os.statvfs(self._folder)
        gauges = {
            "backlog_records": float(sum(pending.values())),
            "backlog_urgent": float(pending[Lane.URGENT]),
            "clock_synchronised": float(clock.synchronised),
            "clock_uncertainty_ms": clock.uncertainty_us / 1000,
            "disk_free_mib": stat.f_bavail * stat.f_frsize / _MIB,
            "disk_failing": float(self._outbox.is_disk_failing),
            "quarantined_segments": float(len(self._spool.quarantined())),
            "devices_connected": float(sum(session.is_connected for session in self._sessions)),
        }
        counters: Counter[str] = Counter({"accepted": self._outbox.accepted, "disk_errors": self._outbox.disk_errors})
        for counts in (self._outbox.counts, self._uplink.counts, self._commands.counts):
            counters.update(counts)
        for session in self._sessions:
            for counts in (session.counts, session.context.counts, session.pipeline_counts):
                counters.update({f"{session.device.id}.{name}": count for name, count in counts.items()})
        return Status(self._clock.now_us(), self._version, gauges, dict(counters))

"""Tells how the box is: a Status record every few seconds, without any patient value (docs/wire.md §3.1)."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge.box_session import BoxSession
from edge.commands import Commands
from edge.device_session import DeviceSession
from edge.outbox import Outbox
from edge.renewal import Renewal
from edge.spool import Holding, Memo, Spool
from edge.uplinks import Uplinks
from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS, Clock, ClockAnchor
from wire.messages import Lane
from wire.readings import Status

_MIB = 1024 * 1024
# A heartbeat stays within some KB, however many devices a box has; the lists end and the sums go on.
MOST_COUNTERS = 200
MOST_DEVICES = 50
OTHER_COUNTERS = "other_counters"


class Heartbeat:
    """Collects every part's counters and gauges."""

    def __init__(
        self,
        clock: Clock,
        outbox: Outbox,
        spool: Spool,
        uplink: Uplinks,
        commands: Commands,
        sessions: Sequence[DeviceSession],
        *,
        version: str,
        folder: Path,
        renewal: Renewal | None = None,
    ) -> None:
        self._clock = clock
        self._outbox = outbox
        self._spool = spool
        self._uplink = uplink
        self._commands = commands
        self._sessions = sessions
        self._version = version
        self._folder = folder
        self._renewal = renewal
        self._started_mono_us = clock.monotonic_us()

    async def run(self, session: BoxSession, every_s: float, memos: Callable[[], list[Memo]]) -> None:
        """Appends a Status every `every_s` seconds, with what the agent wants remembered, until cancelled."""
        while True:
            await self._outbox.append(session.source, [await self.status()], memos=memos())
            await asyncio.sleep(every_s)

    async def status(self) -> Status:
        """The box as it is now."""
        holdings = await self._spool.holdings()
        gauges = self._clock_gauges() | self._disk_gauges() | self._uplink_gauges() | self._backlog_gauges(holdings)
        gauges["devices"] = float(len(self._sessions))
        gauges["devices_connected"] = float(sum(session.is_connected for session in self._sessions))
        devices = tuple(session.state for session in self._sessions[:MOST_DEVICES])
        return Status(self._clock.now_us(), self._version, gauges, bounded(self._counters()), devices)

    def _clock_gauges(self) -> dict[str, float]:
        state, mono_us = self._clock.state(), self._clock.monotonic_us()
        return {
            "clock_synchronised": float(state.synchronised),
            "clock_uncertainty_ms": state.uncertainty_us / 1000,
            "uptime_s": (mono_us - self._started_mono_us) / MICROSECONDS,
            "boot_uptime_s": mono_us / MICROSECONDS,
        }

    def _disk_gauges(self) -> dict[str, float]:
        stat = os.statvfs(self._folder)
        return {
            "disk_free_mib": stat.f_bavail * stat.f_frsize / _MIB,
            "disk_total_mib": stat.f_blocks * stat.f_frsize / _MIB,
            "disk_failing": float(self._outbox.is_disk_failing),
            "quarantined_segments": float(len(self._spool.quarantined())),
        }

    def _uplink_gauges(self) -> dict[str, float]:
        gauges = {"uplink_connected": float(self._uplink.is_connected)}
        if (receipted_us := self._uplink.receipted_mono_us) is not None:
            gauges["receipt_age_s"] = (self._clock.monotonic_us() - receipted_us) / MICROSECONDS
        return gauges

    def _backlog_gauges(self, holdings: Mapping[Lane, Holding]) -> dict[str, float]:
        gauges = {
            "backlog_records": float(sum(holding.pending_records for holding in holdings.values())),
            "spool_mib": sum(holding.bytes for holding in holdings.values()) / _MIB,
        }
        for lane, holding in holdings.items():
            gauges[f"backlog_{lane.value}"] = float(holding.pending_records)
            if holding.oldest is not None and (age_s := age_of(holding.oldest, self._clock)) is not None:
                gauges[f"oldest_{lane.value}_s"] = age_s
        return gauges

    def _counters(self) -> Counter[str]:
        counters: Counter[str] = Counter({"accepted": self._outbox.accepted, "disk_errors": self._outbox.disk_errors})
        renewed = self._renewal.counts if self._renewal else {}
        for counts in (self._outbox.counts, self._uplink.counts, self._commands.counts, renewed):
            counters.update(counts)
        for session in self._sessions:
            for counts in (session.counts, session.context.counts, session.pipeline_counts):
                counters.update({f"{session.device.id}.{name}": count for name, count in counts.items()})
        return counters


def age_of(anchor: ClockAnchor, clock: Clock) -> float | None:
    """Seconds since an anchor: by the monotonic clock within a boot, else by wall clocks if both were ever set."""
    if anchor.boot_id == clock.boot_id():
        return (clock.monotonic_us() - anchor.mono_us) / MICROSECONDS
    now_us = clock.now_us()
    if min(anchor.wall_us, now_us) < EARLIEST_PLAUSIBLE_US:
        return None
    return max(0.0, (now_us - anchor.wall_us) / MICROSECONDS)


def bounded(counters: Mapping[str, int]) -> dict[str, int]:
    """The counters of the box itself, then of its devices, largest first; what no longer fits is one sum."""
    ranked = sorted(counters.items(), key=lambda item: ("." in item[0], -item[1], item[0]))
    if len(ranked) <= MOST_COUNTERS:
        return dict(ranked)
    kept = dict(ranked[: MOST_COUNTERS - 1])
    kept[OTHER_COUNTERS] = sum(count for _name, count in ranked[MOST_COUNTERS - 1 :])
    return kept

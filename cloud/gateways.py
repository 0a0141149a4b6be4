"""What is known of one box: any word of it is life, 15 s of silence is not; its newest heartbeat says how it is."""

from __future__ import annotations

from collections import deque
from typing import Any

from cloud.heartbeats import SILENCE_US, Moment, finite, follows
from wire.clock import MICROSECONDS
from wire.messages import Presence
from wire.readings import Status

__all__ = ["SILENCE_US", "GatewayState"]

# What the fleet's list shows of docs/wire.md §3.1; a box that says more is not listened to.
_SHOWN_GAUGES = frozenset(
    f"{name}_{lane}{unit}"
    for lane in ("urgent", "routine", "bulk")
    for name, unit in (("backlog", ""), ("oldest", "_s"))
) | {
    *("backlog_records", "spool_mib", "disk_free_mib", "disk_total_mib", "disk_failing", "quarantined_segments"),
    *("clock_synchronised", "clock_uncertainty_ms", "uptime_s", "boot_uptime_s"),
    *("uplink_connected", "receipt_age_s", "devices", "devices_connected"),
}
# An honest box stays within these (edge/heartbeat.py); a broken one must not fill every screen.
_MOST_COUNTERS, _MOST_DEVICES, _MOST_NAME = 250, 60, 120
# Of a device's counters these are no skipped packets: a repetition is normal, the others are counted for themselves.
_LINK_LOST, _DRIVER_FAILED, _REPEATED = "link_lost", "driver_failed", "repetition_dropped"
_RECENT_US = 10 * 60 * MICROSECONDS
_RECENT_STEP_US = 30 * MICROSECONDS
_DAY_US = 24 * 3600 * MICROSECONDS
# More starts than this in a day are one trouble: it keeps starting again.
_MOST_STARTS = 100
# Network delay makes a clock look late, never early: the largest of the last few is the nearest to the truth.
_OFFSETS, _LEAST_OFFSETS = 6, 2

Json = dict[str, Any]  # Any: JSON


class GatewayState:
    """One box. `is_changed` is set when its row on the fleet screen is another, and taken back by who told it."""

    def __init__(self, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self.label = ""
        self.is_online = False
        self.last_seen_us = 0
        self.is_changed = True
        self.session_id = ""  # that its heartbeats belong to
        self._online_since_us = 0
        self._said_goodbye = False
        self._version = ""
        self._status: Status | None = None
        self._moment: Moment | None = None
        self._offsets_us: deque[int] = deque(maxlen=_OFFSETS)
        self._skipped: deque[tuple[int, int]] = deque()  # (received_us, skipped so far), the last 10 min
        self._starts: dict[bytes, int] = {}  # epochs by when they were first seen, oldest first
        self._last_receipt_us = 0
        self._gaps = self._lost_records = self._last_gap_us = 0
        self._unseen_alerts = 0

    # What is heard.

    def seen(self, now_us: int) -> bool:
        """Notes a sign of life; whether it came back by it."""
        came_back = not self.is_online
        if came_back:
            self.is_online, self._said_goodbye, self.is_changed = True, False, True
            self._online_since_us = now_us
        self.last_seen_us = now_us
        return came_back

    def present(self, presence: Presence, now_us: int) -> None:
        """Takes in what its status topic says: itself, or the broker in its last will."""
        if presence.online:
            self.seen(now_us)
        else:
            self.is_online, self._said_goodbye = False, True
        self._version = presence.version[:_MOST_NAME] or self._version
        self.is_changed = True

    def heartbeat(self, status: Status, moment: Moment, session_id: str) -> None:
        """Takes in a heartbeat, unless a newer one is known: a backlog tells how the box was."""
        if not follows(moment, self._moment):
            return
        if self._moment is not None and moment.boot_id != self._moment.boot_id:
            self._offsets_us.clear()
        self._offsets_us.append(moment.time_us - moment.received_us)
        self._take(status, moment, session_id)

    def _take(self, status: Status, moment: Moment, session_id: str) -> None:
        self._status, self._moment, self.session_id = finite(status), moment, session_id
        self._version = status.version[:_MOST_NAME]
        skipped, now_us = self._device_counts()["skipped"], moment.received_us
        if self._skipped and skipped < self._skipped[-1][1]:
            self._skipped.clear()  # the process started again and counts from zero
            self._skipped.append((now_us, 0))
        if not self._skipped or now_us - self._skipped[-1][0] >= _RECENT_STEP_US:
            self._skipped.append((now_us, skipped))
        while now_us - self._skipped[0][0] > _RECENT_US:
            self._skipped.popleft()
        self.is_changed = True

    def started(self, epoch: bytes, now_us: int) -> None:
        """Notes the epoch of something it sent: a new one is a new start of its process."""
        if epoch in self._starts:
            return
        self._starts[epoch] = now_us
        if len(self._starts) > _MOST_STARTS:
            del self._starts[next(iter(self._starts))]
        self.is_changed = True

    def expire(self, now_us: int) -> bool:
        """Whether it has just fallen silent."""
        if not self.is_online or now_us - self.last_seen_us <= SILENCE_US:
            return False
        self.is_online, self.is_changed = False, True
        return True

    # What is committed.

    def receipted(self, now_us: int) -> None:
        """A receipt went out to it; its row follows with the next heartbeat."""
        self._last_receipt_us = max(self._last_receipt_us, now_us)

    def remembered(self, status: Status, moment: Moment, session_id: str, now_us: int) -> None:
        """Takes in its newest stored heartbeat, at the start of this process."""
        if not follows(moment, self._moment):
            return
        self._take(status, moment, session_id)
        self.receipted(moment.received_us)
        if moment.received_us > self.last_seen_us:
            self.last_seen_us = self._online_since_us = moment.received_us
            self.is_online = now_us - moment.received_us <= SILENCE_US

    def lost(self, gaps: int, records: int, last_us: int) -> None:
        """Takes in how many gaps it has named so far."""
        self._gaps, self._lost_records, self._last_gap_us = gaps, records, last_us
        self.is_changed = True

    def unseen(self, alerts: int) -> None:
        """Takes in how many open alerts of its sessions no hospital can see."""
        if alerts != self._unseen_alerts:
            self._unseen_alerts, self.is_changed = alerts, True

    # What is told.

    @property
    def state(self) -> str:
        """`never` seen, `online`, `offline` by its last will, or `silent` without one."""
        if not self.last_seen_us:
            return "never"
        if self.is_online:
            return "online"
        return "offline" if self._said_goodbye else "silent"

    def _gauge(self, name: str) -> float | None:
        return None if self._status is None else self._status.gauges.get(name)

    def as_json(self) -> Json:
        """As a patient's screen needs it (docs/live.md)."""
        synchronised = self._gauge("clock_synchronised")
        return {
            "gateway_id": self.gateway_id,
            "online": self.is_online,
            "last_seen_us": self.last_seen_us,
            "version": self._version,
            "clock_synchronised": None if synchronised is None else bool(synchronised),
            "backlog_records": int(self._gauge("backlog_records") or 0),
            "counters": self._counters(),
        }

    def row_json(self, now_us: int) -> Json:
        """Its row on the fleet screen (docs/live.md): some 800 bytes."""
        gauges = self._status.gauges if self._status is not None else {}
        counts = self._device_counts()
        has_offset = len(self._offsets_us) >= _LEAST_OFFSETS
        return {
            "gateway_id": self.gateway_id,
            "label": self.label,
            "state": self.state,
            "since_us": self._online_since_us if self.is_online else self.last_seen_us,
            "last_seen_us": self.last_seen_us,
            "version": self._version,
            "status_us": self._moment.time_us if self._moment else None,
            "status_received_us": self._moment.received_us if self._moment else None,
            "clock_offset_us": max(self._offsets_us) if has_offset else None,
            "gauges": {name: value for name, value in gauges.items() if name in _SHOWN_GAUGES},
            **counts,
            "skipped_10min": counts["skipped"] - self._skipped[0][1] if self._skipped else 0,
            "last_receipt_us": self._last_receipt_us or None,
            "gaps": self._gaps,
            "lost_records": self._lost_records,
            "last_gap_us": self._last_gap_us or None,
            "unseen_alerts": self._unseen_alerts,
            "starts_24h": sum(now_us - at_us <= _DAY_US for at_us in self._starts.values()),
        }

    def details_json(self, now_us: int) -> Json:
        """Its row, with every counter and device."""
        devices = self._status.devices[:_MOST_DEVICES] if self._status is not None else ()
        return {
            **self.row_json(now_us),
            "counters": self._counters(),
            "devices": [
                {
                    "device_id": device.device_id[:_MOST_NAME],
                    "driver": device.driver[:_MOST_NAME],
                    "connected": device.connected,
                    "silent_s": device.silent_s,
                }
                for device in devices
            ],
        }

    def _counters(self) -> dict[str, int]:
        counters = self._status.counters if self._status is not None else {}
        return {name[:_MOST_NAME]: count for name, count in list(counters.items())[:_MOST_COUNTERS]}

    def _device_counts(self) -> dict[str, int]:
        """Sums over its devices: what was skipped, links lost, drivers that failed."""
        sums = {"skipped": 0, _LINK_LOST: 0, _DRIVER_FAILED: 0}
        for name, count in self._counters().items():
            reason = name.rpartition(".")[2]
            if "." not in name or reason == _REPEATED:
                continue
            sums[reason if reason in (_LINK_LOST, _DRIVER_FAILED) else "skipped"] += count
        return sums

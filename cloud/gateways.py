"""Which boxes are there: any word of a box is life, 15 s of silence is not."""

from __future__ import annotations

from typing import Any

from wire.clock import MICROSECONDS
from wire.messages import Presence
from wire.readings import Status

# A box says at least a heartbeat every 5 s (edge/heartbeat.py); three missed ones are silence.
SILENCE_US = 15 * MICROSECONDS


class GatewayState:
    """What is known of one box."""

    def __init__(self, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self.is_online = False
        self.last_seen_us = 0
        self._version = ""
        self._clock_synchronised: bool | None = None
        self._backlog_records = 0
        self._counters: dict[str, int] = {}

    def seen(self, now_us: int) -> bool:
        """Notes a sign of life; whether it came back by it."""
        came_back, self.is_online = not self.is_online, True
        self.last_seen_us = now_us
        return came_back

    def present(self, presence: Presence, now_us: int) -> None:
        """Takes in what its status topic says: itself, or the broker in its last will."""
        self.is_online = presence.online
        self._version = presence.version or self._version
        if presence.online:
            self.last_seen_us = now_us

    def heartbeat(self, status: Status) -> None:
        """Takes in a heartbeat."""
        self._version = status.version
        self._counters = status.counters
        self._backlog_records = int(status.gauges.get("backlog_records", 0))
        if "clock_synchronised" in status.gauges:
            self._clock_synchronised = bool(status.gauges["clock_synchronised"])

    def expire(self, now_us: int) -> bool:
        """Whether it has just fallen silent."""
        if not self.is_online or now_us - self.last_seen_us <= SILENCE_US:
            return False
        self.is_online = False
        return True

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """As docs/live.md says."""
        return {
            "gateway_id": self.gateway_id,
            "online": self.is_online,
            "last_seen_us": self.last_seen_us,
            "version": self._version,
            "clock_synchronised": self._clock_synchronised,
            "backlog_records": self._backlog_records,
            "counters": self._counters,
        }

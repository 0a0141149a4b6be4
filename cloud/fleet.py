"""Every box there is, and the screens of those who run them; nothing of any patient passes here."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from cloud.counters import Counters
from cloud.gateways import GatewayState, Json
from cloud.live_screen import Frame, LiveScreen
from wire.clock import Clock

# A frame of this many rows is some 100 KB: a fleet of thousands is told in several.
_ROWS_A_FRAME = 100


class UnknownGateway(LookupError):
    """No box of this name is configured or was ever heard."""


class Fleet:
    """The boxes by id. Belongs to the event loop; never waits."""

    def __init__(self, clock: Clock, counters: Counters, configured: Iterable[str] = ()) -> None:
        self._clock, self._counters = clock, counters
        # In the order of the configuration; those never seen are there from the start.
        self._gateways = {gateway_id: GatewayState(gateway_id) for gateway_id in configured}
        self._screens: set[LiveScreen] = set()

    def gateway(self, gateway_id: str) -> GatewayState:
        """A box, made on first sight; the broker lets only configured ones speak."""
        return self._gateways.setdefault(gateway_id, GatewayState(gateway_id))

    def known(self, gateway_id: str) -> GatewayState:
        """A box that is there. Raises UnknownGateway."""
        try:
            return self._gateways[gateway_id]
        except KeyError:
            raise UnknownGateway(gateway_id) from None

    @property
    def gateways(self) -> list[GatewayState]:
        """Every box."""
        return list(self._gateways.values())

    def rows(self) -> list[Json]:
        """Every box's row on the fleet screen."""
        now_us = self._clock.now_us()
        return [gateway.row_json(now_us) for gateway in self._gateways.values()]

    def tick(self) -> list[GatewayState]:
        """Once a second: tells the time and every row that changed; returns the boxes that have just fallen silent."""
        now_us = self._clock.now_us()
        silent = [gateway for gateway in self._gateways.values() if gateway.expire(now_us)]
        changed = [gateway for gateway in self._gateways.values() if gateway.is_changed]
        for gateway in changed:
            gateway.is_changed = False
        if self._screens:
            tick = Frame("", orjson.dumps({"type": "tick", "server_us": now_us}).decode())
            for frame in [tick, *_frames([gateway.row_json(now_us) for gateway in changed])]:
                for screen in self._screens:
                    if dropped := screen.offer(frame):
                        self._counters.add("live_frames_dropped", dropped)
        return silent

    # Screens.

    def join(self, screen: LiveScreen) -> None:
        """From now on the screen is told every change, beginning with all rows."""
        self._screens.add(screen)
        for frame in _frames(self.rows()):
            screen.offer(frame)

    def leave(self, screen: LiveScreen) -> None:
        """The screen is gone."""
        self._screens.discard(screen)

    def make_good(self, session_id: str, screen: LiveScreen) -> list[Frame]:
        """What a screen needs that lost frames: all rows again."""
        return _frames(self.rows())

    @property
    def screens(self) -> int:
        """How many fleet screens are connected."""
        return len(self._screens)


def _frames(rows: list[Json]) -> list[Frame]:
    return [
        Frame("", orjson.dumps({"type": "fleet", "gateways": rows[first : first + _ROWS_A_FRAME]}).decode())
        for first in range(0, len(rows), _ROWS_A_FRAME)
    ]

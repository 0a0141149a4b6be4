from __future__ import annotations

import asyncio
from pathlib import Path

from edge.spool import Spool, SpoolConfig
from edge.uplink import Uplink, UplinkConfig
from tests.conftest import FakeClock
from wire.backoff import Backoff


class LinkLostAtTheEnd(Uplink):
    """The link is lost at the very moment the uplink is told to end; a group of tasks then tells only the loss."""

    def __init__(self, spool: Spool, clock: FakeClock) -> None:
        super().__init__("gw-1", UplinkConfig(), spool, clock, version="t", store_changed=lambda _store: False)
        self.attempts = 0
        self.under_way = asyncio.Event()

    async def _connected(self, endpoint: str, backoff: Backoff) -> None:
        self.attempts += 1
        self.under_way.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.attempts > 1:
                raise  # an uplink that went on can still be ended by the test's own end
            raise ExceptionGroup("lost", [OSError("link lost")]) from None


async def test_uplink_ends_when_told_although_its_link_is_lost_meanwhile(tmp_path: Path, clock: FakeClock) -> None:
    uplink = LinkLostAtTheEnd(Spool(tmp_path, SpoolConfig()), clock)
    running = asyncio.ensure_future(uplink.run())
    await uplink.under_way.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    assert uplink.attempts == 1

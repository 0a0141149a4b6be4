from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from edge.spool import Chunk, Facts, Spool, SpoolConfig
from edge.uplink import Uplink, UplinkConfig
from tests.conftest import FakeClock
from wire.backoff import Backoff
from wire.clock import anchor
from wire.messages import Lane


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


class SlowClient(aiomqtt.Client):
    """A broker whose PUBACK does not come until it is told to send one."""

    def __init__(self) -> None:
        self.published = 0
        self.acknowledge = asyncio.Event()

    async def publish(self, *_args: object, **_kwargs: object) -> None:
        self.published += 1
        await self.acknowledge.wait()


@asynccontextmanager
async def a_batch_under_way(folder: Path, clock: FakeClock, size: int) -> AsyncIterator[tuple[Uplink, SlowClient]]:
    """One batch of this size on a link that has said nothing since."""
    spool, client = Spool(folder, SpoolConfig(reserve_mib=0)), SlowClient()
    await spool.open()
    uplink = Uplink("gw-1", UplinkConfig(), spool, clock, version="t", store_changed=lambda _store: False)
    record = b"\xc6" + size.to_bytes(4, "big") + os.urandom(size)
    await spool.commit([Chunk(b"e" * 16, Lane.BULK, 0, (record,), anchor(clock))], Facts())
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(uplink._send(client, tasks, Lane.BULK))
        while not client.published:
            await asyncio.sleep(0)
        yield uplink, client
        client.acknowledge.set()
        sending.cancel()
    await spool.close()


async def is_given_up(uplink: Uplink) -> bool:
    """Whether the link is taken for half-open within some looks."""
    try:
        async with asyncio.timeout(0.2):
            await uplink._notice_silence()
    except TimeoutError as error:
        return "nothing came back" in str(error)
    return False


async def test_a_chunk_that_takes_a_minute_on_a_slow_link_is_let_through(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink._LOOK_S", 0.001)
    async with a_batch_under_way(tmp_path, clock, 100_000) as (uplink, client):
        clock.advance_s(55)
        assert not await is_given_up(uplink)
        clock.advance_s(6)
        assert await is_given_up(uplink)
        client.acknowledge.set()
        await asyncio.sleep(0.01)
        assert not await is_given_up(uplink)
        clock.advance_s(10.1)
        assert await is_given_up(uplink), "its receipt does not come: nothing large is under way any more"


async def test_a_half_open_link_with_little_under_way_is_noticed_in_ten_seconds(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink._LOOK_S", 0.001)
    async with a_batch_under_way(tmp_path, clock, 1_000) as (uplink, _client):
        clock.advance_s(9.9)
        assert not await is_given_up(uplink)
        clock.advance_s(1)
        assert await is_given_up(uplink)

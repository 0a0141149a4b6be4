"""Renewal over the real broker: the certificate before works until the next one has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from edge.enrolment import renew
from edge.identity import Identity, key_pem, new_key
from edge.renewal import Renewal
from edge.spool import Spool, SpoolConfig
from edge.uplink import Uplink, UplinkConfig
from tests.cloud.conftest import free_port
from tests.cloud.enrolment_site import DAY_US, EnrolmentSite, MovableClock, enrolment_site, forged_certificate
from tests.cloud.slow_way import slow_way
from wire.clock import SystemClock


@pytest.fixture
async def site(config: CloudConfig, tmp_path: Path) -> AsyncIterator[EnrolmentSite]:
    async with enrolment_site(config, tmp_path, MovableClock()) as running:
        yield running


@asynccontextmanager
async def uplink_of(site: EnrolmentSite, box: Identity, folder: Path, *ports: int) -> AsyncIterator[Uplink]:
    """Connected, as the agent's; straight to the broker, or by way of these ports in turn."""
    spool = Spool(folder / "spool", SpoolConfig(reserve_mib=0))
    await spool.open()
    endpoints = tuple(f"mqtts://localhost:{port}" for port in ports or (site.port,))
    config = UplinkConfig(endpoints=endpoints, backoff_first_s=0.05, backoff_cap_s=0.1)
    uplink = Uplink("gw-1", config, spool, SystemClock(), version="1", store_changed=lambda _: False, identity=box)
    running = asyncio.create_task(uplink.run())
    await connected(uplink, 1)
    yield uplink
    running.cancel()
    await asyncio.wait([running])
    await spool.close()


async def connected(uplink: Uplink, times: int) -> None:
    async with asyncio.timeout(10):
        while uplink.counts["uplink_connected"] < times or not uplink.is_connected:
            await asyncio.sleep(0.01)


async def test_a_next_certificate_replaces_the_one_before_once_it_has_worked(
    site: EnrolmentSite, tmp_path: Path
) -> None:
    box = await site.enrol("gw-1")
    before = site.folder / "before.pem"
    before.write_bytes(box.current.read_bytes())
    async with uplink_of(site, box, tmp_path) as uplink:
        await asyncio.to_thread(renew, box, SystemClock())
        given = box.next.read_bytes()
        assert await site.is_let_in(before)
        await connected(uplink, 2)
        assert (box.current.read_bytes(), box.is_next_waiting) == (given, False)
        # An answer may have been lost, or the disk: until the next renewal the cloud takes either.
        assert await site.is_let_in(before)


async def test_a_next_certificate_that_does_not_get_in_leaves_the_one_before(
    site: EnrolmentSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink._CONNECT_S", 1.0)  # the client library does not see that TLS was refused
    box = await site.enrol("gw-1")
    before, key = box.current.read_bytes(), new_key()
    async with uplink_of(site, box, tmp_path) as uplink:
        box.next.write_text(forged_certificate(key, "gw-1", 1) + key_pem(key))
        await connected(uplink, 2)
        assert uplink.counts["uplink_lost"] == 2  # to try the next, and when that was refused
        assert (box.current.read_bytes(), box.is_next_waiting) == (before, True)


async def test_a_spoilt_next_certificate_does_not_end_the_agent(site: EnrolmentSite, tmp_path: Path) -> None:
    box = await site.enrol("gw-1")
    async with uplink_of(site, box, tmp_path) as uplink:
        box.next.write_text("spoilt by the disk")
        await connected(uplink, 2)


@pytest.mark.timeout(20)
async def test_a_box_behind_a_slow_link_comes_in_at_its_first_try(site: EnrolmentSite, tmp_path: Path) -> None:
    box = await site.enrol("gw-1")
    async with slow_way(site.port) as way:
        way.first_held_s = 3.0  # longer than the 2 s a broker has for the handshake unless it is told
        async with uplink_of(site, box, tmp_path, way.port) as uplink:
            assert uplink.counts["uplink_lost"] == 0


async def test_a_box_whose_certificate_has_expired_renews_and_comes_in(
    config: CloudConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink._CONNECT_S", 1.0)  # the client library does not see that TLS was refused
    moved = MovableClock()
    moved.shift_us = -40 * DAY_US
    async with enrolment_site(config, tmp_path, moved) as site:
        box = await site.enrol("gw-1", is_good=False)
        moved.shift_us = 0
        assert not await site.is_let_in(box.current)
        renewing = asyncio.create_task(Renewal(box, SystemClock()).run())
        async with uplink_of(site, box, tmp_path):
            assert (box.validity().until_us > SystemClock().now_us(), box.is_next_waiting) == (True, False)
        renewing.cancel()
        await asyncio.wait([renewing])


async def test_a_next_certificate_is_tried_at_the_second_endpoint_when_the_first_is_down(
    site: EnrolmentSite, tmp_path: Path
) -> None:
    box = await site.enrol("gw-1")
    async with uplink_of(site, box, tmp_path, free_port(), site.port) as uplink:
        await asyncio.to_thread(renew, box, SystemClock())
        await connected(uplink, 2)
        assert not box.is_next_waiting

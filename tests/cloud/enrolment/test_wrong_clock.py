"""A box whose clock is wrong, and a real cloud under TLS whose certificate is not good yet by the machine's time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from edge.box_clock import BoxClock
from edge.enrolment import EnrolmentFailed, renew
from edge.identity import Identity
from edge.spool import Spool, SpoolConfig
from edge.uplink import Uplink, UplinkConfig
from tests.cloud.enrolment.test_renewal import connected
from tests.cloud.enrolment_site import DAY_US, EnrolmentSite, MovableClock, enrolment_site
from tests.cloud.slow_way import slow_way
from tests.conftest import FakeClock
from wire.clock import Clock, SystemClock

HOUR_US = 3600 * 1_000_000

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
async def site(config: CloudConfig, tmp_path: Path) -> AsyncIterator[EnrolmentSite]:
    """A cloud an hour ahead of the machine's clock, which is what OpenSSL goes by; its box enrolled before that."""
    moved = MovableClock()
    async with enrolment_site(config, tmp_path, moved) as running:
        await running.enrol("gw-1")
        moved.shift_us = HOUR_US
        running.authority.server_file.unlink()
        context = ssl.create_default_context(cafile=running.ca_file)
        async with asyncio.timeout(10):
            while "not yet valid" not in await handshake(running.port, context):
                await asyncio.sleep(0.05)
            while "not yet valid" not in await handshake(int(running.url.rpartition(":")[2]), context):
                await asyncio.sleep(0.05)
        yield running


async def handshake(port: int, context: ssl.SSLContext) -> str:
    try:
        _reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    except (OSError, ssl.SSLError) as error:
        return str(error)
    writer.close()
    return ""


def box_of(site: EnrolmentSite) -> Identity:
    (folder,) = site.folder.iterdir()
    return Identity(folder, "gw-1")


def unset(now_us: int) -> FakeClock:
    machine = FakeClock(now_us)
    machine.synchronised = False
    return machine


@pytest.mark.parametrize("now_us", [30_000_000, SystemClock().now_us()], ids=["in 1970", "an hour behind"])
async def test_a_box_whose_clock_is_wrong_comes_back_after_a_cut_and_renews(
    site: EnrolmentSite, tmp_path: Path, now_us: int
) -> None:
    box, clock = box_of(site), BoxClock(unset(now_us))
    spool = Spool(tmp_path / "spool", SpoolConfig(reserve_mib=0))
    await spool.open()
    async with slow_way(site.port) as way:
        config = UplinkConfig(endpoints=(f"mqtts://localhost:{way.port}",), backoff_first_s=0.05, backoff_cap_s=0.1)
        uplink = Uplink("gw-1", config, spool, clock, version="1", store_changed=lambda _: False, identity=box)
        running = asyncio.create_task(uplink.run())
        await connected(uplink, 1)
        clock.cloud_said(SystemClock().now_us() + HOUR_US, 990_000, 1_000_000)  # from here on it follows the cloud
        assert clock.state().synchronised
        way.cut()
        await connected(uplink, 2)
        await asyncio.to_thread(renew, box, clock)
        running.cancel()
        await asyncio.wait([running])
    assert box.is_next_waiting or uplink.counts["uplink_connected"] > 2
    await spool.close()


async def test_a_clouds_certificate_that_is_over_is_refused_by_a_trusted_clock_alone(site: EnrolmentSite) -> None:
    box, late_us = box_of(site), SystemClock().now_us() + 91 * DAY_US

    def words(clock: Clock) -> str:
        try:
            renew(box, clock)
        except EnrolmentFailed as error:
            return str(error)
        return ""

    assert "certificate has expired" in await asyncio.to_thread(words, FakeClock(late_us))
    # By a clock that nobody vouches for the cloud is heard, and it says no to a request of another time.
    assert "says no (403)" in await asyncio.to_thread(words, unset(late_us))

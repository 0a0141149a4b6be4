from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.commands import Commands
from edge.configuration import ConfigurationFile
from edge.heartbeat import MOST_COUNTERS, MOST_DEVICES, OTHER_COUNTERS, Heartbeat, age_of, bounded
from edge.outbox import Outbox, Source
from edge.spool import Spool, SpoolConfig
from edge.uplink import UplinkConfig
from edge.uplinks import Uplinks
from tests.conftest import START_US, FakeClock
from wire.clock import anchor
from wire.messages import MAX_FRAME_BYTES, Lane, encode_record
from wire.readings import DeviceState, Numeric, Origin, Status
from wire.vocabulary import Metric

SOURCE = Source("monitor", "s1", Origin.TEST)


class Box:
    """A box without devices: real spool, real outbox, an uplink that is not connected."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.spool = Spool(folder / "spool", SpoolConfig(reserve_mib=0))
        self.outbox = Outbox(self.spool, clock, lambda chunk: self.uplink.offer(chunk))
        self.uplink = Uplinks("gw-1", [UplinkConfig()], self.spool, clock, version="1", store_changed=lambda _: False)
        commands = Commands(self.spool, self.outbox, clock, ConfigurationFile(folder / "edge.toml", clock))
        self.heartbeat = Heartbeat(
            clock, self.outbox, self.spool, self.uplink, commands, [], version="1.2", folder=folder
        )

    async def append(self, value: float) -> None:
        await self.outbox.append(SOURCE, [Numeric(Metric.HEART_RATE, value, START_US)])


@pytest.fixture
async def box(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Box]:
    made = Box(tmp_path, clock)
    await made.spool.open()
    running = asyncio.create_task(made.outbox.run())
    yield made
    running.cancel()
    await asyncio.wait([running])
    await made.spool.close()


async def test_the_oldest_waiting_record_is_told_by_lane_until_its_receipt(box: Box, clock: FakeClock) -> None:
    assert not [name for name in (await box.heartbeat.status()).gauges if name.startswith("oldest")]
    await box.append(80)
    clock.advance_s(90)
    await box.append(81)
    clock.advance_s(10)
    gauges = (await box.heartbeat.status()).gauges
    assert (gauges["backlog_records"], gauges["backlog_routine"], gauges["backlog_urgent"]) == (2, 2, 0)
    assert gauges["oldest_routine_s"] == 100
    assert "oldest_urgent_s" not in gauges
    assert gauges["spool_mib"] > 0
    await box.spool.receipted(Lane.ROUTINE, box.outbox.epoch, 0, 0)
    assert (await box.heartbeat.status()).gauges["oldest_routine_s"] == 10
    await box.spool.receipted(Lane.ROUTINE, box.outbox.epoch, 1, 1)
    gauges = (await box.heartbeat.status()).gauges
    assert gauges["backlog_records"] == 0
    assert "oldest_routine_s" not in gauges


async def test_the_age_of_the_last_receipt_is_unknown_until_there_was_one(box: Box, clock: FakeClock) -> None:
    assert "receipt_age_s" not in (await box.heartbeat.status()).gauges
    box.uplink.links[0].receipted_mono_us = clock.monotonic_us()
    clock.advance_s(30)
    gauges = (await box.heartbeat.status()).gauges
    assert (gauges["receipt_age_s"], gauges["uplink_connected"], gauges["uptime_s"]) == (30, 0, 30)


def test_a_clock_that_is_set_does_not_change_an_age_within_a_boot(clock: FakeClock) -> None:
    clock.wall_us = 60_000_000
    committed = anchor(clock)
    clock.advance_s(20)
    clock.wall_us = START_US
    assert age_of(committed, clock) == 20


def test_across_boots_an_age_needs_two_clocks_that_were_set(clock: FakeClock) -> None:
    committed = anchor(clock)
    clock.boot, clock.mono_us = b"next" * 4, 0
    clock.wall_us += 5_000_000
    assert age_of(committed, clock) == 5
    clock.wall_us = 60_000_000
    assert age_of(committed, clock) is None


def test_counters_are_bounded_and_what_is_left_out_is_summed() -> None:
    counters = {f"device.reason {n:04d}": n for n in range(1000)} | {"accepted": 1}
    kept = bounded(counters)
    assert len(kept) == MOST_COUNTERS
    assert kept["accepted"] == 1
    assert kept["device.reason 0999"] == 999
    assert sum(kept.values()) == sum(counters.values())
    assert kept[OTHER_COUNTERS] == sum(range(1000 - (MOST_COUNTERS - 2)))
    assert bounded({"accepted": 3}) == {"accepted": 3}


def test_the_largest_status_is_far_from_filling_a_frame() -> None:
    counters = bounded({f"{'d' * 60}.{'reason' * 10} {n}": 2**40 for n in range(5000)})
    devices = tuple(DeviceState("d" * 60, "network.hl7_monitor", True, 1.0) for _ in range(MOST_DEVICES))
    status = Status(START_US, "1.2.3", {f"gauge {n}": 0.1 for n in range(40)}, counters, devices)
    record = encode_record(status, device_id="", session_id="s", origin=Origin.REAL, boot_id=b"b" * 16, mono_us=1)
    assert len(record) < MAX_FRAME_BYTES / 4

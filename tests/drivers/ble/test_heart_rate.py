"""The heart rate driver: golden vectors, garbage, contact, zero frames, and where the beats are placed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.ble.heart_rate import DRIVER, HEART_RATE_MEASUREMENT, parse, place_beats
from drivers.driver import DriverContext, LinkLost
from drivers.links.gatt import Notification
from tests.drivers.ble.fake_gatt import FakeGattLink
from wire.clock import SystemClock
from wire.messages import DecodeError
from wire.readings import DeviceEvent, EventKind, Numeric, Quality, Reading
from wire.vocabulary import Metric

ROOT = Path(__file__).parents[3]
OWN: list[dict[str, Any]] = json.loads((ROOT / "tests/vectors/ble_heart_rate.json").read_text())
SHARED = Path(os.environ.get("VITALWIRE_VECTORS", ROOT / "../shared/vectors")) / "device_vectors.json"

SECOND_US = 1_000_000
# The wall clock minus the monotonic clock in these tests.
WALL_US = 1_700_000_000 * SECOND_US


def arrivals(*packets: tuple[float, str]) -> list[Notification]:
    """Packets as (arrival in s, hex)."""
    return [
        Notification(
            HEART_RATE_MEASUREMENT, bytes.fromhex(value), WALL_US + round(at_s * SECOND_US), round(at_s * SECOND_US)
        )
        for at_s, value in packets
    ]


async def play(notified: Iterable[Notification], **values: bytes) -> tuple[list[Reading], DriverContext]:
    """Everything the driver yields until the link is lost."""
    context = DriverContext(SystemClock())
    readings: list[Reading] = []
    link = FakeGattLink(notified, {uuid.removeprefix("x"): value for uuid, value in values.items()})
    async with aclosing(DRIVER.stream(link, context)) as stream:  # type: ignore[type-var]
        try:
            async for reading in stream:
                readings.append(reading)
        except LinkLost:
            return readings, context
    raise AssertionError("the stream ended without LinkLost")


def numerics(readings: Iterable[Reading], metric: Metric) -> list[Numeric]:
    return [reading for reading in readings if isinstance(reading, Numeric) and reading.metric is metric]


def beat_times_s(readings: Iterable[Reading]) -> list[float]:
    return [(beat.time_us - WALL_US) / SECOND_US for beat in numerics(readings, Metric.RR_INTERVAL)]


@pytest.mark.parametrize("vector", OWN, ids=lambda vector: vector["hex"] or "empty")
def test_own_vectors_decode_as_the_specification_says(vector: dict[str, Any]) -> None:
    packet = bytes.fromhex(vector["hex"])
    if vector.get("reject"):
        with pytest.raises(DecodeError) as rejected:
            DRIVER.decode(packet)
        assert rejected.value.raw == packet
        return
    measurement = parse(packet)
    assert measurement.heart_rate_bpm == vector["heart_rate_bpm"]
    assert measurement.has_contact is vector["has_contact"]
    assert measurement.energy_kj == vector["energy_kj"]
    assert list(measurement.rr_1024) == vector["rr_1024"]


def shared_vectors() -> list[dict[str, Any]]:
    if not SHARED.exists():
        return []
    vectors: list[dict[str, Any]] = json.loads(SHARED.read_text())
    return [vector for vector in vectors if "2a37" in vector["characteristic_or_format"].lower()]


def test_shared_vectors_decode_as_captured() -> None:
    vectors = shared_vectors()
    if not vectors:
        pytest.skip(f"no shared vectors at {SHARED}: set VITALWIRE_VECTORS")
    for vector in vectors:
        packet, expected = bytes.fromhex(vector["hex"]), vector["expected"]
        if expected.get("reject"):
            with pytest.raises(DecodeError):
                parse(packet)
            continue
        measurement = parse(packet)
        assert measurement.heart_rate_bpm == expected.get("hr", measurement.heart_rate_bpm), vector["id"]
        assert measurement.has_contact is expected.get("contact", measurement.has_contact), vector["id"]
        assert measurement.energy_kj == expected.get("energy_kj", measurement.energy_kj), vector["id"]
        assert list(measurement.rr_1024) == expected.get("rr_1024", list(measurement.rr_1024)), vector["id"]


@given(st.binary(max_size=40))
def test_random_bytes_raise_only_decode_error(packet: bytes) -> None:
    try:
        readings = DRIVER.decode(packet)
    except DecodeError:
        return
    for rate in numerics(readings, Metric.HEART_RATE):
        assert 0 < rate.value <= 350


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=24), max_size=10))
async def test_garbage_never_ends_the_stream(packets: list[bytes]) -> None:
    notified = arrivals(*((float(at_s), packet.hex()) for at_s, packet in enumerate(packets)), (99.0, "0048"))
    readings, _ = await play(notified)
    assert numerics(readings, Metric.HEART_RATE)[-1].value == 72


async def test_a_rate_takes_the_time_of_its_arrival() -> None:
    readings, context = await play(arrivals((10.0, "0048"), (11.0, "0049")))
    rates = numerics(readings, Metric.HEART_RATE)
    assert [(rate.value, rate.time_us) for rate in rates] == [(72, WALL_US + 10_000_000), (73, WALL_US + 11_000_000)]
    assert not context.counts


async def test_a_rate_of_zero_is_counted_and_never_a_heart_rate() -> None:
    readings, context = await play(arrivals((1.0, "0600"), (2.0, "0000")))
    assert not numerics(readings, Metric.HEART_RATE)
    assert context.counts["heart_rate of zero"] == 2


async def test_an_impossible_rate_is_counted_and_its_intervals_kept() -> None:
    readings, context = await play(arrivals((1.0, "1180800004")))
    assert not numerics(readings, Metric.HEART_RATE)
    assert numerics(readings, Metric.RR_INTERVAL)[0].value == 1000
    assert context.counts["heart_rate implausible"] == 1


async def test_undecodable_packets_are_counted() -> None:
    _, context = await play(arrivals((1.0, "10480004cc"), (2.0, "")))
    assert context.counts["undecodable"] == 2


async def test_contact_is_told_at_its_edges_only() -> None:
    readings, _ = await play(arrivals((1, "0648"), (2, "0648"), (3, "0448"), (4, "0400"), (5, "0648")))
    events = [reading for reading in readings if isinstance(reading, DeviceEvent)]
    assert [(event.kind, event.time_us - WALL_US) for event in events] == [
        (EventKind.SENSOR_ON, 1 * SECOND_US),
        (EventKind.SENSOR_OFF, 3 * SECOND_US),
        (EventKind.SENSOR_ON, 5 * SECOND_US),
    ]


async def test_a_sensor_that_cannot_tell_contact_says_nothing_of_it() -> None:
    readings, _ = await play(arrivals((1, "0248"), (2, "0048")))
    assert not [reading for reading in readings if isinstance(reading, DeviceEvent)]


async def test_a_rate_without_contact_is_questionable() -> None:
    readings, _ = await play(arrivals((1, "14480004")))
    for reading in (*numerics(readings, Metric.HEART_RATE), *numerics(readings, Metric.RR_INTERVAL)):
        assert reading.quality is Quality.QUESTIONABLE
        assert reading.quality_reason


async def test_the_battery_is_told_once() -> None:
    readings, _ = await play(arrivals((1, "0048")), x2a19=bytes([87]))
    events = [reading for reading in readings if isinstance(reading, DeviceEvent)]
    assert [(event.kind, event.detail) for event in events] == [(EventKind.BATTERY, "87 %")]


async def test_first_intervals_lie_backwards_from_arrival() -> None:
    readings, _ = await play(arrivals((10.0, "10480004000200010004")))
    assert [beat.value for beat in numerics(readings, Metric.RR_INTERVAL)] == [1000, 500, 250, 1000]
    assert beat_times_s(readings) == [8.25, 8.75, 9.0, 10.0]


async def test_beats_follow_one_another_whatever_the_jitter() -> None:
    notified = arrivals((10.0, "10480004"), (11.3, "10480004"), (12.1, "10480004"), (13.05, "10480004"))
    readings, _ = await play(notified)
    assert beat_times_s(readings) == [10.0, 11.0, 12.0, 13.0]


async def test_a_burst_after_a_stall_keeps_the_beats_apart() -> None:
    notified = arrivals((10.0, "10480004"), (15.0, "10480004"), (15.001, "10480004"), (15.002, "10480004"))
    readings, _ = await play(notified)
    assert beat_times_s(readings) == [10.0, 11.0, 12.0, 13.0]


async def test_beats_are_not_carried_over_a_pause() -> None:
    notified = arrivals((10.0, "10480004"), (12.0, "0048"), (14.0, "0048"), (15.0, "10480004"))
    readings, _ = await play(notified)
    assert beat_times_s(readings) == [10.0, 15.0]


async def test_beats_are_not_carried_over_lost_notifications() -> None:
    first, second = arrivals((10.0, "10480004"), (13.0, "10480004"))
    readings, context = await play([first, second._replace(lost_before=2)])
    assert beat_times_s(readings) == [10.0, 13.0]
    assert context.counts["notifications lost in queue"] == 2


INTERVALS = st.lists(st.integers(100_000, 10_000_000), min_size=1, max_size=3)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 5_000_000), INTERVALS), min_size=1, max_size=6))
def test_beats_never_overlap_nor_lie_in_the_future(packets: list[tuple[int, list[int]]]) -> None:
    arrival_us, last_us, so_far = 0, None, 0
    for waited_us, intervals_us in packets:
        arrival_us += waited_us
        so_far += len(intervals_us)
        beats_us = place_beats(intervals_us, arrival_us, last_us)
        assert len(beats_us) == len(intervals_us)
        assert last_us is None or beats_us[0] > last_us
        assert all(later > earlier for earlier, later in pairwise(beats_us))
        # Packets of one instant are told apart by a microsecond a beat, and no more.
        assert beats_us[-1] <= arrival_us + so_far
        last_us = beats_us[-1]

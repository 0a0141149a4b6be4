"""The simulated strap: what it puts on the air, read by the specification and not by our driver."""

from __future__ import annotations

import pytest

from firmware_sim.ble.heart_rate import HeartRateSensor, Measurement, Notified
from tests.conftest import FakeClock


@pytest.mark.parametrize(
    ("measurement", "packet"),
    [
        (Measurement(72, True), "0648"),
        (Measurement(0, False), "0400"),
        (Measurement(300, True), "072c01"),
        (Measurement(72, True, (1024, 972)), "16480004cc03"),
        (Measurement(72, True, (768,), 1), "1e4801000003"),
        (Measurement(72, True, (), 70_000), "0e48ffff"),
    ],
)
def test_a_measurement_is_laid_out_as_the_specification_says(measurement: Measurement, packet: str) -> None:
    assert measurement.encode().hex() == packet


@pytest.mark.parametrize("rate", [30.0, 72.0, 110.0, 240.0])
def test_the_intervals_add_up_to_the_time_that_passed(clock: FakeClock, rate: float) -> None:
    strap = HeartRateSensor(clock, lambda: rate)
    packets = [strap.measure(1.0) for _ in range(60)]
    beats = [interval for packet in packets for interval in packet.rr_1024]
    assert all(packet.heart_rate_bpm == rate for packet in packets)
    assert len(beats) == pytest.approx(rate, abs=1)
    assert sum(beats) / 1024 == pytest.approx(60, abs=60 / rate + 0.2)


def test_a_change_of_rate_is_followed(clock: FakeClock) -> None:
    rate = 60.0
    strap = HeartRateSensor(clock, lambda: rate)
    strap.measure(1.0)
    rate = 120.0
    assert strap.measure(1.0).heart_rate_bpm == 120
    assert sum(len(strap.measure(1.0).rr_1024) for _ in range(10)) == pytest.approx(20, abs=1)


def test_without_contact_there_is_no_rate_and_no_beat(clock: FakeClock) -> None:
    strap = HeartRateSensor(clock, lambda: 72.0)
    strap.has_contact = False
    assert strap.measure(1.0) == Measurement(0, False)
    strap.has_contact = True
    assert strap.measure(1.0).heart_rate_bpm == 72


def test_the_truth_puts_each_beat_where_it_lay() -> None:
    said = Measurement(120, True, (512, 512))
    truth = Notified(9_000_000, said.encode(), said, since_beat_us=100_000).truth()
    assert [(one.metric, one.value, one.reported_time, one.time_us) for one in truth] == [
        ("heart_rate", 120, None, 9_000_000),
        ("rr_interval", 500, None, 8_400_000),
        ("rr_interval", 500, None, 8_900_000),
    ]


@pytest.mark.parametrize("said", [None, Measurement(0, False)], ids=["garbled", "no contact"])
def test_the_truth_says_nothing_of_what_means_nothing(said: Measurement | None) -> None:
    assert not list(Notified(9_000_000, b"", said).truth())

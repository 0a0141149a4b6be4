from hypothesis import given
from hypothesis import strategies as st

from edge.timebase import DeviceOffset, observe, stepped
from tests.conftest import START_US

SECOND_US = 1_000_000


def test_first_reading_sets_the_offset() -> None:
    assert observe(None, reported_us=100, arrival_us=5_000_100).offset_us == 5_000_000


@given(late_us=st.lists(st.integers(0, 50 * SECOND_US), min_size=1, max_size=50))
def test_late_arrivals_within_a_window_never_raise_the_offset(late_us: list[int]) -> None:
    known = observe(None, reported_us=0, arrival_us=1000)
    for late in late_us:
        arrival_us = 1000 + late
        known = observe(known, reported_us=0, arrival_us=arrival_us)
    assert known.offset_us == 1000


def test_resends_after_an_outage_keep_their_offset_and_an_earlier_arrival_corrects_it() -> None:
    known = observe(None, reported_us=0, arrival_us=10 * SECOND_US)  # the first came late
    known = observe(known, reported_us=10 * SECOND_US, arrival_us=10 * SECOND_US + 30_000)
    known = observe(known, reported_us=11 * SECOND_US, arrival_us=11 * SECOND_US + 30_000)
    assert known.offset_us == 30_000


def test_one_time_stamp_a_year_ahead_moves_nothing() -> None:
    known = observe(None, reported_us=0, arrival_us=5_000)
    known = observe(known, reported_us=365 * 86_400 * SECOND_US, arrival_us=SECOND_US)
    known = observe(known, reported_us=2 * SECOND_US, arrival_us=2 * SECOND_US + 5_000)
    assert known.offset_us == 5_000


def test_device_clock_set_back_is_followed_after_a_whole_window() -> None:
    known: DeviceOffset | None = None
    for second in range(60):
        known = observe(known, reported_us=second * SECOND_US, arrival_us=second * SECOND_US + 5000)
    for second in range(60, 240):
        known = observe(known, reported_us=(second - 30) * SECOND_US, arrival_us=second * SECOND_US + 5000)
    assert known is not None
    assert known.offset_us == 30 * SECOND_US + 5000


def test_an_offset_from_before_the_clock_was_set_is_forgotten() -> None:
    known = observe(None, reported_us=START_US, arrival_us=40_000_000)
    later = observe(known, reported_us=START_US + 1_000_000, arrival_us=START_US + 1_500_000)
    assert later.offset_us == 500_000


def test_a_step_of_the_boxs_clock_moves_the_offset_with_it() -> None:
    known = observe(None, reported_us=START_US, arrival_us=START_US + 200_000)
    after = stepped(known, 3_600_000_000)
    again = observe(after, reported_us=START_US + 1_000_000, arrival_us=START_US + 3_601_200_000)
    assert again.offset_us == 3_600_200_000

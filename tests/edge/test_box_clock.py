from hypothesis import given
from hypothesis import strategies as st

from edge.box_clock import BoxClock
from tests.conftest import START_US, FakeClock


def said(clock: BoxClock, machine: FakeClock, true_us: int, *, up_ms: int = 20, down_ms: int = 20) -> None:
    """A batch leaves, is committed at `true_us`, and its receipt comes."""
    sent_us = machine.monotonic_us() - (up_ms + down_ms) * 1000
    clock.cloud_said(true_us - down_ms * 1000, sent_us, machine.monotonic_us())


def unsynchronised(now_us: int) -> FakeClock:
    machine = FakeClock(now_us)
    machine.synchronised = False
    return machine


def test_a_box_that_booted_in_1970_learns_the_time_from_a_receipt() -> None:
    machine = unsynchronised(30_000_000)
    clock = BoxClock(machine)
    assert not clock.state().synchronised
    said(clock, machine, START_US)
    assert clock.now_us() == START_US
    assert clock.state().synchronised
    assert 20_000 <= clock.state().uncertainty_us < 20_010
    machine.advance_s(100)
    assert clock.now_us() == START_US + 100_000_000
    assert 40_000 <= clock.state().uncertainty_us < 40_010  # 200 ppm of 100 s more


def test_a_clock_never_set_waits_for_a_quick_receipt() -> None:
    machine = unsynchronised(30_000_000)
    clock = BoxClock(machine)
    said(clock, machine, START_US - 200_000, up_ms=50, down_ms=450)
    assert (clock.now_us(), clock.state().synchronised) == (30_000_000, False)
    machine.advance_s(1)
    said(clock, machine, START_US + 1_000_000, up_ms=25, down_ms=25)
    assert (clock.now_us(), clock.state().synchronised) == (START_US + 1_000_000, True)


def test_on_a_slow_link_it_takes_the_best_of_ten_seconds() -> None:
    machine = unsynchronised(30_000_000)
    clock = BoxClock(machine)
    for error_ms in (200, 60, 100):
        said(clock, machine, START_US + error_ms * 1000, up_ms=error_ms, down_ms=error_ms)
    machine.advance_s(9.9)
    assert clock.now_us() == 39_900_000
    machine.advance_s(0.1)
    assert clock.now_us() == START_US + 10_060_000
    assert 60_000 <= clock.state().uncertainty_us < 62_100  # and 200 ppm of what passed since


def test_a_clock_that_is_right_is_left_alone() -> None:
    machine = unsynchronised(START_US + 300_000)
    clock = BoxClock(machine)
    said(clock, machine, START_US)
    assert clock.now_us() == START_US + 300_000
    assert clock.state().synchronised
    assert 320_000 <= clock.state().uncertainty_us < 320_010


def test_the_kernels_word_comes_first() -> None:
    machine = FakeClock(START_US)
    clock = BoxClock(machine)
    said(clock, machine, START_US + 3_600_000_000)
    assert clock.now_us() == START_US
    assert clock.state().uncertainty_us == 1000


def test_a_clock_set_later_by_hand_is_the_machines_again() -> None:
    machine = unsynchronised(30_000_000)
    clock = BoxClock(machine)
    said(clock, machine, START_US)
    machine.wall_us = START_US + 1000
    said(clock, machine, START_US, up_ms=5, down_ms=5)
    assert clock.now_us() == START_US + 1000


def test_a_worse_sample_changes_nothing_and_a_better_one_only_what_it_proves_wrong() -> None:
    machine = unsynchronised(30_000_000)
    clock = BoxClock(machine)
    said(clock, machine, START_US, up_ms=24, down_ms=24)
    said(clock, machine, START_US + 70_000, up_ms=200, down_ms=200)
    assert clock.now_us() == START_US
    said(clock, machine, START_US + 3_000, up_ms=5, down_ms=5)
    assert clock.now_us() == START_US
    said(clock, machine, START_US + 20_000, up_ms=4, down_ms=4)
    assert clock.now_us() == START_US + 20_000


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(0, 60)), min_size=1, max_size=20))
def test_the_error_is_never_more_than_it_says(samples: list[tuple[int, int, int]]) -> None:
    machine = unsynchronised(30_000_000)
    clock, true_us = BoxClock(machine), START_US
    for up_ms, down_ms, pause_s in samples:
        machine.advance_s(pause_s)
        true_us += pause_s * 1_000_000
        said(clock, machine, true_us, up_ms=up_ms, down_ms=down_ms)
        if clock.state().synchronised:
            assert abs(clock.now_us() - true_us) <= clock.state().uncertainty_us + 1

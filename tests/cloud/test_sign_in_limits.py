from __future__ import annotations

import tracemalloc

from cloud.sign_in_limits import PER_ACCOUNT, PER_SOURCE, SignInLimits
from tests.cloud.cloud_frames import FakeClock

S = 1_000_000


def test_waits_of_an_account_double_up_to_their_most_whatever_the_source() -> None:
    clock = FakeClock()
    limits, waits = SignInLimits(clock), []
    for attempt in range(20):
        while wait := limits.take("wang", f"10.0.0.{attempt}"):
            waits.append(wait.seconds)
            clock.us += wait.seconds * S
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, *[PER_ACCOUNT.most_wait_s] * 6]


def test_a_source_waits_whatever_account_it_tries() -> None:
    limits = SignInLimits(FakeClock())
    assert [limits.take(f"name-{n}", "2001:db8::1") for n in range(PER_SOURCE.free)] == [None] * PER_SOURCE.free
    waits = [limits.take("another", f"2001:db8::{n:x}") for n in range(2, 5)]
    assert [(wait.seconds, wait.is_first) for wait in waits if wait] == [(1, True), (1, False), (1, False)]
    assert limits.take("another", "2001:db8:0:1::1") is None


def test_success_forgets_the_account_and_an_attempt_not_made_costs_nothing() -> None:
    limits = SignInLimits(FakeClock())
    for _ in range(100):
        assert limits.take("wang", "10.0.0.1") is None
        limits.give_back("wang", "10.0.0.1", succeeded=False)
    for _ in range(PER_ACCOUNT.free - 1):
        assert limits.take("wang", "10.0.0.1") is None
    assert limits.take("wang", "10.0.0.1") is None
    limits.give_back("wang", "10.0.0.1", succeeded=True)
    assert limits.take("wang", "10.0.0.1") is None


def test_an_hour_without_a_failure_is_forgotten() -> None:
    clock = FakeClock()
    limits = SignInLimits(clock)
    for _ in range(PER_ACCOUNT.free):
        limits.take("wang", "10.0.0.1")
    assert limits.take("wang", "10.0.0.1") is not None
    clock.us += 3601 * S
    assert limits.take("wang", "10.0.0.1") is None
    assert limits.take("wang", "10.0.0.1") is None


def test_a_flood_of_names_and_addresses_takes_bounded_memory() -> None:
    limits = SignInLimits(FakeClock(), most_entries=1000)
    tracemalloc.start()
    for n in range(20_000):
        limits.take(f"name-{n}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 2_000_000


def test_a_known_browser_has_a_limit_of_its_own() -> None:
    limits = SignInLimits(FakeClock())
    for number in range(100):
        limits.take(f"name-{number % 10}", "10.0.0.1")
        limits.take("wang", f"10.0.1.{number}")
    assert limits.take("wang", "10.0.0.2") is not None
    assert [limits.take("wang", "10.0.0.1", "b1") for _ in range(PER_ACCOUNT.free)] == [None] * PER_ACCOUNT.free
    wait = limits.take("wang", "10.0.0.1", "b1")
    assert wait is not None
    assert wait.seconds == 1
    assert limits.take("wang", "10.0.0.1", "b2") is None
    limits.give_back("wang", "10.0.0.1", "b1", succeeded=True)
    assert limits.take("wang", "10.0.0.1", "b1") is None

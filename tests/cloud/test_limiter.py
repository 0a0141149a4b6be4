"""Refusals by address: ten a minute, told once, in bounded memory."""

from __future__ import annotations

from cloud.limiter import Limiter, Turn
from tests.conftest import FakeClock


def turns(limiter: Limiter, source: str, times: int) -> list[Turn]:
    return [limiter.take(source) for _ in range(times)]


def test_ten_turns_a_minute_then_told_once(clock: FakeClock) -> None:
    limiter = Limiter(clock)
    assert turns(limiter, "a", 12) == [Turn.GIVEN] * 10 + [Turn.DENIED_FROM_NOW, Turn.DENIED]
    assert limiter.take("b") is Turn.GIVEN
    clock.advance_s(60)
    assert turns(limiter, "a", 11) == [Turn.GIVEN] * 10 + [Turn.DENIED_FROM_NOW]


def test_a_turn_given_back_was_no_refusal(clock: FakeClock) -> None:
    limiter = Limiter(clock)
    for _ in range(30):
        assert limiter.take("a") is Turn.GIVEN
        limiter.give_back("a")
    limiter.give_back("nobody")


def test_an_ipv6_network_is_one_address(clock: FakeClock) -> None:
    limiter = Limiter(clock)
    assert [limiter.take(f"2001:db8::{number:x}") for number in range(10)] == [Turn.GIVEN] * 10
    assert limiter.take("2001:db8::ffff") is Turn.DENIED_FROM_NOW
    assert limiter.take("2001:db8:0:1::1") is Turn.GIVEN


def test_who_was_not_refused_for_longest_is_forgotten(clock: FakeClock) -> None:
    limiter = Limiter(clock)
    turns(limiter, "first", 10)
    for number in range(4096):
        limiter.take(f"source {number}")
    assert limiter.take("first") is Turn.GIVEN
    assert limiter.take("source 4095") is Turn.GIVEN
    assert len(limiter._entries) == 4096

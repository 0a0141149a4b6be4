"""A cloud that becomes slow is not made slower by boxes that send everything again."""

from __future__ import annotations

import heapq

import pytest

from edge.window import RoundTrip, Sent, Window

_FOR_US = 60_000_000
_EVERY_US = 250_000
_SLOW_FROM_US = 10_000_000


def amplification(slow_us: int) -> float:
    """Batches sent per batch needed, while answers take 20 ms and then `slow_us`."""
    window = Window(1 << 20)
    answers: list[tuple[int, int]] = []
    sent = 0

    def leave(batch: Sent, now_us: int) -> None:
        nonlocal sent
        sent += 1
        window.carried(batch)  # the broker is as fast as ever
        heapq.heappush(answers, (now_us + (slow_us if now_us >= _SLOW_FROM_US else 20_000), batch.first_seq))

    for now_us in range(0, _FOR_US, 10_000):
        while answers and answers[0][0] <= now_us:
            _at_us, seq = heapq.heappop(answers)
            window.receipted(b"e", seq, seq, now_us)
        while late := window.overdue(now_us):
            leave(late, now_us)
        if now_us % _EVERY_US == 0:
            seq = now_us // _EVERY_US
            window.opened(batch := Sent(b"e", seq, seq, bytes(2000), now_us))
            leave(batch, now_us)
    return sent / (_FOR_US // _EVERY_US)


@pytest.mark.parametrize("slow_us", [200_000, 900_000, 1_500_000, 3_000_000])
def test_a_slow_cloud_is_sent_hardly_more_than_a_fast_one(slow_us: int) -> None:
    assert 1 <= amplification(slow_us) <= 1.2


def test_a_timeout_that_learns_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = {"timeout_us": 1_000_000, "estimate_us": 1_000_000}
    monkeypatch.setattr(RoundTrip, "expired", lambda self, _now_us: None)
    monkeypatch.setattr(RoundTrip, "measured", lambda self, _round_trip_us: self.__dict__.update(stuck))
    assert amplification(3_000_000) > 1.2

"""A link simulated in time: a queue with a rate and a way of fixed length, live blocks beside a backlog."""

from __future__ import annotations

from collections import deque

import pytest

from edge.backfill import Backfill

LIVE_BYTES = 2_000
TICK_US = 1_000


class Link:
    """Carries what is put on it in order; answers come one way length later."""

    def __init__(self, bytes_per_s: int, round_trip_us: int) -> None:
        self._bytes_per_s, self._round_trip_us = bytes_per_s, round_trip_us
        self._free_us = 0
        self._on_the_way: deque[tuple[int, int, int, bool]] = deque()

    def put(self, size: int, now_us: int, *, is_live: bool) -> None:
        self._free_us = max(now_us, self._free_us) + size * 1_000_000 // self._bytes_per_s
        self._on_the_way.append((self._free_us + self._round_trip_us, size, now_us, is_live))

    def answers(self, now_us: int) -> list[tuple[int, int, bool]]:
        """(size, sent at, whether live) of what is answered by now."""
        answered = []
        while self._on_the_way and self._on_the_way[0][0] <= now_us:
            _at, *rest = self._on_the_way.popleft()
            answered.append(tuple(rest))
        return answered  # type: ignore[return-value]


def drained(link: Link, backfill: Backfill, *, for_s: int) -> tuple[list[int], int]:
    """Round trips of the live blocks of the second half, and how many bytes of backlog came through in all."""
    live_us, backlog_bytes = [], 0
    for now_us in range(0, for_s * 1_000_000, TICK_US):
        for size, sent_us, is_live in link.answers(now_us):
            backfill.measured(now_us - sent_us, now_us)
            if is_live:
                live_us.append(now_us - sent_us)
            else:
                backlog_bytes += size
                backfill.answered(size, now_us - sent_us, now_us)
        if now_us % 500_000 == 0:
            link.put(LIVE_BYTES, now_us, is_live=True)
        while backfill.is_open:
            size = backfill.batch_bytes
            backfill.left(size, 0, 0)
            link.put(size, now_us, is_live=False)
    return live_us[len(live_us) // 2 :], backlog_bytes


@pytest.mark.parametrize(("bytes_per_s", "round_trip_us"), [(20_000, 200_000), (250_000, 60_000), (5_000_000, 20_000)])
def test_live_data_waits_little_and_the_backlog_flows(bytes_per_s: int, round_trip_us: int) -> None:
    live_us, backlog_bytes = drained(Link(bytes_per_s, round_trip_us), Backfill(1 << 20), for_s=40)
    alone_us = round_trip_us + LIVE_BYTES * 1_000_000 // bytes_per_s
    # The target of 100 ms, and a batch of the least size on the thinnest link.
    assert max(live_us) - alone_us < 200_000 + 4_096 * 1_000_000 // bytes_per_s
    # The thinnest link carries one batch at a time and rests while its answer comes.
    assert backlog_bytes > 0.5 * (bytes_per_s - 2 * LIVE_BYTES) * 40


def test_a_late_answer_halves_once_a_round_trip() -> None:
    backfill = Backfill(1 << 20)
    backfill.measured(10_000, 0)
    for _ in range(8):
        backfill.left(16_384, 0, 0)
        backfill.answered(16_384, 10_000, 20_000)
    before = backfill.allowance_bytes
    assert before > 100_000
    backfill.late(1_000_000, 300_000)
    backfill.late(1_100_000, 300_000)
    assert backfill.allowance_bytes == before // 2
    for at_us in range(2_000_000, 12_000_000, 500_000):
        backfill.late(at_us, 300_000)
    assert backfill.allowance_bytes == backfill.batch_bytes == 4096


def test_what_was_sent_twice_measures_nothing() -> None:
    backfill = Backfill(1 << 20)
    backfill.left(4096, 0, 0)
    before = backfill.allowance_bytes
    backfill.answered(4096, None, 10)
    assert backfill.allowance_bytes == before
    assert backfill.is_open


def test_a_new_link_starts_small_again() -> None:
    backfill = Backfill(1 << 20)
    backfill.measured(10_000, 0)
    backfill.left(60_000, 0, 0)
    assert not backfill.is_open
    backfill.forget()
    assert backfill.is_open
    assert backfill.allowance_bytes == 16 * 1024

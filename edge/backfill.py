"""How much backlog may be on its way at once, so that live data never waits long behind it.

Delay-based, after LEDBAT (RFC 6817): what a round trip takes longer than the shortest one seen lately is time spent in
queues, on the link or before the store. Below the target more may leave, above it less. Pure, moved by the caller's
clock.
"""

from __future__ import annotations

from collections import deque

# RFC 6817 §2.5 allows 100 ms at most. Half of the shortest way is what live data may take longer than it does alone
# (bench drain); below the least one the cloud's own group commits would count as a queue.
_MOST_TARGET_US = 100_000
_LEAST_TARGET_US = 20_000
# Of so many round trips the shortest counts (RFC 6817 §2.4.2, CURRENT_FILTER): one slow answer is no queue.
_LATEST = 4
# A whole batch of this size on a link of 10 KB/s holds live data back by less than half a second.
_LEAST_BYTES = 4 * 1024
_FIRST_BYTES = 16 * 1024
_MOST_BATCH_BYTES = 16 * 1024
# Reading and packing a batch takes the box's disk and processor from what is live: it rests so much longer after it.
_REST_SHARE = 3
# What a round trip's worth of bytes adds at most, once the first queue was seen.
_STEP_BYTES = 16 * 1024
# Routes change: the base is the least of the last ten minutes (RFC 6817 §2.4.2).
_BASE_SPAN_US = 60_000_000
_BASE_SPANS = 10


class Backfill:
    """The share of the backlog in one uplink."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._latest: deque[int] = deque(maxlen=_LATEST)
        self._bases: deque[tuple[int, int]] = deque(maxlen=_BASE_SPANS)  # (span, shortest round trip in it)
        self._in_flight = 0
        self._rests_until_us = 0
        self.forget()

    def forget(self) -> None:
        """A new link: nothing is on its way and nothing is known of it but the base."""
        self._in_flight = 0
        self._latest.clear()
        self._is_probing = True
        self._halved_us = 0
        self.allowance_bytes = min(_FIRST_BYTES, self._most_bytes)

    @property
    def is_open(self) -> bool:
        """Whether another batch may leave."""
        return self._in_flight < self.allowance_bytes

    @property
    def batch_bytes(self) -> int:
        """How large it may be: several fit the allowance, so that receipts keep coming."""
        return max(_LEAST_BYTES, min(_MOST_BATCH_BYTES, self.allowance_bytes // 4))

    def rest_us(self, now_us: int) -> int:
        """How long the box rests yet before it reads another batch."""
        return max(0, self._rests_until_us - now_us)

    def left(self, size: int, began_us: int, now_us: int) -> None:
        """A batch of backlog leaves, whose reading began then."""
        self._in_flight += size
        self._rests_until_us = now_us + _REST_SHARE * (now_us - began_us)

    def measured(self, round_trip_us: int, now_us: int) -> None:
        """Any batch sent once was answered: the shortest round trip is the way without queues."""
        span = now_us // _BASE_SPAN_US
        if self._bases and self._bases[-1][0] == span:
            self._bases[-1] = span, min(self._bases[-1][1], round_trip_us)
        else:
            self._bases.append((span, round_trip_us))

    def answered(self, size: int, round_trip_us: int | None, now_us: int) -> None:
        """A batch of backlog was receipted; its round trip is None when it was sent more than once."""
        self._in_flight -= size
        if round_trip_us is None:
            return
        self._latest.append(round_trip_us)
        base_us = min(base_us for _span, base_us in self._bases)
        target_us = max(_LEAST_TARGET_US, min(_MOST_TARGET_US, base_us // 2))
        queued_us = min(self._latest) - base_us
        if self._is_probing and queued_us < target_us // 2:
            self.allowance_bytes = min(self._most_bytes, self.allowance_bytes + size)
            return
        self._is_probing = False
        if queued_us > 2 * target_us:
            self.late(now_us, round_trip_us)
            return
        step = _STEP_BYTES * (1 - queued_us / target_us) * size / self.allowance_bytes
        self.allowance_bytes = max(_LEAST_BYTES, min(self._most_bytes, self.allowance_bytes + round(step)))

    def late(self, now_us: int, round_trip_us: int) -> None:
        """Far too long, or overdue: half as much, at most once a round trip."""
        self._is_probing = False
        if now_us - self._halved_us >= round_trip_us:
            self._halved_us = now_us
            self.allowance_bytes = max(_LEAST_BYTES, self.allowance_bytes // 2)

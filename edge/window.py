"""What a lane has sent and not yet seen receipted, and how long it waits for it: pure, moved by the caller's clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from wire.runs import RunSet

# RFC 6298 gains, with a floor above a cloud's group commit and a cap that keeps a silent link noticed.
_FIRST_TIMEOUT_US = 3_000_000
_MIN_TIMEOUT_US = 1_000_000
_MAX_TIMEOUT_US = 60_000_000
# The slowest link served: two GPRS timeslots in the most robust coding, 8 kbit/s each (3GPP TS 43.064, CS-1).
_SLOWEST_BYTES_PER_S = 2_000


def way_us(size: int) -> int:
    """How long so many bytes take at most on the slowest link served."""
    return size * 1_000_000 // _SLOWEST_BYTES_PER_S


class RoundTrip:
    """Retransmission timeout from measured round trips, as TCP's (RFC 6298)."""

    def __init__(self) -> None:
        self.estimate_us = self.timeout_us = _FIRST_TIMEOUT_US
        self._doubled_us: int | None = None
        self._smoothed_us: float | None = None
        self._variance_us = 0.0

    def measured(self, round_trip_us: int) -> None:
        """One receipt came for a batch that was sent once."""
        if self._smoothed_us is None:
            self._smoothed_us, self._variance_us = float(round_trip_us), round_trip_us / 2
        else:
            self._variance_us += (abs(self._smoothed_us - round_trip_us) - self._variance_us) / 4
            self._smoothed_us += (round_trip_us - self._smoothed_us) / 8
        wanted_us = int(self._smoothed_us + 4 * self._variance_us)
        self.estimate_us = self.timeout_us = min(_MAX_TIMEOUT_US, max(_MIN_TIMEOUT_US, wanted_us))

    def expired(self, now_us: int) -> None:
        """A receipt did not come in time: wait twice as long for the next. Batches that left within one timeout of
        each other say so but once."""
        if self._doubled_us is None or now_us - self._doubled_us >= self.timeout_us:
            self._doubled_us = now_us
            self.timeout_us = min(_MAX_TIMEOUT_US, self.timeout_us * 2)

    def forget(self) -> None:
        """Another link: how long the one before kept quiet says nothing of it, what was measured does."""
        self.timeout_us = self.estimate_us
        self._doubled_us = None


@dataclass
class Sent:
    """One batch on its way: its frame is kept so that a retry is the same bytes."""

    epoch: bytes
    first_seq: int
    last_seq: int
    frame: bytes
    sent_us: int
    tries: int = 1
    is_backlog: bool = False
    timeout_us: int = 0  # what was in force when it left: one batch's retry makes no other wait longer
    is_carried: bool = False  # the broker has it: until then its bytes, and those before them, may be still on the link
    way_us: int = 0  # what these may take
    first_us: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_us = self.sent_us  # a retry renews the other alone


class Window:
    """Unreceipted batches of one lane, bounded in bytes: a cloud that stores slowly slows the sender, not the box."""

    def __init__(self, limit_bytes: int) -> None:
        self.busy: dict[bytes, RunSet] = {}
        self.round_trip = RoundTrip()
        self._limit_bytes = limit_bytes
        self._sent: dict[tuple[bytes, int], Sent] = {}
        self._again: deque[tuple[bytes, int]] = deque()  # of one round, bounded by what is on its way
        self._bytes = 0
        self._uncarried_bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def is_open(self) -> bool:
        """Whether another batch may be sent."""
        return self._bytes < self._limit_bytes

    def holds(self, epoch: bytes, first_seq: int, last_seq: int) -> bool:
        """Whether any record of the run is on its way."""
        return epoch in self.busy and self.busy[epoch].intersects(first_seq, last_seq)

    def opened(self, sent: Sent) -> None:
        """A batch leaves."""
        self._sent[sent.epoch, sent.first_seq] = sent
        self._bytes += len(sent.frame)
        self._uncarried_bytes += len(sent.frame)
        self._timed(sent)
        self.busy.setdefault(sent.epoch, RunSet()).add(sent.first_seq, sent.last_seq)

    def _timed(self, sent: Sent) -> None:
        sent.timeout_us = self.round_trip.timeout_us
        sent.way_us = way_us(self._uncarried_bytes)

    def carried(self, sent: Sent) -> None:
        """The broker has said that it has a batch; one that is on its way no longer makes no difference."""
        if self._sent.get((sent.epoch, sent.first_seq)) is sent and not sent.is_carried:
            sent.is_carried = True
            self._uncarried_bytes -= len(sent.frame)

    def receipted(self, epoch: bytes, first_seq: int, last_seq: int, now_us: int) -> list[Sent]:
        """Takes the batches a receipt covers out of the window; measures only those sent once (Karn)."""
        exact = self._sent.get((epoch, first_seq))
        if exact is not None and exact.last_seq == last_seq:
            covered = [exact]
        else:
            covered = [
                sent
                for sent in self._sent.values()
                if sent.epoch == epoch and first_seq <= sent.first_seq and sent.last_seq <= last_seq
            ]
        for sent in covered:
            self._close(sent)
            if sent.tries == 1:
                self.round_trip.measured(now_us - sent.sent_us)
        return covered

    def _close(self, sent: Sent) -> None:
        self.carried(sent)
        del self._sent[sent.epoch, sent.first_seq]
        self._bytes -= len(sent.frame)
        self.busy[sent.epoch].remove(sent.first_seq, sent.last_seq)
        if not self.busy[sent.epoch]:
            del self.busy[sent.epoch]

    def overdue(self, now_us: int) -> Sent | None:
        """The next batch whose receipt is overdue, noted as sent again now."""
        if not self._again:
            self._again.extend(key for key, one in self._sent.items() if now_us >= self._expiry_us(one))
            if self._again:
                self.round_trip.expired(now_us)
        while self._again:
            if sent := self._sent.get(self._again.popleft()):
                sent.tries += 1
                sent.sent_us = now_us
                if sent.is_carried:
                    sent.is_carried = False
                    self._uncarried_bytes += len(sent.frame)
                self._timed(sent)
                return sent
        return None

    def waiting_since_us(self) -> int | None:
        """When the batch that waits longest left first, None when nothing is on its way."""
        return min((one.first_us for one in self._sent.values()), default=None)

    def next_expiry_us(self) -> int | None:
        """When the first batch is overdue, None when nothing is on its way."""
        return min(map(self._expiry_us, self._sent.values()), default=None)

    def _expiry_us(self, sent: Sent) -> int:
        """A way that has grown longer since a batch left makes it wait longer. A second copy behind one that is still
        on the link would only keep everybody waiting."""
        return sent.sent_us + max(sent.timeout_us, self.round_trip.estimate_us, 0 if sent.is_carried else sent.way_us)

    def forget(self) -> None:
        """The link is gone: what was on its way is backlog again."""
        self._sent.clear()
        self._again.clear()
        self.busy.clear()
        self._bytes = self._uncarried_bytes = 0
        self.round_trip.forget()

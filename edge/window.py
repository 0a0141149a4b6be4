"""What a lane has sent and not yet seen receipted, and how long it waits for it: pure, moved by the caller's clock."""

from __future__ import annotations

from dataclasses import dataclass

from wire.runs import RunSet

# RFC 6298 gains, with a floor above a cloud's group commit and a cap that keeps a silent link noticed.
_FIRST_TIMEOUT_US = 3_000_000
_MIN_TIMEOUT_US = 1_000_000
_MAX_TIMEOUT_US = 60_000_000


class RoundTrip:
    """Retransmission timeout from measured round trips, as TCP's (RFC 6298)."""

    def __init__(self) -> None:
        self.timeout_us = _FIRST_TIMEOUT_US
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
        self.timeout_us = min(_MAX_TIMEOUT_US, max(_MIN_TIMEOUT_US, wanted_us))

    def expired(self) -> None:
        """A receipt did not come in time: wait twice as long for the next."""
        self.timeout_us = min(_MAX_TIMEOUT_US, self.timeout_us * 2)


@dataclass
class Sent:
    """One batch on its way: its frame is kept so that a retry is the same bytes."""

    epoch: bytes
    first_seq: int
    last_seq: int
    frame: bytes
    sent_us: int
    tries: int = 1


class Window:
    """Unreceipted batches of one lane, bounded in bytes: a cloud that stores slowly slows the sender, not the box."""

    def __init__(self, limit_bytes: int) -> None:
        self.busy: dict[bytes, RunSet] = {}
        self.round_trip = RoundTrip()
        self._limit_bytes = limit_bytes
        self._sent: dict[tuple[bytes, int], Sent] = {}
        self._bytes = 0

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
        self.busy.setdefault(sent.epoch, RunSet()).add(sent.first_seq, sent.last_seq)

    def receipted(self, epoch: bytes, first_seq: int, last_seq: int, now_us: int) -> bool:
        """Takes the batches a receipt covers out of the window; measures only those sent once (Karn).

        True when it answers exactly one batch, as they do, which makes it certain that this box stored the run.
        """
        exact = self._sent.get((epoch, first_seq))
        is_exact = exact is not None and exact.last_seq == last_seq
        for sent in [exact] if exact is not None and is_exact else list(self._sent.values()):
            if sent.epoch == epoch and first_seq <= sent.first_seq and sent.last_seq <= last_seq:
                self._close(sent)
                if sent.tries == 1:
                    self.round_trip.measured(now_us - sent.sent_us)
        return is_exact

    def _close(self, sent: Sent) -> None:
        del self._sent[sent.epoch, sent.first_seq]
        self._bytes -= len(sent.frame)
        self.busy[sent.epoch].remove(sent.first_seq, sent.last_seq)
        if not self.busy[sent.epoch]:
            del self.busy[sent.epoch]

    def expired(self, now_us: int) -> list[Sent]:
        """Batches whose receipt is overdue, to be sent again; each such round doubles the timeout."""
        overdue = [one for one in self._sent.values() if now_us - one.sent_us >= self.round_trip.timeout_us]
        if overdue:
            self.round_trip.expired()
        return overdue

    def next_expiry_us(self) -> int | None:
        """When the oldest batch is overdue, None when nothing is on its way."""
        oldest = min((one.sent_us for one in self._sent.values()), default=None)
        return None if oldest is None else oldest + self.round_trip.timeout_us

    def forget(self) -> None:
        """The link is gone: what was on its way is backlog again."""
        self._sent.clear()
        self.busy.clear()
        self._bytes = 0

"""What a monitor has sent but not heard about: kept in order, sent again with the same bytes, bounded in memory.

Pure bookkeeping; the connection in hl7_monitor.py asks what is due and tells what was heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice

# Half an hour of a 12-lead monitor in text. Full policy: the oldest message is discarded, counted and named in the
# truth, as a real monitor's buffer overwrites itself.
MEMORY_BYTES = 128 * 1024 * 1024
# Messages that may be on their way at once, so that the receiver's commit time does not limit the rate.
WINDOW = 8
RESEND_AFTER_US = 3_000_000
# A message the receiver calls wrong will not get better: three tries, then it is counted as refused.
TRIES_WHEN_REFUSED = 3


class Verdict(Enum):
    """What an answer meant."""

    ACCEPTED = auto()
    REFUSED_FOR_NOW = auto()
    REFUSED = auto()
    UNKNOWN = auto()  # not ours, or answered before: a resent message is answered twice


@dataclass
class _Pending:
    message: bytes
    sent_us: int | None = None  # on this connection
    ever_sent: bool = False
    refusals: int = 0


@dataclass
class Counters:
    """What became of the messages."""

    messages: int = 0
    answered: int = 0
    refused: int = 0
    discarded: int = 0
    resent: int = 0


@dataclass
class Unanswered:
    """The queue, oldest first."""

    memory_bytes: int = MEMORY_BYTES
    window: int = WINDOW
    resend_after_us: int = RESEND_AFTER_US
    counters: Counters = field(default_factory=Counters)
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _held_bytes: int = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, message_id: str, message: bytes) -> list[str]:
        """Takes a new message; returns the ids of the old ones that had to go for it."""
        discarded = []
        while self._pending and self._held_bytes + len(message) > self.memory_bytes:
            oldest = next(iter(self._pending))
            self._remove(oldest)
            self.counters.discarded += 1
            discarded.append(oldest)
        self._pending[message_id] = _Pending(message)
        self._held_bytes += len(message)
        self.counters.messages += 1
        return discarded

    def due(self, now_us: int) -> list[bytes]:
        """The messages to send now, oldest first, marked as sent: new in the window, or unanswered too long."""
        messages = []
        for pending in islice(self._pending.values(), self.window):
            if pending.sent_us is not None and now_us - pending.sent_us < self.resend_after_us:
                continue
            self.counters.resent += pending.ever_sent
            pending.sent_us = now_us
            pending.ever_sent = True
            messages.append(pending.message)
        return messages

    def connection_lost(self) -> None:
        """Whatever was on its way may be lost: everything is due again."""
        for pending in self._pending.values():
            pending.sent_us = None

    def answer(self, message_id: str, code: str) -> Verdict:
        """MSA-1 and MSA-2 of an answer."""
        pending = self._pending.get(message_id)
        if pending is None:
            return Verdict.UNKNOWN
        if code == "AA":
            self._remove(message_id)
            self.counters.answered += 1
            return Verdict.ACCEPTED
        if code not in ("AE", "AR"):
            return Verdict.UNKNOWN
        pending.refusals += 1
        if pending.refusals < TRIES_WHEN_REFUSED:
            return Verdict.REFUSED_FOR_NOW  # comes again after the same wait as an unanswered one
        self._remove(message_id)
        self.counters.refused += 1
        return Verdict.REFUSED

    def _remove(self, message_id: str) -> None:
        self._held_bytes -= len(self._pending.pop(message_id).message)

"""Reads in the embedded broker's log whom it turned away, so that it is counted and audited as everything else is."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from typing import BinaryIO, NamedTuple

from cloud.bus.broker import Broker
from cloud.counters import Counters
from cloud.limiter import Limiter, Turn
from cloud.store.database import StoreUnavailable
from wire.clock import Clock

_log = logging.getLogger(__name__)

_LOOK_S = 0.5
# Full-policy: what a look leaves waits for the next one; a broker that writes faster is bound by its own log's limit.
_MOST_BYTES = 256 * 1024
_MOST_CHARACTERS = 200

# nats-server's words; what follows a subject's quote is its own, what stands before is the client's id, quoted.
_LINE = re.compile(
    r"^\[(?P<pid>\d+)\] \S+ \S+ \[ERR\] (?P<source>\S+):\d+ - mid:\d+ - .*?"
    r"(?:TLS handshake error: (?P<tls>.*)"
    r'|- (?P<act>Publish|Subscription) Violation - Subject (?P<subject>"[^"]*").*'
    r"|- (?P<unknown>authentication error))$"
)
# A connection that shows nothing: a probe, or a box that lost its link just then.
_NOTHING_SHOWN = ("EOF", "connection reset by peer", "i/o timeout")

Write = Callable[[str, str, str, str, str, str], Awaitable[None]]


class TurnedAway(NamedTuple):
    """One refusal: `counter` names its kind."""

    counter: str
    why: str
    source: str


def read_line(line: str, pid: int) -> TurnedAway | None:
    """What a line of the log of this broker says, when it is about a box it refused.

    A certificate's name is logged as it stands, line breaks and all: what a stranger writes does not know the pid.
    """
    found = _LINE.match(line)
    if found is None or int(found["pid"]) != pid:
        return None
    source = found["source"].strip("[]")
    if found["act"]:
        verb = "write to" if found["act"] == "Publish" else "listen to"
        return TurnedAway("broker_rights_refused", f"may not {verb} {found['subject']}"[:_MOST_CHARACTERS], source)
    if found["unknown"]:
        return TurnedAway("broker_unknown_refused", "its certificate or password does not count", source)
    if found["tls"].endswith(_NOTHING_SHOWN):
        return None
    return TurnedAway("broker_tls_refused", found["tls"][:_MOST_CHARACTERS], source)


class BrokerWatch:
    """Follows the log from its end on, over its rotation."""

    def __init__(self, broker: Broker, write: Write, counters: Counters, clock: Clock) -> None:
        """`write` is the audit's."""
        self._broker, self._path = broker, broker.log_path
        self._write, self._counters = write, counters
        self._limiter = Limiter(clock)
        self._file: BinaryIO | None = None
        self._rest = b""

    def open(self) -> None:
        """From here on. Raises OSError."""
        self._file = self._path.open("rb")
        self._file.seek(0, 2)

    async def run(self) -> None:
        """Looks until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except (StoreUnavailable, OSError) as error:
                    _log.warning("whom the broker turned away is not written down: %s", error)
                await asyncio.sleep(_LOOK_S)
        finally:
            if self._file is not None:
                self._file.close()

    async def look(self) -> None:
        """Counts and writes down what is new. Raises StoreUnavailable, OSError."""
        for line in await asyncio.to_thread(self._read):
            if (refusal := read_line(line, self._broker.pid)) is None:
                continue
            self._counters.add(refusal.counter)
            turn = self._limiter.take(refusal.source)
            why = refusal.why if turn is Turn.GIVEN else "and more within this minute, only counted"
            if turn is not Turn.DENIED:
                await self._write("", "box", f"broker: {why}", "", refusal.source, "refused")

    def _read(self) -> list[str]:
        if self._file is None:
            self.open()
        assert self._file is not None
        new = self._file.read(_MOST_BYTES)
        if not new and self._path.exists() and self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            self._file.close()  # it began another file, and this one is read to its end
            self._file = self._path.open("rb")
            new = self._file.read(_MOST_BYTES)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self._rest = self._rest[-_MOST_BYTES:]
        return [line.decode("utf-8", "replace") for line in lines]

"""A monitor's connection to its receiver: dials out for ever, sends what is due, hears the answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from firmware_sim.faults import BadLink, Reader, Sleep, Writer
from firmware_sim.network.mllp import AnswerReader, frame
from firmware_sim.network.unanswered import Unanswered, Verdict
from firmware_sim.truth import Answered, Discarded, Line, Refused
from wire.clock import Clock

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
SEND_TIMEOUT_S = 10
# No byte back for so long while messages wait: the connection is half open.
SILENCE_US = 10_000_000
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.5, 10.0
_TICK_S = 0.25  # how late a resend may be


class _LinkDown(Exception):
    """This connection is over: dial again."""


def back_off_s(attempt: int, chance: random.Random) -> float:
    """How long to wait before dialling again: capped exponential, full jitter over the upper half."""
    ceiling = min(_LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2.0 ** min(attempt, 10))
    return ceiling * chance.uniform(0.5, 1.0)


class MonitorLink:
    """Owns the unanswered messages and the connection; `run` never returns, cancel it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        clock: Clock,
        sleep: Sleep,
        tell: Callable[[Line], None],
        bad_link: BadLink,
        unanswered: Unanswered | None = None,
    ) -> None:
        """`tell` is given what became of each message."""
        self._host = host
        self._port = port
        self._clock = clock
        self._sleep = sleep
        self._tell = tell
        self._bad_link = bad_link
        self._chance = random.Random()
        self._wake = asyncio.Event()
        self._heard_us = 0
        self.unanswered = Unanswered() if unanswered is None else unanswered
        self.connects = 0
        self.is_connected = False

    def put(self, message_id: str, message: bytes) -> None:
        """Takes a message to be sent until it is answered."""
        for discarded in self.unanswered.add(message_id, frame(message)):
            self._tell(Discarded(discarded))
        self._wake.set()

    async def run(self) -> None:
        """Dials, talks, and dials again."""
        attempt = 0
        while True:
            answered_before = self.unanswered.counters.answered
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(self._host, self._port)
            except (OSError, TimeoutError) as error:
                if attempt == 0:
                    _log.warning("no connection to %s:%s (%s), trying on", self._host, self._port, error)
            else:
                await self._talk(reader, writer)
            # A receiver that accepts the connection and nothing else is no better than one that is not there.
            attempt = 0 if self.unanswered.counters.answered > answered_before else attempt + 1
            await self._sleep(back_off_s(attempt, self._chance))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first byte to its end."""
        self.connects += 1
        self.is_connected = True
        self._heard_us = self._clock.monotonic_us()
        _log.info("connected to %s:%s", self._host, self._port)
        try:
            faulty_reader, faulty_writer = self._bad_link.streams(reader, writer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(faulty_writer), name="send")
                tasks.create_task(self._receive(faulty_reader), name="receive")
                tasks.create_task(self._tick(), name="tick")
                if (connected_s := self._bad_link.connected_s()) is not None:
                    tasks.create_task(self._cut(connected_s), name="cut")
        except* (OSError, TimeoutError, _LinkDown) as ended:
            _log.info("disconnected from %s:%s: %s", self._host, self._port, ended.exceptions[0])
        finally:
            self.is_connected = False
            self.unanswered.connection_lost()
            await _close(writer)

    async def _send(self, writer: Writer) -> None:
        while True:
            self._wake.clear()
            now_us = self._clock.monotonic_us()
            if self.unanswered and now_us - self._heard_us > SILENCE_US:
                raise _LinkDown("nothing heard for too long")
            for message in self.unanswered.due(now_us):
                writer.write(message)
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await writer.drain()
            await self._wake.wait()  # `_tick` ends this wait

    async def _receive(self, reader: Reader) -> None:
        answers = AnswerReader()
        # The wait for bytes is ended by the silence check in `_send`, on the twin's own clock.
        while piece := await reader.read(65536):
            self._heard_us = self._clock.monotonic_us()
            for answer in answers.feed(piece):
                verdict = self.unanswered.answer(answer.message_id, answer.code)
                if verdict is Verdict.ACCEPTED:
                    self._tell(Answered(answer.message_id))
                elif verdict is Verdict.REFUSED:
                    _log.warning("message %s refused with %s for good", answer.message_id, answer.code)
                    self._tell(Refused(answer.message_id))
            self._wake.set()
        raise _LinkDown("closed by the receiver")

    async def _tick(self) -> None:
        while True:
            await self._sleep(_TICK_S)
            self._wake.set()

    async def _cut(self, after_s: float) -> None:
        await self._sleep(after_s)
        raise _LinkDown("cut by the fault plan")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
            return
    writer.transport.abort()  # the peer does not read: what is queued goes, and will be sent again

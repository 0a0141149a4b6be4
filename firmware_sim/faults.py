"""Bad links on purpose: loss, delay, garbage and disconnects, the same ones for the same seed.

A `BadLink` lives as long as its twin and wraps, connection after connection, the byte streams of a TCP twin
(`streams`) or the send function of a twin that notifies (`sending`).
Garbage is added between pieces and a lost piece is lost whole, so a receiver that re-synchronises and a sender that
repeats lose nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Annotated, NamedTuple, Protocol

import msgspec
from msgspec import Meta

Probability = Annotated[float, Meta(ge=0, le=1)]
Sleep = Callable[[float], Awaitable[None]]
Send = Callable[[bytes], Awaitable[None]]

_LONGEST_GARBAGE = 40


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How bad a link is: probabilities per piece sent, delay drawn from delay_s = (from, to)."""

    loss: Probability = 0.0
    delay_s: tuple[float, float] = (0.0, 0.0)
    disconnect_every_s: Annotated[float, Meta(gt=0)] | None = None
    garbage: Probability = 0.0
    seed: int = 0


NO_FAULTS = Faults()


class Fate(NamedTuple):
    """What happens to one piece."""

    lost: bool
    delay_s: float
    garbage: bytes  # arrives before the piece


class FateSequence:
    """The fates of the pieces of one direction, in order; `direction` keeps the two directions apart."""

    def __init__(self, faults: Faults, direction: str = "out") -> None:
        self._faults = faults
        self._random = random.Random(f"{faults.seed}/{direction}")

    def next(self) -> Fate:
        """The fate of the next piece. Every piece takes the same draws, so one rate can be changed alone."""
        lost, noisy = self._random.random(), self._random.random()
        delay_s = self._random.uniform(*self._faults.delay_s)
        length = self._random.randint(1, _LONGEST_GARBAGE)
        noise = self._random.randbytes(length)
        return Fate(lost < self._faults.loss, delay_s, noise if noisy < self._faults.garbage else b"")


class FaultySend:
    """A send function over a bad link. Garbage is a piece, or a notification, of its own."""

    def __init__(self, send: Send, fates: FateSequence, sleep: Sleep) -> None:
        self._send = send
        self._fates = fates
        self._sleep = sleep

    async def __call__(self, data: bytes) -> None:
        fate = self._fates.next()
        if fate.delay_s:
            await self._sleep(fate.delay_s)
        if fate.garbage:
            await self._send(fate.garbage)
        if not fate.lost:
            await self._send(data)


class Reader(Protocol):
    """The half of asyncio.StreamReader that twins use; a faulty one is the second implementation."""

    async def read(self, n: int) -> bytes:
        """Up to n bytes; empty at the end."""
        ...


class Writer(Protocol):
    """The half of asyncio.StreamWriter that twins use."""

    def write(self, data: bytes) -> None:
        """Queues one piece."""
        ...

    async def drain(self) -> None:
        """Waits until the queued pieces are on their way."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class FaultyReader:
    """A byte stream whose arriving pieces suffer."""

    def __init__(self, reader: Reader, fates: FateSequence, sleep: Sleep) -> None:
        self._reader = reader
        self._fates = fates
        self._sleep = sleep

    async def read(self, n: int) -> bytes:
        while True:
            piece = await self._reader.read(n)
            if not piece:
                return b""
            fate = self._fates.next()
            if fate.delay_s:
                await self._sleep(fate.delay_s)
            if not fate.lost:
                return fate.garbage + piece
            if fate.garbage:
                return fate.garbage


class FaultyWriter:
    """A byte stream whose leaving pieces suffer; each `write` is a piece."""

    def __init__(self, writer: Writer, fates: FateSequence, sleep: Sleep) -> None:
        self._writer = writer
        self._pieces: list[bytes] = []
        self._send = FaultySend(self._pass_on, fates, sleep)

    def write(self, data: bytes) -> None:
        self._pieces.append(data)

    async def drain(self) -> None:
        while self._pieces:
            await self._send(self._pieces.pop(0))

    def close(self) -> None:
        self._pieces.clear()
        self._writer.close()

    async def _pass_on(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


class BadLink:
    """The faults of one twin. Its fates go on over reconnects: starting again would lose the same piece for ever."""

    def __init__(self, faults: Faults = NO_FAULTS, sleep: Sleep = asyncio.sleep) -> None:
        self._faults = faults
        self._sleep = sleep
        self._out = FateSequence(faults, "out")
        self._in = FateSequence(faults, "in")
        self._connections = random.Random(f"{faults.seed}/connections")

    def streams(self, reader: Reader, writer: Writer) -> tuple[Reader, Writer]:
        """One connection's byte streams; the pair itself when there are no faults."""
        if self._faults == NO_FAULTS:
            return reader, writer
        return FaultyReader(reader, self._in, self._sleep), FaultyWriter(writer, self._out, self._sleep)

    def sending(self, send: Send) -> Send:
        """One connection's send function."""
        return send if self._faults == NO_FAULTS else FaultySend(send, self._out, self._sleep)

    def connected_s(self) -> float | None:
        """After how long the twin must cut its next connection; None for never."""
        if self._faults.disconnect_every_s is None:
            return None
        return self._faults.disconnect_every_s * self._connections.uniform(0.5, 1.5)

"""The seam between the cloud and whatever carries its messages: `jetstream` and `mqtt` implement it.

No bus is the truth: it may lose or repeat anything, and missing or repeated receipts put it right.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from wire.commands import Command
from wire.messages import Receipt


class Delivery(NamedTuple):
    """One message of a gateway, its topic written as a subject; `mark` is what its bus settles it by."""

    subject: str
    payload: bytes
    mark: Any  # each bus has its own kind, and nobody else looks at it


class Bus(Protocol):
    """What the cloud asks of a bus. Its parts live while `run` runs; what it cannot send it logs and leaves unsent."""

    async def run(self) -> None:
        """Keeps the connections alive and messages coming, until cancelled."""

    async def take(self, *, most: int, most_bytes: int) -> list[Delivery]:
        """At least one batch, oldest first, then whatever else is there within the limits (the first may exceed
        them)."""

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges what is committed; a lost acknowledgement only means one more delivery."""

    async def send_receipts(self, receipts: Sequence[tuple[str, Receipt]]) -> None:
        """Tells each gateway what is committed; a lost receipt only means that it offers the batch again."""

    async def send_command(self, gateway: str, command: Command) -> None:
        """Sends one command; a lost one is sent again until it is answered."""

    async def listen(self, callback: Callable[[str, bytes], None]) -> None:
        """Calls back with (subject, payload) of every batch and presence from now on, before it is stored."""

    async def listen_presence(self, callback: Callable[[str, bytes], None]) -> None:
        """As `listen`, of presence alone."""


class Waiting:
    """Deliveries between the bus and ingest.

    Bounded by the bus, which asks for no more than its window. Full policy: wait, the broker keeps the rest.
    """

    def __init__(self) -> None:
        self._deliveries: deque[Delivery] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._deliveries)

    def put(self, delivery: Delivery) -> None:
        """The newest."""
        self._deliveries.append(delivery)
        self._arrived.set()

    def clear(self) -> None:
        """Forgets all that was not taken."""
        self._deliveries.clear()

    async def take(self, most: int, most_bytes: int) -> list[Delivery]:
        """As Bus.take."""
        while not self._deliveries:
            self._arrived.clear()
            await self._arrived.wait()
        taken = [self._deliveries.popleft()]
        size = len(taken[0].payload)
        while self._deliveries and len(taken) < most and size + len(self._deliveries[0].payload) <= most_bytes:
            taken.append(self._deliveries.popleft())
            size += len(taken[-1].payload)
        return taken

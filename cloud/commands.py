"""Commands to boxes: stored first, then sent again and again until the outcome is stored or time runs out.

A send promises nothing: a box subscribes at QoS 0, acts once for each id and answers through the log (store/boards.py).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection

import msgspec

from cloud.counters import Counters
from cloud.fleet import UnknownGateway
from cloud.store import commands as table
from cloud.store.commands import PENDING, StoredCommand
from cloud.store.database import Database, StoreUnavailable
from wire.backoff import Backoff
from wire.clock import MICROSECONDS, Clock
from wire.commands import COMMAND_ID_BYTES, Command, Order, encode_order
from wire.messages import DecodeError, Presence, decode_frame
from wire.topics import gateway_of

_log = logging.getLogger(__name__)

# A box answers within a second or is not there; its coming back is told at once, so the rest may be slow.
_FIRST_AGAIN_S, _LAST_AGAIN_S = 5.0, 60.0
# Full-policy: a gateway with this many unanswered commands gets no more, and the person is told.
MOST_PENDING = 16
# Sent in one round; more than this over all boxes wait for the answers of the first.
_MOST_AT_ONCE = 1000
# Nothing is due: this only covers a step of the wall clock, by which expiry is measured.
_LOOK_AGAIN_S = 30.0

Send = Callable[[str, Command], Awaitable[None]]
Sign = Callable[[str, Command], Command]


def unsigned(_gateway: str, command: Command) -> Command:
    """As it is: for boxes that never enrolled, on loopback or behind a broker of the site."""
    return command


class UnknownCommand(LookupError):
    """There is no such command to this gateway."""


class TooManyCommands(Exception):
    """The box has not answered the ones before: wait for them."""


class Commands:
    """Issues commands and, while `run` runs, sends those that have no answer."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        counters: Counters,
        send: Send,
        gateways: Collection[str],
        sign: Sign = unsigned,
    ) -> None:
        self._database, self._clock, self._counters, self._send = database, clock, counters, send
        self._gateways, self._sign = frozenset(gateways), sign
        self._next: dict[str, tuple[int, Backoff]] = {}  # by command: when to send again, monotonic µs
        # Boxes whose commands are due now, at most one mention each.
        self._back: set[str] = set()
        self._woken = asyncio.Event()

    async def issue(self, gateway: str, order: Order, *, lifetime_s: float, issued_by: str) -> StoredCommand:
        """Stores a command; it is sent at once. Raises UnknownGateway, TooManyCommands, StoreUnavailable."""
        self._require(gateway)
        now_us = self._clock.now_us()
        command = StoredCommand(
            command_id=secrets.token_hex(COMMAND_ID_BYTES),
            gateway=gateway,
            kind=str(order.__struct_config__.tag),
            issued_by=issued_by,
            issued_us=now_us,
            expires_us=now_us + round(lifetime_s * MICROSECONDS),
            state=PENDING,
            detail="",
            answered_us=None,
        )
        body = encode_order(order)
        if not await self._database.write(lambda connection: table.insert(connection, command, body, MOST_PENDING)):
            raise TooManyCommands(f"gateway {gateway} has {MOST_PENDING} commands without an answer")
        self.wake()
        return command

    async def newest(self, gateway: str, *, most: int) -> list[StoredCommand]:
        """Commands to a gateway, newest first. Raises UnknownGateway, StoreUnavailable."""
        self._require(gateway)
        return await self._database.read(lambda connection: table.of_gateway(connection, gateway, most=most))

    async def of_order(self, gateway: str, order: Order, *, most: int) -> list[StoredCommand]:
        """Commands of this very order, newest first. Raises UnknownGateway, StoreUnavailable."""
        self._require(gateway)
        body = encode_order(order)
        return await self._database.read(lambda connection: table.of_order(connection, gateway, body, most=most))

    async def find(self, gateway: str, command_id: str) -> StoredCommand:
        """One command. Raises UnknownGateway, UnknownCommand, StoreUnavailable."""
        self._require(gateway)
        found = await self._database.read(lambda connection: table.find(connection, gateway, command_id))
        if found is None:
            raise UnknownCommand(f"no command {command_id!r} to gateway {gateway}")
        return found

    def _require(self, gateway: str) -> None:
        if gateway not in self._gateways:
            raise UnknownGateway(gateway)

    def heard(self, subject: str, payload: bytes) -> None:
        """Takes in what a gateway's status topic says: a box that came back is sent its commands now."""
        try:
            gateway, presence = gateway_of(subject), decode_frame(payload, Presence)
        except (ValueError, DecodeError):
            self._counters.add("presence_undecodable")
            return
        if presence.online and gateway in self._gateways:
            self._back.add(gateway)
            self.wake()

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Sends until cancelled."""
        failing = Backoff(first_s=0.2, cap_s=10.0)
        while True:
            try:
                wait_s = await self.send_due()
                failing.reset()
            except StoreUnavailable as error:
                wait_s = failing.next_s()
                _log.warning("commands: %s; trying again in %.1f s", error, wait_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def send_due(self) -> float:
        """Ends what has expired, sends what is due; returns the seconds until there may be more to do."""
        self._woken.clear()
        back, self._back = self._back, set()
        pending = await self._database.read(lambda connection: table.pending(connection, most=_MOST_AT_ONCE))
        now_us, mono_us = self._clock.now_us(), self._clock.monotonic_us()
        if any(command.expires_us <= now_us for command in pending):
            ended = await self._database.write(lambda connection: table.expire(connection, now_us))
            self._counters.add("commands_expired", ended)
        living = [command for command in pending if command.expires_us > now_us]
        self._next = {one.command_id: self._next[one.command_id] for one in living if one.command_id in self._next}
        for command in living:
            due_us, backoff = self._next.get(command.command_id, (mono_us, None))
            if backoff is None or command.gateway in back:
                due_us, backoff = mono_us, Backoff(first_s=_FIRST_AGAIN_S, cap_s=_LAST_AGAIN_S)
            if due_us <= mono_us:
                await self._send_one(command)
                due_us = mono_us + round(backoff.next_s() * MICROSECONDS)
            self._next[command.command_id] = due_us, backoff
        waits_us = [due_us - mono_us for due_us, _backoff in self._next.values()]
        waits_us += [command.expires_us - now_us for command in living]
        return max(0.0, min([_LOOK_AGAIN_S, *(wait_us / MICROSECONDS for wait_us in waits_us)]))

    async def _send_one(self, stored: StoredCommand) -> None:
        order = await self._database.read(lambda connection: table.order_of(connection, stored.command_id))
        if order is None:
            return  # answered a moment ago
        command_id = bytes.fromhex(stored.command_id)
        command = Command(command_id, msgspec.Raw(order), stored.issued_us, stored.expires_us)
        await self._send(stored.gateway, self._sign(stored.gateway, command))
        self._counters.add("commands_sent")

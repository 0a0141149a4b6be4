"""A GATT link over bleak: finds an allowed device, connects with a fresh client, and hands on what it notifies.

Whatever breaks becomes LinkLost; the session then opens a new link.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Annotated, NamedTuple

import msgspec
from bleak import BleakClient
from bleak.exc import BleakCharacteristicNotFoundError, BleakGATTProtocolError
from bleak.uuids import normalize_uuid_str

from drivers.driver import LinkLost
from drivers.links.adapter import CLOSE_TIMEOUT_S, RADIO_ERRORS, Adapter, Advertisement, borrow
from wire.clock import Clock

_log = logging.getLogger(__name__)

# Core specification vol. 3 part F §3.3.3: an ATT transaction not answered within 30 s fails, and the bearer with it.
ATT_TIMEOUT_S = 30.0
# About eight seconds of the busiest sensor (130 notifications/s): longer stalls are the box's failure, not a burst.
QUEUE_LIMIT = 1024

Seconds = Annotated[float, msgspec.Meta(gt=0)]
_ADAPTER = re.compile(r"bluez(:[\w-]+)?|bumble:[\w-]+(:.+)?")
# Transports to a controller that is part of this box. Behind any other (a socket, a file, another program's pipe) a
# simulated radio looks the same as a real one.
_ON_THIS_BOX = ("usb", "pyusb", "serial", "hci-socket")
_ADDRESS = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}", re.IGNORECASE)


class Refused(LinkLost):
    """The device answered no, or lacks the characteristic: a driver that can do without it catches this and goes on."""


class GattOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which device, through which radio. All that is given of address, name and service must match.

    `adapter` is "bluez", "bluez:hci1", or "bumble:" and a bumble transport such as "tcp-client:127.0.0.1:9001".
    """

    address: str | None = None
    name: str | None = None
    service: str | None = None
    adapter: str = "bluez"
    pair: bool = False
    connect_timeout_s: Seconds = 20.0

    def __post_init__(self) -> None:
        # Without a criterion the box would take the next bed's sensor.
        if self.address is None and self.name is None and self.service is None:
            raise ValueError("give at least one of address, name, service")
        if not _ADAPTER.fullmatch(self.adapter):
            raise ValueError(f"adapter {self.adapter!r}; allowed: bluez, bluez:<hci name>, bumble:<transport>")
        if self.address is not None and not _ADDRESS.fullmatch(self.address):
            raise ValueError(f"address {self.address!r} is not like C0:FF:EE:00:00:01")
        if self.service is not None:
            _normal(self.service)

    @property
    def is_bumble(self) -> bool:
        """Whether bumble drives the radio, not the system."""
        return self.adapter.startswith("bumble:")

    @property
    def is_on_this_box(self) -> bool:
        """Whether the radio is hardware of this box."""
        return not self.is_bumble or self.adapter.split(":")[1] in _ON_THIS_BOX

    def allows(self, advertisement: Advertisement) -> bool:
        """Whether the device that advertises is the configured one."""
        return (
            (self.address is None or advertisement.address == self.address.upper())
            and (self.name is None or advertisement.name == self.name)
            and (self.service is None or advertisement.offers(self.service))
        )


class Notification(NamedTuple):
    """One notified or indicated value. `uuid` is written as the driver asked for it.

    `lost_before` counts notifications dropped since the previous one because the reader was too slow.
    """

    uuid: str
    value: bytes
    arrival_us: int
    arrival_mono_us: int
    lost_before: int = 0


class GattLink:
    """A connected device. All notifications go through one queue, to one reader."""

    def __init__(self, client: BleakClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._subscribed: set[str] = set()
        # Full policy: drop the oldest and count, in `lost_before` of the next; a vital sign ages faster than it queues.
        self._queue: deque[Notification] = deque()
        self._dropped = 0
        self._arrived = asyncio.Event()
        self._last_arrival_s = 0.0
        self._lost: str | None = None

    @property
    def address(self) -> str:
        """The address the device connected with."""
        return self._client.address

    def lose(self, why: str) -> None:
        """Ends the link: what is queued is still delivered, then its reader gets LinkLost."""
        self._lost = self._lost or why
        self._arrived.set()

    def has(self, uuid: str) -> bool:
        """Whether the device has the characteristic."""
        with _as_link_lost("services"):
            return self._client.services.get_characteristic(_normal(uuid)) is not None

    async def read(self, uuid: str) -> bytes:
        """The characteristic's value. Raises Refused, LinkLost."""
        async with self._transaction(f"read {uuid}"):
            return bytes(await self._client.read_gatt_char(_normal(uuid)))

    async def write(self, uuid: str, data: bytes, *, response: bool = True) -> None:
        """Writes the characteristic's value. Raises Refused, LinkLost."""
        async with self._transaction(f"write {uuid}"):
            await self._client.write_gatt_char(_normal(uuid), data, response=response)

    async def subscribe(self, uuids: Iterable[str]) -> None:
        """Starts notifications or indications; what comes is queued from now on. Raises Refused, LinkLost."""
        for uuid in uuids:
            if uuid in self._subscribed:
                continue

            def arrived(_sender: object, value: bytearray, uuid: str = uuid) -> None:
                self._on_notification(uuid, bytes(value))

            async with self._transaction(f"subscribe {uuid}"):
                await self._client.start_notify(_normal(uuid), arrived)
            self._subscribed.add(uuid)
            self._last_arrival_s = asyncio.get_running_loop().time()

    def notifications(self, uuids: Iterable[str], silence_s: float) -> AsyncIterator[Notification]:
        """What the device notifies, in order of arrival. Raises LinkLost on disconnection or `silence_s` of silence."""
        return _Notifications(self, tuple(uuids), silence_s)

    async def next_notification(self, silence_s: float) -> Notification:
        """The oldest queued notification, waiting for it. Raises LinkLost."""
        while not self._queue:
            if self._lost is not None:
                raise LinkLost(self._lost)
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(self._last_arrival_s + silence_s):
                    await self._arrived.wait()
            except TimeoutError:
                raise LinkLost(f"connected, but no data for {silence_s:g} s") from None
        oldest = self._queue.popleft()
        lost_before, self._dropped = self._dropped, 0
        return oldest._replace(lost_before=lost_before) if lost_before else oldest

    def _on_notification(self, uuid: str, value: bytes) -> None:
        if len(self._queue) >= QUEUE_LIMIT:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(Notification(uuid, value, self._clock.now_us(), self._clock.monotonic_us()))
        self._last_arrival_s = asyncio.get_running_loop().time()
        self._arrived.set()

    @asynccontextmanager
    async def _transaction(self, what: str) -> AsyncIterator[None]:
        if self._lost is not None:
            raise LinkLost(self._lost)
        with _as_link_lost(what):
            try:
                async with asyncio.timeout(ATT_TIMEOUT_S):
                    yield
            except TimeoutError:
                self.lose(f"{what}: no answer in {ATT_TIMEOUT_S:g} s")
                raise


class _Notifications:
    """The reader's side of a link's queue; owns nothing, so it may be dropped at any time."""

    def __init__(self, link: GattLink, uuids: tuple[str, ...], silence_s: float) -> None:
        self._link = link
        self._uuids = uuids
        self._silence_s = silence_s

    def __aiter__(self) -> AsyncIterator[Notification]:
        return self

    async def __anext__(self) -> Notification:
        await self._link.subscribe(self._uuids)
        return await self._link.next_notification(self._silence_s)


@asynccontextmanager
async def open_gatt(options: GattOptions, clock: Clock) -> AsyncIterator[GattLink]:
    """Waits for the configured device, connects and, if asked, bonds; disconnects on the way out. Raises LinkLost."""
    async with AsyncExitStack() as stack:
        with _as_link_lost("open"):
            adapter = await stack.enter_async_context(borrow(options.adapter))
            found = await stack.enter_async_context(adapter.claim(options.allows))
            link = await stack.enter_async_context(_connected(adapter, found, options, clock))
        yield link


@asynccontextmanager
async def _connected(
    adapter: Adapter, found: Advertisement, options: GattOptions, clock: Clock
) -> AsyncIterator[GattLink]:
    def on_disconnect(_client: BleakClient) -> None:
        link.lose("disconnected")

    client = adapter.client(found.device, on_disconnect, pair=options.pair)
    link = GattLink(client, clock)
    try:
        async with adapter.connecting(), asyncio.timeout(options.connect_timeout_s):
            await client.connect()
        yield link
    finally:
        await _hang_up(client)


async def _hang_up(client: BleakClient) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.disconnect()
    except RADIO_ERRORS as error:
        _log.debug("disconnect %s: %s", client.address, error)


async def scan(adapter: str, seconds: float) -> list[Advertisement]:
    """The devices heard within that time, strongest first; the last advertisement of each. Raises LinkLost."""
    heard: dict[str, Advertisement] = {}

    def listen(advertisement: Advertisement) -> None:
        heard[advertisement.address] = advertisement

    with _as_link_lost("scan"):
        async with borrow(adapter) as radio, radio.listening(listen):
            await asyncio.sleep(seconds)
    return sorted(heard.values(), key=lambda advertisement: -advertisement.rssi_dbm)


@contextmanager
def _as_link_lost(what: str) -> Iterator[None]:
    try:
        yield
    except (BleakGATTProtocolError, BleakCharacteristicNotFoundError) as error:
        raise Refused(f"{what}: {error}") from error
    except RADIO_ERRORS as error:
        raise LinkLost(f"{what}: {error or type(error).__name__}") from error


def _normal(uuid: str) -> str:
    return normalize_uuid_str(uuid)

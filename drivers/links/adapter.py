"""One Bluetooth radio of this box, shared by all its links: one scan for everybody, paused while one of them connects.

`borrow` opens a radio for its first user and closes it after the last. BlueZ refuses a second scan from one process
and many controllers cannot connect while scanning, so both belong to the radio and not to the link.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from bleak import BleakClient, BleakScanner
from bleak.args.bluez import BlueZClientArgs, BlueZScannerArgs
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import BleakError
from bleak.uuids import normalize_uuid_str

from drivers.driver import LinkLost
from wire.configuration import ConfigError

_log = logging.getLogger(__name__)

# A scanner that hears nothing at all for this long is stuck, not alone (Home Assistant's habluetooth uses the same).
DEAF_S = 90.0
# HCI answers within milliseconds and BlueZ within seconds; beyond this the radio or its daemon hangs.
CLOSE_TIMEOUT_S = 5.0
# What a lost or broken radio raises: bleak's own, D-Bus gone (EOFError), a dead HCI socket (OSError), silence.
RADIO_ERRORS = (BleakError, EOFError, OSError, TimeoutError)


class Advertisement(NamedTuple):
    """What one device says of itself on air; `services` are 128-bit UUIDs."""

    address: str
    name: str
    services: tuple[str, ...]
    rssi_dbm: int
    device: BLEDevice

    def offers(self, service: str) -> bool:
        """Whether the service (short or long UUID) is among those advertised."""
        return normalize_uuid_str(service) in self.services


@dataclass(frozen=True)
class Backend:
    """What bleak talks through; without classes it is bleak's own for this platform."""

    scanner: type[BaseBleakScanner] | None = None
    client: type[BaseBleakClient] | None = None
    hci: str = ""  # BlueZ's name of the radio, empty for its default
    close: Callable[[], Awaitable[None]] | None = None


@dataclass
class Adapter:
    """A radio by its configured name. Used through `borrow` only."""

    name: str
    users: int = 0
    _backend: Backend | None = None
    _scanner: BleakScanner | None = None
    _is_connecting: bool = False
    _heard_any: bool = False
    _listeners: set[Callable[[Advertisement], None]] = field(default_factory=set)
    _waiting: set[asyncio.Future[Advertisement]] = field(default_factory=set)
    _taken: set[str] = field(default_factory=set)
    _power: asyncio.Lock = field(default_factory=asyncio.Lock)
    _scan_switch: asyncio.Lock = field(default_factory=asyncio.Lock)
    _connect_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def power_on(self) -> None:
        """Opens the radio unless it is open."""
        async with self._power:
            if self._backend is None:
                self._backend = await _open_backend(self.name, self._on_lost)

    async def power_off(self) -> None:
        """Closes the radio unless somebody has come meanwhile."""
        async with self._power:
            if self.users == 0 and self._backend is not None:
                backend, self._backend = self._backend, None
                if backend.close is not None:
                    await backend.close()

    def _on_lost(self) -> None:
        """The transport to the radio broke: everybody starts again, and the next `power_on` opens it anew."""
        self._backend = self._scanner = None
        for found in self._waiting:
            if not found.done():
                found.set_exception(LinkLost(f"radio {self.name} is gone"))

    def client(self, device: BLEDevice, on_disconnect: Callable[[BleakClient], None], *, pair: bool) -> BleakClient:
        """A fresh client: a used one keeps stale services and handles."""
        backend = self._require()
        bluez: BlueZClientArgs = {"adapter": backend.hci} if backend.hci else {}
        return BleakClient(device, on_disconnect, pair=pair, bluez=bluez, backend=backend.client)

    @asynccontextmanager
    async def listening(self, listener: Callable[[Advertisement], None]) -> AsyncIterator[None]:
        """Every advertisement goes to the listener, as long as the body runs."""
        self._listeners.add(listener)
        try:
            await self._settle_scan()
            yield
        finally:
            self._listeners.discard(listener)
            await self._settle_scan_quietly()

    @asynccontextmanager
    async def claim(self, wanted: Callable[[Advertisement], bool]) -> AsyncIterator[Advertisement]:
        """The first advertisement that is wanted, of a device no other link of ours has; it stays ours in the body.

        Waits as long as it takes: many devices advertise for seconds after a measurement and sleep for days.
        """
        claimed: list[Advertisement] = []
        found: asyncio.Future[Advertisement]

        def heard(advertisement: Advertisement) -> None:
            if not claimed and not found.done() and advertisement.address not in self._taken and wanted(advertisement):
                self._taken.add(advertisement.address)
                claimed.append(advertisement)
                found.set_result(advertisement)

        try:
            while not claimed:
                found = asyncio.get_running_loop().create_future()
                self._waiting.add(found)
                try:
                    async with self.listening(heard):
                        await self._found_or_deaf(found)
                finally:
                    self._waiting.discard(found)
            yield claimed[0]
        finally:
            self._taken.difference_update(advertisement.address for advertisement in claimed)

    async def _found_or_deaf(self, found: asyncio.Future[Advertisement]) -> None:
        self._heard_any = False
        try:
            async with asyncio.timeout(DEAF_S):
                await found
        except TimeoutError:
            if not self._heard_any and self._scanner is not None:
                _log.warning("radio %s heard nothing for %d s: scan restarted", self.name, DEAF_S)
                await self._stop_scan()

    @asynccontextmanager
    async def connecting(self) -> AsyncIterator[None]:
        """Our turn to connect: one link at a time, and no scan meanwhile."""
        async with self._connect_turn:
            self._is_connecting = True
            try:
                await self._settle_scan()
                yield
            finally:
                self._is_connecting = False
                await self._settle_scan_quietly()

    def _heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        self._heard_any = True
        advertisement = Advertisement(
            address=device.address.upper(),
            name=data.local_name or device.name or "",
            services=tuple(data.service_uuids),
            rssi_dbm=data.rssi,
            device=device,
        )
        for listener in tuple(self._listeners):
            listener(advertisement)

    async def _settle_scan(self) -> None:
        """Scans exactly when somebody listens and nobody connects."""
        async with self._scan_switch:
            if not self._listeners or self._is_connecting:
                await self._stop_scan()
            elif self._scanner is None:
                backend = self._require()
                bluez: BlueZScannerArgs = {"adapter": backend.hci} if backend.hci else {}
                scanner = BleakScanner(self._heard, bluez=bluez, backend=backend.scanner)
                await scanner.start()
                self._scanner = scanner

    async def _settle_scan_quietly(self) -> None:
        """On the way out: the next user meets the radio's trouble first-hand."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._settle_scan()
        except (*RADIO_ERRORS, LinkLost) as error:
            _log.debug("radio %s: scan not settled: %s", self.name, error)

    async def _stop_scan(self) -> None:
        scanner, self._scanner = self._scanner, None
        if scanner is not None:
            await scanner.stop()

    def _require(self) -> Backend:
        if self._backend is None:
            raise LinkLost(f"radio {self.name} is gone")
        return self._backend


async def _open_backend(name: str, on_lost: Callable[[], None]) -> Backend:
    stack, _, rest = name.partition(":")
    if stack == "bluez":
        return Backend(hci=rest)
    try:
        from drivers.links.bumble_backend import open_bumble  # the edge extra has no bumble
    except ImportError as error:
        raise ConfigError(f"adapter {name!r} needs bumble, which is not installed: {error}") from error
    return await open_bumble(rest, on_lost)


_adapters: dict[str, Adapter] = {}


@asynccontextmanager
async def borrow(name: str) -> AsyncIterator[Adapter]:
    """The radio of that name, opened for its first user. Raises RADIO_ERRORS when it cannot be opened."""
    adapter = _adapters.setdefault(name, Adapter(name))
    adapter.users += 1
    try:
        await adapter.power_on()
        yield adapter
    finally:
        adapter.users -= 1
        await adapter.power_off()
        if adapter.users == 0 and _adapters.get(name) is adapter:
            del _adapters[name]

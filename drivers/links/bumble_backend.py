"""bleak's backend over bumble: a Bluetooth host of our own on any HCI transport, such as a dongle or the virtual radio.

The only file that imports bumble (0.0.236); `drivers/links/adapter.py` loads it when a radio is configured so.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from bleak.args import SizedBuffer
from bleak.assigned_numbers import CharacteristicPropertyName
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError, BleakGATTProtocolError
from bumble import hci
from bumble.att import ATT_Error
from bumble.core import UUID, BaseBumbleError
from bumble.core import AdvertisingData as Ad
from bumble.device import Advertisement, Connection, Device, DeviceConfiguration, Peer
from bumble.host import Host
from bumble.keys import KeyStore, MemoryKeyStore
from bumble.transport import open_transport
from bumble.transport.common import Transport

from drivers.links.adapter import CLOSE_TIMEOUT_S, Backend

_log = logging.getLogger(__name__)

# Fills one link-layer packet of 251 bytes with the L2CAP header (Core specification vol. 6 part B §4.5.10).
ATT_MTU = 247
# A controller answers a command within milliseconds; USB and TCP add little.
COMMAND_TIMEOUT_S = 5.0

_PROPERTIES: tuple[CharacteristicPropertyName, ...] = (  # by bit: Core specification vol. 3 part G §3.3.1.1
    "broadcast",
    "read",
    "write-without-response",
    "write",
    "notify",
    "indicate",
    "authenticated-signed-writes",
    "extended-properties",
)
_SERVICE_LISTS = (
    Ad.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
    Ad.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
    Ad.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    Ad.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
)


class _Host(Host):
    """bumble's host, with commands that survive their caller.

    Stock, a cancelled command frees the channel before its answer is in, and the next command takes that answer.
    """

    async def _send_command(
        self, command: hci.HCI_SyncCommand[Any] | hci.HCI_AsyncCommand, response_timeout: float | None = None
    ) -> hci.HCI_Command_Complete_Event[Any] | hci.HCI_Command_Status_Event:
        async with asyncio.timeout(response_timeout or COMMAND_TIMEOUT_S):
            await self.command_semaphore.acquire()
            answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            answered.add_done_callback(self._free_channel)
            self.pending_response, self.pending_command = answered, command
            self.send_hci_packet(command)
            response: hci.HCI_Command_Complete_Event[Any] | hci.HCI_Command_Status_Event
            response = await asyncio.shield(answered)
            return response

    def on_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Stock renders every packet in colour for a debug log, which costs more than carrying it."""
        if isinstance(packet, hci.HCI_AclDataPacket):
            self.on_hci_acl_data_packet(packet)
        else:
            super().on_hci_packet(packet)

    def _free_channel(self, answered: asyncio.Future[Any]) -> None:
        self.pending_response = self.pending_command = None
        failed = answered.cancelled() or answered.exception() is not None
        # Zero packets allowed means: wait for the controller's word, which bumble turns into a release.
        if (failed or answered.result().num_hci_command_packets) and self.command_semaphore.locked():
            self.command_semaphore.release()


class _Identities:
    """Our address and bonds on each radio, for the life of the process: a bond belongs to the pair of them."""

    def __init__(self) -> None:
        self._by_spec: dict[str, tuple[hci.Address, KeyStore]] = {}

    def of(self, spec: str) -> tuple[hci.Address, KeyStore]:
        if spec not in self._by_spec:
            self._by_spec[spec] = (hci.Address.generate_static_address(), MemoryKeyStore())
        return self._by_spec[spec]


_identities = _Identities()


async def open_bumble(spec: str, on_lost: Callable[[], None]) -> Backend:
    """Opens the HCI transport and resets its controller. `on_lost` is called once if it breaks.

    Raises BleakError, OSError, TimeoutError.
    """
    try:
        transport = await open_transport(spec)
    except BaseBumbleError as error:
        raise BleakError(f"HCI transport {spec!r}: {error}") from error
    address, keys = _identities.of(spec)
    configuration = DeviceConfiguration(name="vitalwire", address=address, irk=secrets.token_bytes(16))
    host = _Host(controller_source=transport.source, controller_sink=transport.sink)
    device = Device(config=configuration, host=host)
    device.keystore = keys
    try:
        async with _translated():
            await device.power_on()
    except BaseException:
        await transport.close()
        raise
    device.once(Device.EVENT_FLUSH, on_lost)  # after power_on, whose reset flushes too

    class Scanner(BumbleScanner):
        radio = device

    class Client(BumbleClient):
        radio = device

    async def close() -> None:
        device.remove_all_listeners(Device.EVENT_FLUSH)
        await _close(transport)

    return Backend(scanner=Scanner, client=Client, close=close)


async def _close(transport: Transport) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await transport.close()
    except (OSError, BaseBumbleError) as error:
        _log.debug("closing HCI transport: %s", error)


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """bumble's errors in bleak's words."""
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    try:
        yield
    except ATT_Error as error:
        raise BleakGATTProtocolError(error.error_code) from error
    except BaseBumbleError as error:
        raise BleakError(str(error) or type(error).__name__) from error
    except asyncio.CancelledError as error:
        # bumble cancels what waits on a link that went away; only a cancellation of our task is ours to pass on.
        if task.cancelling() > cancellations:
            raise
        raise BleakError("disconnected") from error
    if task.cancelling() > cancellations:
        # Python 3.11's `wait_for`, which bumble uses, swallows a cancellation that meets the answer.
        raise asyncio.CancelledError


class BumbleScanner(BaseBleakScanner):
    """Scans with the device of the subclass."""

    radio: Device

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None = None,
        service_uuids: list[str] | None = None,
        scanning_mode: Literal["active", "passive"] = "active",
        **_platform: Any,  # options of other platforms
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._is_active = scanning_mode == "active"

    async def start(self) -> None:
        """Starts scanning; duplicates are reported, as each is a chance to connect."""
        self.seen_devices.clear()
        self.radio.on(Device.EVENT_ADVERTISEMENT, self._on_advertisement)
        async with _translated():
            await self.radio.start_scanning(active=self._is_active, filter_duplicates=False)

    async def stop(self) -> None:
        """Stops scanning."""
        self.radio.remove_listener(Device.EVENT_ADVERTISEMENT, self._on_advertisement)
        async with _translated():
            await self.radio.stop_scanning()

    def _on_advertisement(self, heard: Advertisement) -> None:
        data = heard.data
        lists: list[list[UUID]] = [uuids for kind in _SERVICE_LISTS for uuids in data.get_all(kind)]  # type: ignore[misc]
        services = [_text(uuid) for uuids in lists for uuid in uuids]
        if not self.is_allowed_uuid(services):
            return
        name = data.get(Ad.COMPLETE_LOCAL_NAME) or data.get(Ad.SHORTENED_LOCAL_NAME)
        advertisement = AdvertisementData(
            local_name=name,
            manufacturer_data={
                int(company): bytes(value) for company, value in data.get_all(Ad.MANUFACTURER_SPECIFIC_DATA)
            },
            service_data={
                _text(uuid): bytes(value)
                for kind in (Ad.SERVICE_DATA_16_BIT_UUID, Ad.SERVICE_DATA_128_BIT_UUID)
                for uuid, value in data.get_all(kind)
            },
            service_uuids=list(dict.fromkeys(services)),
            tx_power=data.get(Ad.TX_POWER_LEVEL),
            rssi=heard.rssi,
            platform_data=(heard,),
        )
        address = heard.address.to_string(with_type_qualifier=False)
        device = self.create_or_update_device(address, address, name, heard.address, advertisement)
        self.call_detection_callbacks(device, advertisement)


class BumbleClient(BaseBleakClient):
    """One connection made with the device of the subclass."""

    radio: Device

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        *,
        disconnected_callback: Callable[[], None] | None,
        timeout: float,
        **_platform: Any,  # options of other platforms, and the filter of services, which saves nothing here
    ) -> None:
        super().__init__(address_or_ble_device, disconnected_callback=disconnected_callback, timeout=timeout)
        if isinstance(address_or_ble_device, BLEDevice):
            self._target: hci.Address = address_or_ble_device.details
            self._name = address_or_ble_device.name or ""
        else:
            self._target = hci.Address(address_or_ble_device, hci.Address.RANDOM_DEVICE_ADDRESS)
            self._name = ""
        self._peer: Peer | None = None
        self._subscribers: dict[int, Callable[[bytes], None]] = {}

    @property
    def name(self) -> str:
        """The advertised name."""
        return self._name

    @property
    def mtu_size(self) -> int:
        """The negotiated ATT MTU."""
        return self._peer.gatt_client.mtu if self._peer is not None else 23

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands."""
        return self._peer is not None

    async def connect(self, pair: bool, **_platform: Any) -> None:
        """Connects, negotiates the MTU, bonds if asked, and discovers; gives up everything it began when cut short."""
        if self._peer is not None:
            raise BleakError("already connected")
        try:
            async with _translated(), asyncio.timeout(self._timeout):
                connection = await self.radio.connect(self._target, timeout=None)
                connection.once(Connection.EVENT_DISCONNECTION, self._on_disconnection)
                self._peer = Peer(connection)
                await self._peer.request_mtu(ATT_MTU)
                if pair:
                    await self._bond(connection)
                self.services = await self._discover(self._peer)
        except BaseException:
            await self._abandon()
            raise

    async def _abandon(self) -> None:
        """Takes back a connection, or the wish for one: a controller left wishing refuses the next."""
        self._disconnected_callback = None
        try:
            async with _translated():
                await self.radio.host.send_command(hci.HCI_LE_Create_Connection_Cancel_Command())
                connection = self.radio.find_connection_by_bd_addr(self._target)
                if connection is not None:
                    await connection.disconnect()
        except (BleakError, OSError, TimeoutError) as error:
            _log.debug("abandoning %s: %s", self.address, error)

    def _on_disconnection(self, _reason: int) -> None:
        self._peer = None
        self._subscribers.clear()
        self.services = None
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def _bond(self, connection: Connection) -> None:
        """Encrypts with the bond we have, else makes one."""
        keys = self.radio.keystore
        peer = str(connection.peer_address)
        if keys is not None and await keys.get(peer) is not None:
            try:
                await connection.encrypt()
            except BaseBumbleError:  # the device has forgotten us
                await keys.delete(peer)
            else:
                return
        await connection.pair()

    async def _discover(self, peer: Peer) -> BleakGATTServiceCollection:
        """Services and characteristics; descriptors wait until a subscription needs them, as each is a round trip."""
        found = BleakGATTServiceCollection()
        for service in await peer.discover_services():
            bleak_service = BleakGATTService(service, service.handle, _text(service.uuid))
            found.add_service(bleak_service)
            for characteristic in await peer.discover_characteristics(service=service):
                properties = [name for bit, name in enumerate(_PROPERTIES) if int(characteristic.properties) >> bit & 1]
                bleak_characteristic = BleakGATTCharacteristic(
                    characteristic,
                    characteristic.handle,
                    _text(characteristic.uuid),
                    properties,
                    lambda: self.mtu_size - 3,
                    bleak_service,
                )
                found.add_characteristic(bleak_characteristic)
        return found

    async def disconnect(self) -> None:
        """Disconnects, if connected."""
        if self._peer is not None:
            async with _translated():
                await self._peer.connection.disconnect()

    async def pair(self, *_arguments: Any, **_platform: Any) -> None:
        """Bonds (Just Works)."""
        async with self._connected() as peer:
            await self._bond(peer.connection)

    async def unpair(self) -> None:
        """Forgets the bond."""
        if self.radio.keystore is not None:
            await self.radio.keystore.delete(str(self._target))

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_platform: Any
    ) -> bytearray:
        """The characteristic's value, always from the device."""
        async with self._connected():
            return bytearray(await characteristic.obj.read_value())

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_platform: Any
    ) -> bytearray:
        """The descriptor's value, always from the device."""
        async with self._connected():
            return bytearray(await descriptor.obj.read_value())

    async def write_gatt_char(self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool) -> None:
        """Writes the characteristic's value."""
        async with self._connected():
            await characteristic.obj.write_value(bytes(data), with_response=response)

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        """Writes the descriptor's value."""
        async with self._connected():
            await descriptor.obj.write_value(bytes(data), with_response=True)

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_platform: Any
    ) -> None:
        """Subscribes, preferring notifications where the characteristic has both."""

        def on_value(value: bytes) -> None:
            callback(bytearray(value))

        async with self._connected():
            self._subscribers[characteristic.handle] = on_value
            await characteristic.obj.subscribe(on_value, prefer_notify=True)

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        """Unsubscribes."""
        on_value = self._subscribers.pop(characteristic.handle, None)
        if on_value is not None:
            async with self._connected():
                await characteristic.obj.unsubscribe(on_value)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Peer]:
        if self._peer is None:
            raise BleakError("not connected")
        async with _translated():
            yield self._peer


def _text(uuid: UUID) -> str:
    """bumble keeps UUIDs little-endian; bleak writes them in full."""
    digits = uuid.to_bytes(force_128=True)[::-1].hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

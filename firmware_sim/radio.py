"""The virtual radio: twins that advertise and notify on one simulated air, and an HCI controller for each edge.

An edge connects by TCP ("bumble:tcp-client:host:port") and finds a Bluetooth controller of its own. When its socket
closes, its links break as if it had left the room. bumble 0.0.236's virtual controller, with its gaps closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection as DeviceConnection
from bumble.device import Device, DeviceConfiguration
from bumble.gatt import Service
from bumble.hci import Address, HCI_ErrorCode
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, StreamPacketSource

_log = logging.getLogger(__name__)

# Bluetooth's longest link-layer payload (Core specification vol. 6 part B §2.4); stock 27 splits every notification.
LINK_LAYER_BYTES = 251
# An HCI host that has not read this much (seconds of the busiest twin) is dead or stopped: its socket is closed.
HOST_BACKLOG_BYTES = 1 << 20
# The fastest the specification allows (Core vol. 6 part B §4.4.2.2.1), so that tests and demos connect at once.
ADVERTISING_INTERVAL_MS = 20.0


class Peripheral(Protocol):
    """A twin on the air: what it advertises and offers, and what it does as long as it lives."""

    @property
    def name(self) -> str:
        """The advertised name, clearly a simulated one."""
        ...

    @property
    def address(self) -> str:
        """A static random address, such as C0:FF:EE:00:00:01."""
        ...

    @property
    def advertised_services(self) -> Sequence[str]:
        """16-bit UUIDs."""
        ...

    def services(self) -> list[Service]:
        """Its GATT services, called once."""
        ...

    async def run(self, device: Device) -> None:
        """Its life; cancelled when the radio closes."""
        ...


class VirtualController(Controller):
    """A controller that also forgets pending connections, loses links, and refuses what it cannot serve."""

    le_acl_data_packet_length = LINK_LAYER_BYTES
    acl_data_packet_length = LINK_LAYER_BYTES
    supported_max_tx_octets = LINK_LAYER_BYTES
    supported_max_rx_octets = LINK_LAYER_BYTES
    suggested_max_tx_octets = LINK_LAYER_BYTES

    def on_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Stock renders every packet in colour for a debug log, which costs more than carrying it."""
        if isinstance(packet, hci.HCI_AclDataPacket):
            self.on_hci_acl_data_packet(packet)
        else:
            super().on_hci_packet(packet)

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """As stock, unrendered."""
        if self.host is not None:
            asyncio.get_running_loop().call_soon(self.host.on_packet, bytes(packet))

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Core specification vol. 4 part E §7.8.13: the pending connection completes, failed. Stock forgets to."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.send_hci_packet(
            hci.HCI_LE_Connection_Complete_Event(
                status=HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=pending.peer_address.address_type,
                peer_address=pending.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
        )
        return hci.HCI_StatusReturnParameters(HCI_ErrorCode.SUCCESS)

    def on_le_connect_ind(self, packet: ll.ConnectInd) -> None:
        """Of two centrals that answer one advertisement the second gets no link. Stock leaves it waiting for ever."""
        super().on_le_connect_ind(packet)
        is_ours = packet.advertiser_address in (self.random_address, self.public_address)
        if is_ours and packet.initiator_address not in self.le_connections:
            self.link.send_ll_control_pdu(
                sender_address=packet.advertiser_address,
                receiver_address=packet.initiator_address,
                packet=ll.TerminateInd(HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR),
            )

    def lose_links(self) -> None:
        """Radio silence: both ends of every connection see their supervision timeout (0x08), at once."""
        for connection in tuple(self.le_connections.values()):
            other = self.link.find_le_controller(connection.peer_address)
            self.on_le_disconnected(connection, HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
            if other is not None and (mirror := other.le_connections.get(connection.self_address)) is not None:
                other.on_le_disconnected(mirror, HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)

    def leave(self) -> None:
        """Off the air for good."""
        self.pending_le_connection = None
        self.le_scan_enable = False
        self.le_legacy_advertiser.stop()
        for advertising_set in self.advertising_sets.values():
            advertising_set.stop()
        self.lose_links()
        self.set_packet_sink(None)
        self.link.remove_controller(self)


class _HciSocket(StreamPacketSource):
    """One edge's HCI transport, from our side: a controller that lives as long as the socket."""

    def __init__(self, air: LocalLink, hosts: set[_HciSocket]) -> None:
        super().__init__()
        self._air = air
        self._hosts = hosts
        self._transport: asyncio.Transport | None = None
        self._controller: VirtualController | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._controller = VirtualController(f"edge {peer}", host_source=self, host_sink=self, link=self._air)
        self.set_packet_sink(self._controller)
        self._hosts.add(self)
        _log.info("HCI host %s connected", peer)

    def on_packet(self, packet: bytes) -> None:
        """From the controller to the edge."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > HOST_BACKLOG_BYTES:
            _log.warning("HCI host does not read: socket closed")
            self._transport.abort()
        else:
            self._transport.write(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hosts.discard(self)
        if self._controller is not None:
            self._controller.leave()
            _log.info("%s left: %s", self._controller.name, exc or "closed")

    def abort(self) -> None:
        """Closes the socket without a word."""
        if self._transport is not None:
            self._transport.abort()


class Radio:
    """The air, the twins on it, and the socket where edges find it. Made by `Radio.open`."""

    def __init__(self, life: asyncio.TaskGroup) -> None:
        self.address = ""
        self._life = life
        self._air = LocalLink()  # type: ignore[no-untyped-call]  # bumble leaves it untyped
        self._hosts: set[_HciSocket] = set()
        self._controllers: dict[str, VirtualController] = {}
        self._twins: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, listen: str = "127.0.0.1:0") -> AsyncIterator[Radio]:
        """Listens for HCI hosts; port 0 takes a free one, named by `address`. The twins end with the body."""
        host, _, port = listen.rpartition(":")
        async with asyncio.TaskGroup() as life:
            radio = cls(life)
            server = await asyncio.get_running_loop().create_server(radio._new_socket, host, int(port))
            bound = server.sockets[0].getsockname()
            radio.address = f"{bound[0]}:{bound[1]}"
            try:
                yield radio
            finally:
                server.close()
                await radio._close()

    async def add(self, peripheral: Peripheral) -> None:
        """Puts a twin on the air: from now on it runs, and advertises whenever it is not connected."""
        controller = VirtualController(peripheral.name, link=self._air)
        configuration = DeviceConfiguration(name=peripheral.name, address=Address(peripheral.address))
        configuration.advertising_interval_min = configuration.advertising_interval_max = ADVERTISING_INTERVAL_MS
        device = Device(config=configuration, host=Host(controller, AsyncPipeSink(controller)))
        device.add_services(peripheral.services())
        await device.power_on()
        self._controllers[peripheral.address] = controller
        advertising = _advertise_when_free(device, _advertising_data(peripheral))
        self._twins.append(self._life.create_task(advertising, name=f"advertise {peripheral.name}"))
        self._twins.append(self._life.create_task(peripheral.run(device), name=f"twin {peripheral.name}"))

    def lose_links(self, peripheral: Peripheral) -> None:
        """The twin falls silent for a moment: its connections time out on both ends, then it advertises again."""
        self._controllers[peripheral.address].lose_links()

    @property
    def host_count(self) -> int:
        """How many edges are connected."""
        return len(self._hosts)

    def drop_hosts(self) -> None:
        """Every edge loses its radio, as when a dongle is pulled out; it may come back at once."""
        for hci_socket in tuple(self._hosts):
            hci_socket.abort()

    def _new_socket(self) -> _HciSocket:
        return _HciSocket(self._air, self._hosts)

    async def _close(self) -> None:
        self.drop_hosts()
        while self._twins:
            # Repeated, because bumble waits with `wait_for`, whose 3.11 swallows a cancellation that meets the answer.
            for task in self._twins:
                task.cancel()
            _, still_running = await asyncio.wait(self._twins, timeout=0.1)
            self._twins = list(still_running)
        for controller in self._controllers.values():
            controller.leave()


async def run(listen: str, peripherals: Iterable[Peripheral]) -> None:
    """A radio with these twins, until cancelled."""
    async with Radio.open(listen) as radio:
        for peripheral in peripherals:
            await radio.add(peripheral)
        _log.info("radio on %s", radio.address)
        await asyncio.Event().wait()


async def _advertise_when_free(device: Device, data: bytes) -> None:
    """A real sensor takes one central and is silent meanwhile."""
    freed = asyncio.Event()

    def on_connection(connection: DeviceConnection) -> None:
        connection.once(DeviceConnection.EVENT_DISCONNECTION, lambda _reason: freed.set())

    device.on(Device.EVENT_CONNECTION, on_connection)
    while True:
        freed.clear()
        await device.start_advertising(advertising_data=data)
        await freed.wait()


def _advertising_data(peripheral: Peripheral) -> bytes:
    """Core specification supplement part A: flags (general discoverable, no BR/EDR), services, name."""
    services = b"".join(bytes(UUID(uuid)) for uuid in peripheral.advertised_services)
    return bytes(
        AdvertisingData(
            [
                (AdvertisingData.FLAGS, bytes([0x06])),
                (AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, services),
                (AdvertisingData.COMPLETE_LOCAL_NAME, peripheral.name.encode()),
            ]
        )
    )

"""How fast a Bluetooth link comes back after a loss, and how many notifications it carries, beside bumble alone.

The virtual radio runs in a process of its own; both sides reach it by HCI over TCP.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection as Pipe

from bumble.core import UUID
from bumble.device import Device, DeviceConfiguration, Peer
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.hci import Address
from bumble.transport import open_transport

from drivers.driver import LinkLost
from drivers.links.gatt import GattOptions, open_gatt
from firmware_sim.radio import Radio
from wire.clock import SystemClock

RECONNECTS = 30
NOTIFICATIONS = 3000
PAYLOAD_BYTES = 240  # fills a notification at MTU 247 but for a little
WINDOW = 512  # notifications on the way at most, so that no queue overflows
SILENCE_S = 10.0

NAME = "vitalwire SIM bench"
ADDRESS = "C0:FF:EE:00:00:BE"
SERVICE = "FF00"
FLOW = "FF01"  # notifies
COMMAND = "FF02"  # HANG_UP, or how many notifications more may come (u16)
HANG_UP = b"\xff"


class Firehose:
    """A twin that notifies as fast as its reader allows, and hangs up when told to."""

    name = NAME
    address = ADDRESS
    advertised_services = (SERVICE,)

    def __init__(self) -> None:
        self._allowed = 0
        self._changed = asyncio.Event()
        self._must_hang_up = False
        self._flow = Characteristic[bytes](FLOW, Characteristic.Properties.NOTIFY, Characteristic.Permissions(0), b"")

    def services(self) -> list[Service]:
        """Flow and command."""
        command = Characteristic[bytes](
            COMMAND,
            Characteristic.Properties.WRITE | Characteristic.Properties.WRITE_WITHOUT_RESPONSE,
            Characteristic.Permissions.WRITEABLE,
            CharacteristicValue[bytes](write=self._on_command),
        )
        return [Service(SERVICE, [self._flow, command])]

    def _on_command(self, _connection: object, value: bytes) -> None:
        if value == HANG_UP:
            self._must_hang_up = True
            self._allowed = 0
        else:
            self._allowed += int.from_bytes(value, "little")
        self._changed.set()

    async def run(self, device: Device) -> None:
        """Notifies and hangs up."""
        payload = bytes(PAYLOAD_BYTES)
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._allowed > 0:
                self._allowed -= 1
                await device.gatt_server.notify_subscribers(self._flow, payload)
                if self._allowed % 8 == 0:
                    await asyncio.sleep(0)
            if self._must_hang_up:
                self._must_hang_up = False
                for connection in tuple(device.connections.values()):
                    await connection.disconnect()


async def _serve(pipe: Pipe) -> None:
    async with Radio.open() as radio:
        await radio.add(Firehose())
        pipe.send(radio.address)
        await asyncio.Event().wait()


def _radio_process(pipe: Pipe) -> None:
    asyncio.run(_serve(pipe))


def _credit(count: int) -> bytes:
    return count.to_bytes(2, "little")


async def _reconnect(options: GattOptions, times: int) -> list[float]:
    """Seconds from each lost link to the first notification over the next one."""
    clock = SystemClock()
    took_s: list[float] = []
    lost_at_s: float | None = None
    for _ in range(times + 1):
        async with open_gatt(options, clock) as link:
            flow = link.notifications([FLOW], SILENCE_S)
            await link.subscribe([FLOW])
            await link.write(COMMAND, _credit(1))
            await anext(flow)
            if lost_at_s is not None:
                took_s.append(time.perf_counter() - lost_at_s)
            await link.write(COMMAND, HANG_UP, response=False)
            try:
                await anext(flow)
            except LinkLost:
                lost_at_s = time.perf_counter()
    return took_s


async def _through_our_link(options: GattOptions, count: int) -> float:
    """Notifications per second through `open_gatt`."""
    async with open_gatt(options, SystemClock()) as link:
        flow = link.notifications([FLOW], SILENCE_S)
        await link.subscribe([FLOW])
        started_s = time.perf_counter()
        await link.write(COMMAND, _credit(WINDOW), response=False)
        for number in range(1, count + 1):
            notification = await anext(flow)
            assert not notification.lost_before, "the window is to keep the queue from overflowing"
            if number % (WINDOW // 2) == 0:
                await link.write(COMMAND, _credit(WINDOW // 2), response=False)
        return count / (time.perf_counter() - started_s)


async def _through_bare_bumble(address: str, count: int) -> float:
    """Notifications per second by bumble's own GATT client, on the same radio."""
    async with await open_transport(f"tcp-client:{address}") as transport:
        configuration = DeviceConfiguration(name="bare", address=Address.generate_static_address())
        device = Device.from_config_with_hci(configuration, transport.source, transport.sink)
        await device.power_on()
        peer = Peer(await device.connect(Address(ADDRESS)))
        await peer.request_mtu(247)
        await peer.discover_services()
        await peer.discover_characteristics()
        (flow,) = peer.get_characteristics_by_uuid(UUID(FLOW))
        (command,) = peer.get_characteristics_by_uuid(UUID(COMMAND))
        received = asyncio.Semaphore(0)
        await peer.subscribe(flow, lambda _value: received.release())
        started_s = time.perf_counter()
        await command.write_value(_credit(WINDOW))
        for number in range(1, count + 1):
            await asyncio.wait_for(received.acquire(), SILENCE_S)
            if number % (WINDOW // 2) == 0:
                await command.write_value(_credit(WINDOW // 2))
        return count / (time.perf_counter() - started_s)


async def _measure(address: str) -> dict[str, object]:
    options = GattOptions(address=ADDRESS, adapter=f"bumble:tcp-client:{address}")
    took_s = sorted(await _reconnect(options, RECONNECTS))
    # Twice, in turn, and the better of each: the machine is never quiet.
    bare, ours = [], []
    for _ in range(2):
        bare.append(await _through_bare_bumble(address, NOTIFICATIONS))
        ours.append(await _through_our_link(options, NOTIFICATIONS))
    return {
        "reconnect_p50_s": round(statistics.median(took_s), 4),
        "reconnect_p99_s": round(took_s[min(len(took_s) - 1, int(len(took_s) * 0.99))], 4),
        "reconnects": len(took_s),
        "notifications_per_s": round(max(ours)),
        "bare_notifications_per_s": round(max(bare)),
        "payload_bytes": PAYLOAD_BYTES,
    }


def run(_arguments: argparse.Namespace) -> dict[str, object]:
    """The `ble` benchmark: link loss to first notification, and notifications of 240 bytes per second."""
    ours, theirs = multiprocessing.Pipe()
    radio = multiprocessing.get_context("spawn").Process(target=_radio_process, args=(theirs,), daemon=True)
    radio.start()
    try:
        if not ours.poll(30):
            raise TimeoutError("the radio did not start in 30 s")
        return asyncio.run(_measure(ours.recv()))
    finally:
        radio.terminate()
        radio.join()

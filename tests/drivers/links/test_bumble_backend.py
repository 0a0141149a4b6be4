"""The bumble backend: what must hold of a Bluetooth host whose users are cancelled, killed and rivalled."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakError
from bumble.device import Device
from bumble.gatt import Characteristic, Service
from bumble.hci import HCI_Read_BD_ADDR_Command

from drivers.driver import LinkLost
from drivers.links.adapter import Backend
from drivers.links.bumble_backend import ATT_MTU, open_bumble
from drivers.links.gatt import GattOptions, open_gatt
from firmware_sim.ble.heart_rate import ADDRESS, HeartRateSensor
from firmware_sim.radio import Radio
from wire.clock import SystemClock

CLOCK = SystemClock()
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def radio() -> AsyncIterator[Radio]:
    async with Radio.open() as radio:
        yield radio


@pytest.fixture
async def backend(radio: Radio) -> AsyncIterator[Backend]:
    backend = await open_bumble(f"tcp-client:{radio.address}", lambda: None)
    assert backend.close is not None
    yield backend
    await backend.close()


async def connect(backend: Backend) -> BleakClient:
    device = await BleakScanner.find_device_by_address(ADDRESS, timeout=3.0, backend=backend.scanner)  # type: ignore[arg-type]
    assert device is not None
    client = BleakClient(device, backend=backend.client)
    await client.connect()
    return client


class Thermometer:
    """Indicates 128 bytes, over and over."""

    name = "vitalwire SIM indicator"
    address = ADDRESS
    advertised_services = ("1809",)

    def __init__(self) -> None:
        self._value = Characteristic[bytes](
            "2A1C", Characteristic.Properties.INDICATE, Characteristic.Permissions(0), b""
        )

    def services(self) -> list[Service]:
        return [Service("1809", [self._value])]

    async def run(self, device: Device) -> None:
        while True:
            await asyncio.sleep(0.02)
            await device.gatt_server.indicate_subscribers(self._value, bytes(range(128)))


async def test_indications_are_confirmed_and_arrive_whole(radio: Radio, backend: Backend) -> None:
    await radio.add(Thermometer())
    client = await connect(backend)
    assert client.mtu_size == ATT_MTU
    values: asyncio.Queue[bytes] = asyncio.Queue()
    await client.start_notify("2a1c", lambda _sender, value: values.put_nowait(bytes(value)))
    for _ in range(2):  # the second comes only after the first was confirmed
        assert await asyncio.wait_for(values.get(), 3) == bytes(range(128))
    await client.stop_notify("2a1c")
    await client.disconnect()
    assert not client.is_connected


async def test_an_unexpected_end_is_told_and_fails_what_waits(radio: Radio, backend: Backend) -> None:
    strap = HeartRateSensor(CLOCK, lambda: 72.0)
    await radio.add(strap)
    gone = asyncio.Event()
    client = await connect(backend)
    client._backend.set_disconnected_callback(gone.set)
    radio.lose_links(strap)
    with pytest.raises(BleakError):
        await client.read_gatt_char("2a38")
    await asyncio.wait_for(gone.wait(), 3)
    assert not client.is_connected


async def test_an_answer_never_goes_to_the_next_command(radio: Radio, backend: Backend) -> None:
    host = backend.client.radio.host  # type: ignore[union-attr]
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await host.send_sync_command(HCI_Read_BD_ADDR_Command())
        answer = await host.send_command(HCI_Read_BD_ADDR_Command())
        assert answer.command_opcode == HCI_Read_BD_ADDR_Command.op_code


async def test_a_missing_radio_is_an_error_of_the_system(radio: Radio) -> None:
    with pytest.raises(OSError, match=r"."):
        await open_bumble("tcp-client:127.0.0.1:1", lambda: None)
    with pytest.raises(BleakError):
        await open_bumble("carrier-pigeon:1", lambda: None)


async def test_of_two_edges_one_gets_the_device_and_the_other_gets_it_later(radio: Radio) -> None:
    await radio.add(HeartRateSensor(CLOCK, lambda: 72.0, period_s=0.05))
    taken, release = asyncio.Event(), asyncio.Event()

    async def edge(spec: str) -> None:
        options = GattOptions(address=ADDRESS, adapter=f"bumble:{spec}")
        while True:
            try:
                async with open_gatt(options, CLOCK) as link:
                    await anext(link.notifications(["2a37"], 2))
                    if not taken.is_set():
                        taken.set()
                        await release.wait()
                    return
            except LinkLost:
                continue  # both answered the same advertisement: the loser tries again, as a session does

    # Two spellings of the same radio make two adapters, so two HCI hosts and two controllers.
    host, port = radio.address.split(":")
    async with asyncio.TaskGroup() as edges:
        edges.create_task(edge(f"tcp-client:{host}:{port}"), name="one")
        edges.create_task(edge(f"tcp-client:localhost:{port}"), name="other")
        await taken.wait()
        release.set()


EDGE = """
import asyncio, sys
from drivers.links.gatt import GattOptions, open_gatt
from wire.clock import SystemClock

async def main() -> None:
    options = GattOptions(address=sys.argv[1], adapter=f"bumble:tcp-client:{sys.argv[2]}")
    async with open_gatt(options, SystemClock()) as link:
        await anext(link.notifications(["2a37"], 5))
        print("connected", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.timeout(60)  # starts a Python process on a busy machine
async def test_a_killed_edge_frees_its_device(radio: Radio) -> None:
    await radio.add(HeartRateSensor(CLOCK, lambda: 72.0, period_s=0.05))
    edge = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EDGE, ADDRESS, radio.address, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert edge.stdout is not None
    assert await asyncio.wait_for(edge.stdout.readline(), 30) == b"connected\n"
    edge.send_signal(signal.SIGKILL)
    await edge.wait()
    async with asyncio.timeout(5):
        async with open_gatt(GattOptions(address=ADDRESS, adapter=f"bumble:tcp-client:{radio.address}"), CLOCK) as link:
            await anext(link.notifications(["2a37"], 2))

"""The GATT link over the real stack: bleak, our bumble backend, HCI over TCP, and the virtual radio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from drivers.driver import LinkLost
from drivers.links import gatt
from drivers.links.gatt import GattLink, GattOptions, Refused, open_gatt, scan
from firmware_sim.ble.heart_rate import ADDRESS, HEART_RATE_SERVICE, NAME, HeartRateSensor
from firmware_sim.radio import Radio
from wire.clock import SystemClock

MEASUREMENT = "2a37"
CLOCK = SystemClock()


@pytest.fixture
async def radio() -> AsyncIterator[Radio]:
    async with Radio.open() as radio:
        yield radio


@pytest.fixture
async def strap(radio: Radio) -> HeartRateSensor:
    strap = HeartRateSensor(CLOCK, lambda: 72.0, period_s=0.05)
    await radio.add(strap)
    return strap


def options(radio: Radio, *, pair: bool = False, connect_timeout_s: float = 20.0) -> GattOptions:
    return GattOptions(
        address=ADDRESS,
        adapter=f"bumble:tcp-client:{radio.address}",
        pair=pair,
        connect_timeout_s=connect_timeout_s,
    )


async def first_notification(link: GattLink) -> gatt.Notification:
    return await anext(link.notifications([MEASUREMENT], silence_s=2.0))


async def test_a_scan_names_the_devices_on_air(radio: Radio, strap: HeartRateSensor) -> None:
    (found,) = await scan(f"bumble:tcp-client:{radio.address}", 0.2)
    assert (found.address, found.name) == (ADDRESS, NAME)
    assert found.offers(HEART_RATE_SERVICE)
    assert not found.offers("1810")


async def test_values_are_read_and_notified_with_their_arrival(radio: Radio, strap: HeartRateSensor) -> None:
    async with open_gatt(options(radio), CLOCK) as link:
        assert link.address == ADDRESS
        assert await link.read("2a38") == b"\x01"
        assert link.has("2a19")
        assert not link.has("2a35")
        before_us = CLOCK.now_us()
        first = await first_notification(link)
        assert first.uuid == MEASUREMENT
        assert first.value[1] == 72
        assert before_us <= first.arrival_us <= CLOCK.now_us()
        assert first.arrival_mono_us <= CLOCK.monotonic_us()


async def test_the_device_is_found_by_name_and_service_too(radio: Radio, strap: HeartRateSensor) -> None:
    both = GattOptions(name=NAME, service="180d", adapter=f"bumble:tcp-client:{radio.address}")
    async with open_gatt(both, CLOCK) as link:
        assert link.address == ADDRESS


async def test_a_bond_is_made_and_used_again(radio: Radio, strap: HeartRateSensor) -> None:
    for _ in range(2):
        async with open_gatt(options(radio, pair=True), CLOCK) as link:
            assert await link.read("2a38") == b"\x01"


async def test_a_refusal_leaves_the_link_standing(radio: Radio, strap: HeartRateSensor) -> None:
    async with open_gatt(options(radio), CLOCK) as link:
        with pytest.raises(Refused):
            await link.read("2a35")
        with pytest.raises(Refused):
            await link.write("2a39", b"\x02")
        await link.write("2a39", b"\x01")


async def test_link_loss_is_told_and_the_device_found_again(radio: Radio, strap: HeartRateSensor) -> None:
    async with open_gatt(options(radio), CLOCK) as link:
        await first_notification(link)
        radio.lose_links(strap)
        with pytest.raises(LinkLost, match="disconnected"):
            await drain(link)
        with pytest.raises(LinkLost):
            await link.read("2a38")
    async with open_gatt(options(radio), CLOCK) as link:
        await first_notification(link)


async def drain(link: GattLink) -> None:
    async for _ in link.notifications([MEASUREMENT], silence_s=2.0):
        pass


async def test_silence_of_a_connected_device_is_a_lost_link(radio: Radio) -> None:
    await radio.add(HeartRateSensor(CLOCK, lambda: 72.0, period_s=3600.0))
    async with open_gatt(options(radio), CLOCK) as link:
        with pytest.raises(LinkLost, match="no data"):
            await anext(link.notifications([MEASUREMENT], silence_s=0.1))


async def test_losing_the_radio_itself_is_a_lost_link() -> None:
    async with Radio.open() as radio:
        await radio.add(HeartRateSensor(CLOCK, lambda: 72.0, period_s=0.05))
        adapter = options(radio)
        async with open_gatt(adapter, CLOCK) as link:
            await first_notification(link)
            radio.drop_hosts()
            with pytest.raises(LinkLost):
                await drain(link)
        async with open_gatt(adapter, CLOCK) as link:
            await first_notification(link)
    with pytest.raises(LinkLost, match="open"):
        async with open_gatt(adapter, CLOCK):
            pytest.fail("there is no radio any more")


async def test_two_links_share_one_radio_and_take_a_device_each(radio: Radio) -> None:
    for address in ("C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"):
        await radio.add(HeartRateSensor(CLOCK, lambda: 72.0, address=address, period_s=0.05))
    any_strap = GattOptions(service="180d", adapter=f"bumble:tcp-client:{radio.address}")
    async with open_gatt(any_strap, CLOCK) as one, open_gatt(any_strap, CLOCK) as other:
        assert {one.address, other.address} == {"C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"}
        await first_notification(one)
        await first_notification(other)
        assert radio.host_count == 1


async def test_links_opened_at_once_do_not_disturb_each_other(radio: Radio) -> None:
    addresses = [f"C0:FF:EE:00:00:0{number}" for number in range(1, 5)]
    for address in addresses:
        await radio.add(HeartRateSensor(CLOCK, lambda: 72.0, address=address, period_s=0.05))
    adapter = f"bumble:tcp-client:{radio.address}"

    async def hear(address: str) -> str:
        async with open_gatt(GattOptions(address=address, adapter=adapter), CLOCK) as link:
            await first_notification(link)
            return link.address

    async with asyncio.TaskGroup() as links:
        heard = [links.create_task(hear(address), name=address) for address in addresses]
    assert [task.result() for task in heard] == addresses


async def test_a_cancelled_search_or_connect_does_not_hang(radio: Radio) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), open_gatt(options(radio), CLOCK):
            pytest.fail("nothing is on air yet")
    strap = HeartRateSensor(CLOCK, lambda: 72.0, period_s=0.05)
    await radio.add(strap)
    # Cut short at every stage from opening the radio to discovery, then once to the end.
    for stage in range(1, 12):
        try:
            async with asyncio.timeout(0.02 * stage), open_gatt(options(radio), CLOCK):
                break
        except TimeoutError:
            continue
    async with open_gatt(options(radio), CLOCK) as link:
        await first_notification(link)


def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    async def overflow() -> list[gatt.Notification]:
        link = GattLink(client=None, clock=CLOCK)  # type: ignore[arg-type]  # not used: the queue alone is tested
        for number in range(gatt.QUEUE_LIMIT + 3):
            link._on_notification(MEASUREMENT, number.to_bytes(2, "little"))
        link.lose("disconnected")
        return [await link.next_notification(1.0) for _ in range(gatt.QUEUE_LIMIT)]

    received = asyncio.run(overflow())
    assert received[0].value == (3).to_bytes(2, "little")
    assert received[0].lost_before == 3
    assert sum(notification.lost_before for notification in received) == 3


async def test_what_was_notified_before_a_disconnect_is_still_delivered() -> None:
    link = GattLink(client=None, clock=CLOCK)  # type: ignore[arg-type]  # not used: the queue alone is tested
    link._on_notification(MEASUREMENT, b"\x00\x48")
    link.lose("disconnected")
    assert (await link.next_notification(1.0)).value == b"\x00\x48"
    with pytest.raises(LinkLost, match="disconnected"):
        await link.next_notification(1.0)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "at least one of address, name, service"),
        ({"address": "C0:FF:EE"}, "not like"),
        ({"name": "x", "adapter": "hci0"}, "allowed: bluez"),
        ({"service": "heart"}, "UUID"),
        ({"name": "x", "adress": "C0:FF:EE:00:00:01"}, "adress"),
        ({"name": "x", "connect_timeout_s": 0}, "connect_timeout_s"),
    ],
)
def test_wrong_options_are_refused_at_the_desk(table: dict[str, object], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(table, GattOptions)

"""What only a broker of the site does, over a real Mosquitto."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiomqtt
import pytest

from cloud.bus.bus import Delivery
from cloud.bus.mqtt import WINDOW, MqttBus, live_queue
from cloud.config import CloudConfig
from cloud.counters import Counters
from tests.cloud.cloud_frames import gateway_client
from tests.cloud.sites import Site, open_site
from wire import topics
from wire.messages import Lane

HELLO = b"are you there"


async def connected(bus: MqttBus, site: Site) -> asyncio.Task[None]:
    """Runs a bus until a message of gw-2 has come through it."""
    task = asyncio.create_task(bus.run())
    async with asyncio.timeout(10), gateway_client(site.config, "gw-2") as client:
        while True:
            await client.publish(topics.up("gw-2", Lane.BULK), HELLO, qos=1)
            try:
                async with asyncio.timeout(0.3):
                    await bus.settle(await bus.take(most=WINDOW, most_bytes=1 << 20))
                    return task
            except TimeoutError:
                continue


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(40)
async def test_a_store_that_stands_still_leaves_the_rest_with_the_broker(mosquitto_site: Site) -> None:
    counters = Counters()
    bus = MqttBus(mosquitto_site.config.broker, counters)
    task = await connected(bus, mosquitto_site)
    sent = [b"%d" % number for number in range(WINDOW + 60)]
    await publish_at_once(mosquitto_site, sent, qos=1)
    held: list[Delivery] = []
    while len(held) < WINDOW:
        held += await bus.take(most=WINDOW, most_bytes=1 << 20)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await bus.take(most=1, most_bytes=1)
    taken = [*held]
    while taken[-1].payload != sent[-1]:
        await bus.settle(held)
        held = await bus.take(most=WINDOW, most_bytes=1 << 20)
        taken += held
    assert [delivery.payload for delivery in taken if delivery.payload != HELLO] == sent
    assert not counters["bus_overrun"]
    await ended(task)


@pytest.mark.timeout(40)
async def test_a_flood_outside_the_brokers_window_is_dropped_and_counted(mosquitto_site: Site) -> None:
    counters = Counters()
    bus = MqttBus(mosquitto_site.config.broker, counters)
    task = await connected(bus, mosquitto_site)
    await publish_at_once(mosquitto_site, [b"flood"] * (WINDOW + 60), qos=0)
    async with asyncio.timeout(10):
        while counters["bus_overrun"] < 60:
            await asyncio.sleep(0.01)
    assert len(await bus.take(most=10 * WINDOW, most_bytes=1 << 20)) == WINDOW
    await ended(task)


async def publish_at_once(site: Site, payloads: list[bytes], *, qos: int) -> None:
    async with gateway_client(site.config, "gw-1") as client:
        client.pending_calls_threshold = len(payloads)
        topic = topics.up("gw-1", Lane.ROUTINE)
        await asyncio.gather(*(client.publish(topic, payload, qos=qos) for payload in payloads))


async def test_live_frames_nobody_reads_make_room_for_newer_ones() -> None:
    counters = Counters()
    queue = live_queue(counters)(maxsize=2)
    for number in range(5):
        queue.put_nowait(aiomqtt.Message("vw/1/gw-1/status", b"%d" % number, 0, False, 0, None))
    assert [queue.get_nowait().payload for _ in range(queue.qsize())] == [b"3", b"4"]
    assert counters["live_frames_dropped"] == 3


async def test_a_gateway_reaches_only_its_own_topics(mosquitto_site: Site) -> None:
    config = mosquitto_site.config
    heard: asyncio.Queue[str] = asyncio.Queue()
    bus = MqttBus(config.broker, Counters())
    await bus.listen(lambda subject, payload: heard.put_nowait(subject))
    task = await connected(bus, mosquitto_site)
    async with gateway_client(config, "gw-1") as one, gateway_client(config, "gw-2") as two:
        await one.subscribe("#")
        await one.subscribe(topics.commands("gw-2"))
        await two.subscribe("#")
        forged = (
            topics.up("gw-2", Lane.BULK),
            topics.status("gw-2"),
            topics.receipts("gw-1"),
            topics.receipts("gw-2"),
            topics.commands("gw-2"),
            "vw/1/gw-1/up",
        )
        while not heard.empty():
            heard.get_nowait()
        for topic in forged:
            await one.publish(topic, b"forged", qos=0)
        await one.publish(topics.up("gw-1", Lane.BULK), b"mine", qos=1)
        await one.publish(topics.status("gw-1"), b"mine", qos=1)
        async with asyncio.timeout(5):
            assert [await heard.get(), await heard.get()] == ["vw.1.gw-1.up.bulk", "vw.1.gw-1.status"]
        # What they read is theirs, although they asked for all.
        for client, gateway, other in ((one, "gw-1", two), (two, "gw-2", one)):
            async with cloud_client(config) as cloud:
                await cloud.publish(topics.commands(gateway), b"to " + gateway.encode(), qos=1)
            async with asyncio.timeout(5):
                message = await anext(aiter(client.messages))
            assert message.payload == b"to " + gateway.encode()
            assert not len(other.messages)
    await ended(task)


def cloud_client(config: CloudConfig) -> aiomqtt.Client:
    return gateway_client(config, "ingest")


async def test_a_name_with_a_dot_is_not_taken_for_another_gateway(config: CloudConfig, tmp_path: Path) -> None:
    # No gateway's name for us, but a site calls its users as it likes.
    async with open_site("mosquitto", config, tmp_path / "mosquitto", also="gw-1.x") as site:
        counters = Counters()
        bus = MqttBus(site.config.broker, counters)
        heard: list[str] = []
        await bus.listen(lambda subject, payload: heard.append(subject))
        task = await connected(bus, site)
        async with gateway_client(site.config, "gw-1.x") as client:
            await client.publish("vw/1/gw-1.x/up/bulk", b"forged", qos=1)
        async with gateway_client(site.config, "gw-1") as client:
            await client.publish(topics.up("gw-1", Lane.BULK), b"mine", qos=1)
        payloads: list[bytes] = []
        async with asyncio.timeout(5):
            while b"mine" not in payloads or "vw.1.gw-1.up.bulk" not in heard:
                payloads += [delivery.payload for delivery in await bus.take(most=1, most_bytes=1)]
        assert b"forged" not in payloads
        assert set(heard) == {"vw.1.gw-1.up.bulk", "vw.1.gw-2.up.bulk"}
        assert counters["bus_foreign"] == 1
        await ended(task)

"""What the cloud may expect of every bus, over real brokers: the embedded nats-server and a Mosquitto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
import msgspec

from cloud.app import open_bus
from cloud.bus.bus import Bus, Delivery
from cloud.counters import Counters
from tests.cloud.cloud_frames import EPOCH, gateway_client
from tests.cloud.sites import Site, answering
from wire import topics
from wire.commands import Command, Replay, decode_order, encode_order
from wire.messages import Lane, Receipt, decode_frame

FIRST = b"first"
GATEWAYS = ("gw-1", "gw-2")


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Bus]:
    """A bus that is connected: its first message has come and is settled."""
    async with open_bus(site.config, Counters()) as bus:
        task = asyncio.create_task(bus.run())
        first = await arrives(bus, site, FIRST)
        await bus.settle([first])
        yield bus
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def arrives(bus: Bus, site: Site, payload: bytes) -> Delivery:
    """Offers a message as a box does, again and again until it is taken."""
    async with asyncio.timeout(15):
        while True:
            try:
                async with gateway_client(site.config, "gw-1") as client:
                    await client.publish(topics.up("gw-1", Lane.BULK), payload, qos=1)
                while True:
                    async with asyncio.timeout(0.5):
                        for delivery in await bus.take(most=1, most_bytes=1):
                            if delivery.payload == payload:
                                return delivery
            except (aiomqtt.MqttError, TimeoutError):
                continue


async def publish(site: Site, payloads: list[bytes]) -> None:
    async with gateway_client(site.config, "gw-1") as client:
        for payload in payloads:
            await client.publish(topics.up("gw-1", Lane.ROUTINE), payload, qos=1)


def news(deliveries: list[Delivery]) -> list[bytes]:
    """Payloads without what `running` may have offered more than once."""
    return [delivery.payload for delivery in deliveries if delivery.payload != FIRST]


async def test_batches_come_oldest_first_and_within_the_limits(site: Site) -> None:
    async with running(site) as bus:
        sent = [bytes([number]) * 100 for number in range(12)]
        await publish(site, sent)
        taken: list[bytes] = []
        while len(taken) < 4:
            group = await bus.take(most=2, most_bytes=1 << 20)
            assert 1 <= len(group) <= 2
            taken += news(group)
            await bus.settle(group)
        while len(taken) < 8:
            group = await bus.take(most=100, most_bytes=250)
            assert 1 <= len(group) <= 2
            taken += news(group)
            await bus.settle(group)
        while len(taken) < 12:
            group = await bus.take(most=100, most_bytes=1)
            assert len(group) == 1
            taken += news(group)
            await bus.settle(group)
        assert taken == sent
        assert group[0].subject == "vw.1.gw-1.up.routine"


async def test_a_receipt_reaches_its_gateway_alone(site: Site) -> None:
    async with (
        running(site) as bus,
        gateway_client(site.config, "gw-1") as one,
        gateway_client(site.config, "gw-2") as two,
    ):
        for gateway, client in (("gw-1", one), ("gw-2", two)):
            await client.subscribe(topics.receipts(gateway))
        for number, gateway in ((1, "gw-2"), (2, "gw-1"), (3, "gw-2")):
            await bus.send_receipts([(gateway, Receipt(b"s" * 16, EPOCH, Lane.BULK, number, number, 5))])
        assert await received(one, 1) == [2]
        assert await received(two, 2) == [1, 3]


async def received(client: aiomqtt.Client, count: int) -> list[int]:
    numbers = []
    async with asyncio.timeout(5):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            numbers.append(decode_frame(message.payload, Receipt).first_seq)
            if len(numbers) == count:
                break
    return numbers


async def test_a_command_reaches_its_gateway_alone(site: Site) -> None:
    async with (
        running(site) as bus,
        gateway_client(site.config, "gw-1") as one,
        gateway_client(site.config, "gw-2") as two,
    ):
        # As a box asks for both in one go; the receipts come last, so what came before them is all there is.
        for gateway, client in (("gw-1", one), ("gw-2", two)):
            await client.subscribe([(topics.receipts(gateway), 0), (topics.commands(gateway), 0)])
        sent = Command(bytes(range(16)), msgspec.Raw(encode_order(Replay(Lane.BULK))), 1, 2)
        await bus.send_command("gw-2", sent)
        await bus.send_receipts([(gateway, Receipt(b"s" * 16, EPOCH, Lane.BULK, 1, 1, 5)) for gateway in GATEWAYS])
        async with asyncio.timeout(5):
            alone = await anext(aiter(one.messages))
            first = await anext(aiter(two.messages))
        assert alone.topic.value == topics.receipts("gw-1")
        assert first.topic.value == topics.commands("gw-2")
        assert isinstance(first.payload, bytes)
        got = decode_frame(first.payload, Command)
        assert (got.command_id, decode_order(got.order)) == (sent.command_id, Replay(Lane.BULK))


async def test_who_asks_for_presence_alone_hears_no_batches(site: Site) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    async with open_bus(site.config, Counters()) as bus:
        await bus.listen_presence(lambda subject, payload: heard.put_nowait((subject, payload)))
        task = asyncio.create_task(bus.run())
        await arrives(bus, site, FIRST)
        async with gateway_client(site.config, "gw-1") as client:
            await client.publish(topics.up("gw-1", Lane.BULK), b"wave", qos=1)
            await client.publish(topics.status("gw-1"), b"here", qos=1, retain=True)
        async with asyncio.timeout(5):
            assert await heard.get() == ("vw.1.gw-1.status", b"here")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_listeners_hear_batches_and_presence_that_nobody_took(site: Site) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    async with open_bus(site.config, Counters()) as bus:
        await bus.listen(lambda subject, payload: heard.put_nowait((subject, payload)))
        task = asyncio.create_task(bus.run())
        await arrives(bus, site, FIRST)
        async with gateway_client(site.config, "gw-1") as client:
            await client.publish(topics.up("gw-1", Lane.BULK), b"wave", qos=1)
            await client.publish(topics.status("gw-1"), b"here", qos=1, retain=True)
        wanted = {("vw.1.gw-1.up.bulk", b"wave"), ("vw.1.gw-1.status", b"here")}
        async with asyncio.timeout(5):
            while wanted:
                wanted.discard(await heard.get())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_killed_broker_is_found_again_and_old_marks_do_no_harm(site: Site) -> None:
    keeper = asyncio.create_task(site.keep())
    async with running(site) as bus:
        await publish(site, [b"before"])
        before: list[Delivery] = []
        while not news(before):
            before = await bus.take(most=10, most_bytes=1 << 20)
        site.kill()
        await answering(site)
        after = await arrives(bus, site, b"after")
        await bus.settle(before)
        await bus.settle([after])
        await arrives(bus, site, b"and on")
    keeper.cancel()

"""From a gateway's publish to its receipt, over real brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import nats.js.errors
import pytest
import sqlalchemy as sa

from cloud.app import open_bus
from cloud.bus.broker_config import password_path
from cloud.bus.bus import Delivery
from cloud.bus.jetstream import STREAM, connect_bare
from cloud.config import CloudConfig
from cloud.counters import Counters
from cloud.ingest import Ingest
from cloud.store import schema
from cloud.store.append import Appender
from cloud.store.database import Database
from tests.cloud.cloud_frames import FakeClock, frame, gateway_client, heart_rate
from tests.cloud.sites import Site
from wire import topics
from wire.messages import Lane, Receipt, decode_frame


def password(config: CloudConfig) -> str:
    return password_path(config.state_path, "ingest").read_text().strip()


@asynccontextmanager
async def ingesting(config: CloudConfig) -> AsyncIterator[Database]:
    database = Database(config.state_path / "store.sqlite")
    appender = Appender(database, FakeClock())
    counters = Counters()
    async with open_bus(config, counters) as bus:
        ingest = Ingest(bus, database, appender, counters, lambda: None, lambda appended: None)
        tasks = [asyncio.create_task(bus.run()), asyncio.create_task(ingest.run())]
        yield database
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    database.close()


async def offered(client: aiomqtt.Client, frame_: bytes) -> Receipt:
    """A batch's receipt; offered again until there is one, as an edge does."""
    while True:
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame_, qos=1)
        try:
            return await next_receipt(client, within_s=0.5)
        except TimeoutError:
            continue


async def next_receipt(client: aiomqtt.Client, *, within_s: float = 4) -> Receipt:
    async with asyncio.timeout(within_s):
        message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    return decode_frame(message.payload, Receipt)


def stored(database: Database) -> int:
    count = sa.select(sa.func.count()).select_from(schema.numeric)
    return database.read_now(lambda connection: connection.scalar(count)) or 0


async def test_a_published_batch_comes_back_as_a_receipt(site: Site) -> None:
    async with ingesting(site.config) as database, gateway_client(site.config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        receipt = await offered(client, frame([heart_rate(60), heart_rate(61)], 1))
        assert (receipt.first_seq, receipt.last_seq, receipt.store_id) == (1, 2, database.store_id)
        assert stored(database) == 2


@pytest.mark.usefixtures("broker")
async def test_what_came_while_ingest_was_away_is_stored_when_it_is_back(config: CloudConfig) -> None:
    async with ingesting(config), gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await offered(client, frame([heart_rate(60)], 1))
    async with gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(61)], 2), qos=1)
        async with ingesting(config) as database:
            assert (await next_receipt(client)).first_seq == 2
            assert stored(database) == 2


@pytest.mark.timeout(30)
async def test_a_killed_broker_only_delays(site: Site) -> None:
    keeper = asyncio.create_task(site.keep())
    async with ingesting(site.config) as database:
        for round_ in range(1, 4):
            async with asyncio.timeout(10):
                while True:
                    try:
                        async with gateway_client(site.config, "gw-1") as client:
                            await client.subscribe(topics.receipts("gw-1"))
                            receipt = await offered(client, frame([heart_rate(round_)], round_))
                            assert receipt.first_seq == round_
                            break
                    except aiomqtt.MqttError:
                        await asyncio.sleep(0.05)
            site.kill()
        assert stored(database) == 3
    keeper.cancel()


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("broker")
async def test_a_lost_buffer_is_made_again(config: CloudConfig) -> None:
    async with ingesting(config) as database, gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await offered(client, frame([heart_rate(60)], 1))
        bare = await connect_bare(config.broker, password(config))
        jetstream = bare.jetstream()
        await jetstream.delete_stream(STREAM)
        async with asyncio.timeout(10):
            while True:
                try:
                    await jetstream.consumer_info(STREAM, "ingest")
                    break
                except nats.js.errors.NotFoundError:
                    await asyncio.sleep(0.05)
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(61)], 2), qos=1)
        await next_receipt(client)
        assert stored(database) == 2
        await bare.close()


async def test_garbage_does_not_stop_the_stream(site: Site) -> None:
    async with ingesting(site.config) as database, gateway_client(site.config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await offered(client, frame([heart_rate(60)], 1))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), b"\x01\x00garbage", qos=1)
        receipt = await offered(client, frame([heart_rate(61)], 2))
        while receipt.first_seq != 2:  # the first may have been offered more than once
            receipt = await next_receipt(client)
        letters = sa.select(sa.func.count()).select_from(schema.dead_letter)
        assert database.read_now(lambda connection: connection.scalar(letters)) == 1


class StuckBus:
    """Delivers once, and its receipts never leave until it is told."""

    def __init__(self) -> None:
        self.may_deliver, self.may_send = asyncio.Event(), asyncio.Event()

    async def take(self, *, most: int, most_bytes: int) -> list[Delivery]:
        await self.may_deliver.wait()
        self.may_deliver.clear()
        return [Delivery(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(61)]), object())]

    async def send_receipts(self, receipts: object) -> None:
        await self.may_send.wait()

    async def settle(self, deliveries: object) -> None:
        return


async def test_it_answers_while_idle_or_going_on_and_not_while_it_hangs(tmp_path: Path) -> None:
    database, bus = Database(tmp_path / "store.sqlite"), StuckBus()
    appender = Appender(database, FakeClock())
    ingest = Ingest(bus, database, appender, Counters(), lambda: None, lambda appended: None)  # type: ignore[arg-type]
    running = asyncio.create_task(ingest.run())
    async with asyncio.timeout(5):
        await ingest.answer()
        bus.may_deliver.set()
        while bus.may_deliver.is_set():
            await asyncio.sleep(0.001)
        asked = asyncio.create_task(ingest.answer())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.shield(asked)
        bus.may_send.set()
        await asked
    running.cancel()
    await asyncio.wait([running])
    database.close()

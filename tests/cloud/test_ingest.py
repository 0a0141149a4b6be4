"""From a gateway's publish to its receipt, over the real broker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
import nats.js.errors
import pytest
import sqlalchemy as sa

from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.bus.jetstream import STREAM, Bus, connect_bare
from cloud.config import CloudConfig
from cloud.counters import Counters
from cloud.ingest import Ingest
from cloud.store import schema
from cloud.store.append import Appender
from cloud.store.database import Database
from tests.cloud.cloud_frames import FakeClock, frame, gateway_client, heart_rate
from wire import topics
from wire.messages import Lane, Receipt, decode_frame


def password(config: CloudConfig) -> str:
    return password_path(config.state_path, "ingest").read_text().strip()


@asynccontextmanager
async def ingesting(config: CloudConfig) -> AsyncIterator[Database]:
    database = Database(config.state_path / "store.sqlite")
    appender = Appender(database, FakeClock())
    async with Bus(config.broker, password(config)) as bus:
        ingest = Ingest(bus, database, appender, Counters(), lambda: None, lambda appended: None)
        tasks = [asyncio.create_task(bus.run()), asyncio.create_task(ingest.run())]
        yield database
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    database.close()


async def next_receipt(client: aiomqtt.Client) -> Receipt:
    async with asyncio.timeout(4):
        message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    return decode_frame(message.payload, Receipt)


def stored(database: Database) -> int:
    count = sa.select(sa.func.count()).select_from(schema.numeric)
    return database.read_now(lambda connection: connection.scalar(count)) or 0


@pytest.mark.usefixtures("broker")
async def test_a_published_batch_comes_back_as_a_receipt(config: CloudConfig) -> None:
    async with ingesting(config) as database, gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(60), heart_rate(61)], 1), qos=1)
        receipt = await next_receipt(client)
        assert (receipt.first_seq, receipt.last_seq, receipt.store_id) == (1, 2, database.store_id)
        assert stored(database) == 2


@pytest.mark.usefixtures("broker")
async def test_what_came_while_ingest_was_away_is_stored_when_it_is_back(config: CloudConfig) -> None:
    async with ingesting(config), gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(60)], 1), qos=1)
        await next_receipt(client)
    async with gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(61)], 2), qos=1)
        async with ingesting(config) as database:
            assert (await next_receipt(client)).first_seq == 2
            assert stored(database) == 2


@pytest.mark.timeout(30)
async def test_a_killed_broker_only_delays(config: CloudConfig, broker: Broker) -> None:
    keeper = asyncio.create_task(broker.run())
    async with ingesting(config) as database:
        for round_ in range(1, 4):
            async with asyncio.timeout(10):
                while True:
                    try:
                        async with gateway_client(config, "gw-1") as client:
                            await client.subscribe(topics.receipts("gw-1"))
                            topic = topics.up("gw-1", Lane.ROUTINE)
                            # Not receipted yet is offered again, as an edge does.
                            await client.publish(topic, frame([heart_rate(round_)], round_), qos=1)
                            assert (await next_receipt(client)).first_seq == round_
                            break
                    except (aiomqtt.MqttError, TimeoutError):
                        await asyncio.sleep(0.05)
            os.kill(int((config.state_path / "broker.pid").read_text()), signal.SIGKILL)
        assert stored(database) == 3
    keeper.cancel()


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("broker")
async def test_a_lost_buffer_is_made_again(config: CloudConfig) -> None:
    async with ingesting(config) as database, gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(60)], 1), qos=1)
        await next_receipt(client)
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


@pytest.mark.usefixtures("broker")
async def test_garbage_does_not_stop_the_stream(config: CloudConfig) -> None:
    async with ingesting(config) as database, gateway_client(config, "gw-1") as client:
        await client.subscribe(topics.receipts("gw-1"))
        await client.publish(topics.up("gw-1", Lane.ROUTINE), b"\x01\x00garbage", qos=1)
        await client.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(60)], 1), qos=1)
        assert (await next_receipt(client)).first_seq == 1
        letters = sa.select(sa.func.count()).select_from(schema.dead_letter)
        assert await database.read(lambda connection: connection.scalar(letters)) == 1

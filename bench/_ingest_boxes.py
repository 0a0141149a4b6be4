"""The boxes of `bench ingest --tls`: fill the buffer by MQTT under TLS, then stay and hear their receipts.

`python -m bench._ingest_boxes CLOUD.toml COUNT`, which makes the file `filled` beside the configuration.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiomqtt

from bench._batches import batches
from bench._enrolled import client
from cloud.config import CloudConfig
from wire import topics
from wire.configuration import load

FILLED = "filled"


async def _main(config_path: Path, count: int) -> None:
    config = load(config_path, CloudConfig)
    async with AsyncExitStack() as stack:
        clients = {}
        for gateway in config.gateways:
            clients[gateway.id] = await stack.enter_async_context(client(config, gateway.id))
            await clients[gateway.id].subscribe(topics.receipts(gateway.id))
        size = 0
        for gateway_id, lane, frame in batches(len(clients), count):
            await clients[gateway_id].publish(topics.up(gateway_id, lane), frame, qos=1)
            size += len(frame)
        partial = config_path.with_name(f"{FILLED}.partial")
        partial.write_text(str(round(size / count)))
        partial.rename(config_path.with_name(FILLED))
        async with asyncio.TaskGroup() as tasks:
            for one in clients.values():
                tasks.create_task(_hear(one))


async def _hear(one: aiomqtt.Client) -> None:
    async for _ in one.messages:
        pass


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))

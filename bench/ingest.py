"""How many batches a second the cloud stores, beside a bare consumer that only fetches and acknowledges them.

Both read the same buffer of the same broker, filled beforehand with batches as boxes send them: a 12-lead block or two
of half a second each, now and then a numeric. Ours decodes, stores once, syncs the disk and sends receipts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
from nats.js import JetStreamContext

from bench._ambulances import write_cloud
from bench._batches import batches
from bench._enrolled import enrol_all
from bench._ingest_boxes import FILLED
from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.bus.jetstream import STREAM, UP_SUBJECTS, JetStreamBus
from cloud.config import INGEST_USER, STORE_FILE, CloudConfig
from cloud.counters import Counters
from cloud.ingest import Ingest
from cloud.store.append import Appender
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from vitalwire.stage import Part, free_port
from wire import topics
from wire.clock import SystemClock
from wire.configuration import load

_GATEWAYS = 20
_FETCH = 256
_POLL_S = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many batches, and whether boxes are enrolled."""
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument(
        "--tls", action="store_true", help="enrolled boxes fill the buffer by TLS and hear their receipts meanwhile"
    )


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "bench", arguments.batches, is_tls=arguments.tls))


async def _measure(folder: Path, count: int, *, is_tls: bool) -> dict[str, object]:
    config_path = write_cloud(folder, _GATEWAYS, api_port=free_port(), is_tls=is_tls)
    config = load(config_path, CloudConfig)
    certified = await enrol_all(config) if is_tls else []
    async with Broker(config, certified), AsyncExitStack() as stack:
        password = password_path(config.state_path, INGEST_USER).read_text().strip()
        client = await nats.connect(f"nats://{config.broker.client_listen}", user=INGEST_USER, password=password)
        context = client.jetstream()
        await context.add_stream(name=STREAM, subjects=[UP_SUBJECTS])
        print(f"filling the buffer with {count} batches …", file=sys.stderr)
        if is_tls:
            frame_bytes = await stack.enter_async_context(_filled_by_boxes(config, config_path, count))
        else:
            frame_bytes = await _fill(context, count)
        print("bare consumer …", file=sys.stderr)
        bare_per_s = await _bare(context, count)
        await client.close()
        print("ingest …", file=sys.stderr)
        per_s, stored = await _ours(config, password, count)
    return {
        "tls": is_tls,
        "batches_per_s": round(per_s),
        "bare_per_s": round(bare_per_s),
        "ratio_to_bare": round(per_s / bare_per_s, 2),
        "batches": count,
        "frame_bytes": frame_bytes,
        "records_stored": stored,
    }


async def _fill(context: JetStreamContext, count: int) -> int:
    """Publishes the batches; returns the mean size of a frame."""
    size = 0
    for gateway, lane, frame in batches(_GATEWAYS, count):
        size += len(frame)
        await context.publish(topics.subject(topics.up(gateway, lane)), frame)
    return round(size / count)


@asynccontextmanager
async def _filled_by_boxes(config: CloudConfig, config_path: Path, count: int) -> AsyncIterator[int]:
    """Enrolled boxes publish the batches under TLS and stay connected; the mean size of a frame."""
    command = [sys.executable, "-m", "bench._ingest_boxes", str(config_path), str(count)]
    boxes = Part("boxes", command, config_path.with_name("boxes.log"))
    filled = config_path.with_name(FILLED)
    await boxes.start()
    try:
        while not filled.exists():
            if boxes.process is None or boxes.process.returncode is not None:
                raise RuntimeError(f"the boxes ended: {boxes.last_words()}")
            await asyncio.sleep(_POLL_S)
        yield int(filled.read_text())
    finally:
        await boxes.stop()


async def _bare(context: JetStreamContext, count: int) -> float:
    subscription = await context.pull_subscribe(UP_SUBJECTS, durable="bare", stream=STREAM)
    taken = 0
    started = time.perf_counter()
    while taken < count:
        for message in await subscription.fetch(min(_FETCH, count - taken), timeout=5):
            await message.ack()
            taken += 1
    return count / (time.perf_counter() - started)


async def _ours(config: CloudConfig, password: str, count: int) -> tuple[float, int]:
    database = await asyncio.to_thread(Database, config.state_path / STORE_FILE)
    counters, clock = Counters(), SystemClock()
    try:
        async with JetStreamBus(config.broker, password) as bus, asyncio.TaskGroup() as tasks:
            ingest = Ingest(bus, database, Appender(database, clock), counters, lambda: None, lambda _appended: None)
            started = time.perf_counter()
            running = [tasks.create_task(bus.run()), tasks.create_task(ingest.run())]
            while counters["batches_stored"] < count:
                await asyncio.sleep(_POLL_S)
            took_s = time.perf_counter() - started
            for task in running:
                task.cancel()
        stored = sum(last - first + 1 for _, _, first, last in StoreReader(database).stored_runs())
    finally:
        await asyncio.to_thread(database.close)
    return count / took_s, stored

"""How many batches a second the cloud stores, beside a bare consumer that only fetches and acknowledges them.

Both read the same buffer of the same broker, filled beforehand with batches as boxes send them: a 12-lead block or two
of half a second each, now and then a numeric. Ours decodes, stores once, syncs the disk and sends receipts.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import nats
from nats.js import JetStreamContext

from bench._ambulances import Template, gateway_id, write_cloud
from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.bus.jetstream import STREAM, UP_SUBJECTS, JetStreamBus
from cloud.config import INGEST_USER, STORE_FILE, CloudConfig
from cloud.counters import Counters
from cloud.ingest import Ingest
from cloud.store.append import Appender
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from vitalwire.stage import free_port
from wire import topics
from wire.clock import SystemClock, anchor
from wire.configuration import load
from wire.messages import EPOCH_BYTES, Batch, Lane, encode_frame, encode_record
from wire.readings import Numeric, Origin
from wire.vocabulary import Metric

_GATEWAYS = 20
_FETCH = 256
_POLL_S = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many batches."""
    parser.add_argument("--batches", type=int, default=10_000)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "bench", arguments.batches))


async def _measure(folder: Path, count: int) -> dict[str, object]:
    config = load(write_cloud(folder, _GATEWAYS, api_port=free_port()), CloudConfig)
    async with Broker(config):
        password = password_path(config.state_path, INGEST_USER).read_text().strip()
        client = await nats.connect(f"nats://{config.broker.client_listen}", user=INGEST_USER, password=password)
        context = client.jetstream()
        await context.add_stream(name=STREAM, subjects=[UP_SUBJECTS])
        print(f"filling the buffer with {count} batches …", file=sys.stderr)
        frame_bytes = await _fill(context, count)
        print("bare consumer …", file=sys.stderr)
        bare_per_s = await _bare(context, count)
        await client.close()
        print("ingest …", file=sys.stderr)
        per_s, stored = await _ours(config, password, count)
    return {
        "batches_per_s": round(per_s),
        "bare_per_s": round(bare_per_s),
        "ratio_to_bare": round(per_s / bare_per_s, 2),
        "batches": count,
        "frame_bytes": frame_bytes,
        "records_stored": stored,
    }


async def _fill(context: JetStreamContext, count: int) -> int:
    """Publishes the batches of every gateway in turn; returns the mean size of a frame."""
    clock, template = SystemClock(), Template()
    epochs = [secrets.token_bytes(EPOCH_BYTES) for _ in range(_GATEWAYS)]
    next_seq = [dict.fromkeys(Lane, 0) for _ in range(_GATEWAYS)]
    size = 0
    for number in range(count):
        gateway = number % _GATEWAYS
        lane = Lane.ROUTINE if number % 5 == 4 else Lane.BULK
        seq = next_seq[gateway][lane]
        records = []
        for index in range(1 + number % 2):
            body = (
                Numeric(Metric.HEART_RATE, 80.0, clock.now_us())
                if lane is Lane.ROUTINE
                else template.block((seq + index) * template.sample_count, clock.now_us())
            )
            raw = encode_record(
                body,
                device_id="monitor",
                session_id=f"{gateway:016x}",
                origin=Origin.TEST,
                boot_id=clock.boot_id(),
                mono_us=clock.monotonic_us(),
            )
            records.append(msgspec.Raw(raw))
        next_seq[gateway][lane] += len(records)
        frame = encode_frame(Batch(epochs[gateway], lane, seq, (anchor(clock),), records))
        size += len(frame)
        await context.publish(topics.subject(topics.up(gateway_id(gateway), lane)), frame)
    return round(size / count)


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

"""What becomes of records accepted while the cloud is away: every one stored once when it is back.

A real box, outbox to uplink, and a real cloud: broker, ingest and store. The cloud is killed with kill -9, its broker
with it; the records are appended; the cloud is started again.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import _peers
from bench._ambulances import gateway_id, write_cloud
from bench._box import Box
from bench._numbered import Numbered, deliveries
from cloud.config import STORE_FILE, CloudConfig
from edge.ledger import Ledger
from vitalwire.stage import Part, free_port, is_answering
from wire.configuration import load

# As many devices' readings wait for the disk at once; each commit takes whatever gathered.
_APPENDERS = 64
_DRAIN_LIMIT_S = 600.0
_BACKOFF_CAP_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many."""
    parser.add_argument("--records", type=int, default=50_000)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(_measure(Path(folder) / "bench", arguments.records))
    return {**figures, "peers": _peers.outage(arguments.records)}


async def _measure(folder: Path, records: int) -> dict[str, object]:
    api_port = free_port()
    config_path = write_cloud(folder, 1, api_port=api_port)
    config = load(config_path, CloudConfig)
    url = f"http://127.0.0.1:{api_port}"
    cloud = Part("cloud", [sys.executable, "-m", "vitalwire", "cloud", "-c", str(config_path)], folder / "cloud.log")
    ledger = Ledger(folder / "ledger.jsonl")
    box = Box(config, gateway_id(0), folder / "spool", backoff_cap_s=_BACKOFF_CAP_S, ledger=ledger)

    async def act() -> dict[str, object]:
        await box.open_session()
        await box.settled(_DRAIN_LIMIT_S)
        print("the cloud is killed …", file=sys.stderr)
        cloud.kill()
        assert cloud.process is not None
        await cloud.process.wait()
        began = time.monotonic()
        await _append(box, records)
        appended = time.monotonic()
        print("and back …", file=sys.stderr)
        await cloud.start()
        await is_answering(url, cloud)
        answering = time.monotonic()
        await box.settled(_DRAIN_LIMIT_S)
        return {
            "append_s": round(appended - began, 1),
            "cloud_start_s": round(answering - appended, 1),
            "drained_s": round(time.monotonic() - answering, 1),
            "batches_sent": box.uplink.counts["batches_sent"],
            "batches_resent": box.uplink.counts["batches_resent"],
        }

    try:
        await cloud.start()
        await is_answering(url, cloud)
        explained = await box.live(act)
    finally:
        await cloud.stop()
        ledger.close()
    print("judging …", file=sys.stderr)
    store = config.state_path / STORE_FILE
    verdict = deliveries(store, gateway_id(0), box.source.session_id, range(records), folder / "ledger.jsonl")
    return {**dataclasses.asdict(verdict), **explained}


async def _append(box: Box, records: int) -> None:
    numbered = Numbered()
    numbers = iter(range(records))

    async def append(mine: Iterator[int]) -> None:
        for number in mine:
            await box.outbox.append(box.source, [numbered.body(number, box.clock.now_us())])

    async with asyncio.TaskGroup() as tasks:
        for _ in itertools.repeat(None, _APPENDERS):
            tasks.create_task(append(numbers))

"""How late live data is at a screen, with many ambulances at once, beside the bare broker carrying the same bytes.

Load: N real spool → uplink paths fed with blocks encoded beforehand, several to a process. Measured from the moment a
block is handed over at the box to its arrival at a screen's socket; bare: the same frames from the same number of
plain MQTT clients to one plain subscriber of the broker.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nats
import numpy as np
from nats.aio.msg import Msg

from bench._ambulances import STAMP, write_cloud
from bench._enrolled import enrol_all
from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.config import INGEST_USER, CloudConfig
from vitalwire.stage import Part, free_port, is_answering
from vitalwire.watcher import Watcher
from wire.clock import SystemClock
from wire.configuration import load

_PROCESSES = 2
_SETTLE_S = 6.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many and how long."""
    parser.add_argument("--ambulances", type=int, default=50)
    parser.add_argument("--for", dest="for_s", type=float, default=20.0, help="seconds measured")
    parser.add_argument("--tls", action="store_true", help="enrolled boxes under TLS, and so the bare clients")


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), arguments.ambulances, arguments.for_s, is_tls=arguments.tls))


async def _measure(folder: Path, ambulances: int, for_s: float, *, is_tls: bool) -> dict[str, object]:
    print(f"bare broker, {ambulances} clients …", file=sys.stderr)
    bare = await _bare(folder / "bare", ambulances, for_s, is_tls=is_tls)
    print(f"whole way, {ambulances} boxes …", file=sys.stderr)
    whole = await _whole(folder / "whole", ambulances, for_s, is_tls=is_tls)
    return {
        "ambulances": ambulances,
        "tls": is_tls,
        "p50_ms": _percentile(whole, 50),
        "p99_ms": _percentile(whole, 99),
        "bare_p50_ms": _percentile(bare, 50),
        "bare_p99_ms": _percentile(bare, 99),
        "blocks": len(whole),
        "bare_blocks": len(bare),
        "expected_blocks": round(ambulances * for_s * 2),
    }


def _percentile(delays_ms: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(delays_ms, percent)), 1)


def _loaders(folder: Path, config: Path, ambulances: int, mode: str) -> list[Part]:
    """Processes that send, each with its share of the ambulances."""
    share = -(-ambulances // _PROCESSES)
    parts = []
    for first in range(0, ambulances, share):
        span = [str(first), str(min(first + share, ambulances))]
        command = [sys.executable, "-m", "bench._ambulances", mode, str(config), *span]
        parts.append(Part(f"load-{first}", command, folder / f"load-{first}.log"))
    return parts


async def _bare(folder: Path, ambulances: int, for_s: float, *, is_tls: bool) -> list[float]:
    config_path = write_cloud(folder, ambulances, api_port=free_port(), is_tls=is_tls)
    config = load(config_path, CloudConfig)
    certified = await enrol_all(config) if is_tls else []
    clock = SystemClock()
    delays_ms: list[float] = []
    async with Broker(config, certified):
        password = password_path(config.state_path, INGEST_USER).read_text().strip()
        client = await nats.connect(f"nats://{config.broker.client_listen}", user=INGEST_USER, password=password)

        async def arrived(message: Msg) -> None:
            delays_ms.append((clock.now_us() - STAMP.unpack_from(message.data)[0]) / 1000)

        await client.subscribe("vw.1.*.up.>", cb=arrived)
        await _with_load(_loaders(folder, config_path, ambulances, "bare"), delays_ms, for_s)
        await client.close()
    return delays_ms


async def _whole(folder: Path, ambulances: int, for_s: float, *, is_tls: bool) -> list[float]:
    api_port = free_port()
    config_path = write_cloud(folder, ambulances, api_port=api_port, is_tls=is_tls)
    cloud = Part("cloud", [sys.executable, "-m", "vitalwire", "cloud", "-c", str(config_path)], folder / "cloud.log")
    await cloud.start()
    watching: asyncio.Task[None] | None = None
    try:
        await is_answering(f"http://127.0.0.1:{api_port}", cloud)
        if is_tls:
            await enrol_all(load(config_path, CloudConfig))
        watcher = Watcher(f"http://127.0.0.1:{api_port}")
        watching = asyncio.ensure_future(watcher.run())
        await _with_load(_loaders(folder, config_path, ambulances, "boxes"), watcher.delays_ms, for_s)
    finally:
        if watching is not None:
            watching.cancel()
        await cloud.stop()
    return watcher.delays_ms


async def _with_load(parts: Sequence[Part], delays_ms: list[float], for_s: float) -> None:
    """Starts the load, lets it settle, and keeps only what arrives in the `for_s` seconds after that."""
    try:
        for part in parts:
            await part.start()
        while not delays_ms:
            await asyncio.sleep(0.1)
        await asyncio.sleep(_SETTLE_S)
        delays_ms.clear()
        await asyncio.sleep(for_s)
        measured = list(delays_ms)
    finally:
        for part in parts:
            await part.stop()
    delays_ms[:] = measured

"""How fast a box catches up, and what that costs those who watch it live.

One box with a backlog in its spool and a live 12-lead monitor, a real cloud, a screen without eyes. First the live
stream alone, then with the backlog let go; the delay is measured at the screen's socket, from a block's last sample.
The link is the loopback: it is the cloud that is the bottleneck, not a mobile network.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench._ambulances import gateway_id, write_cloud
from bench._box import session_of
from bench._drain_box import LEDGER
from bench._numbered import deliveries
from cloud.config import STORE_FILE, CloudConfig
from vitalwire.stage import Part, free_port, is_answering
from vitalwire.watcher import Watcher
from wire.configuration import load

_FILL_LIMIT_S = 900.0
_DRAIN_LIMIT_S = 3600.0
_POLL_S = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much, and how long the live stream is measured alone."""
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--alone-for", dest="alone_s", type=float, default=60.0, help="seconds without the drain")


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "bench", arguments.records, arguments.alone_s))


async def _measure(folder: Path, records: int, alone_s: float) -> dict[str, object]:
    api_port = free_port()
    config_path = write_cloud(folder, 1, api_port=api_port)
    config = load(config_path, CloudConfig)
    url = f"http://127.0.0.1:{api_port}"
    cloud = Part("cloud", [sys.executable, "-m", "vitalwire", "cloud", "-c", str(config_path)], folder / "cloud.log")
    command = [sys.executable, "-m", "bench._drain_box", str(config_path), str(folder), str(records), str(alone_s)]
    box = Part("box", command, folder / "box.log")
    watching: asyncio.Task[None] | None = None
    try:
        await cloud.start()
        await is_answering(url, cloud)
        watcher = Watcher(url)
        watching = asyncio.ensure_future(watcher.run())
        print(f"filling the spool with {records} records …", file=sys.stderr)
        await box.start()
        await _said(box, "live", _FILL_LIMIT_S)
        watcher.delays_ms.clear()
        print("live alone …", file=sys.stderr)
        await _said(box, "draining", alone_s + _FILL_LIMIT_S)
        alone_ms = list(watcher.delays_ms)
        watcher.delays_ms.clear()
        print("draining …", file=sys.stderr)
        drained_s = float((await _said(box, "drained", _DRAIN_LIMIT_S)).split()[1])
        during_ms = list(watcher.delays_ms)
    finally:
        if watching is not None:
            watching.cancel()
        await box.stop()
        await cloud.stop()
    print("judging …", file=sys.stderr)
    gateway = gateway_id(0)
    store = config.state_path / STORE_FILE
    verdict = deliveries(store, gateway, session_of(gateway), range(records), folder / LEDGER)
    return {
        "drain_per_s": round(records / drained_s),
        "live_p99_ms": _percentile(during_ms, 99),
        "live_p99_alone_ms": _percentile(alone_ms, 99),
        "live_p50_ms": _percentile(during_ms, 50),
        "live_p50_alone_ms": _percentile(alone_ms, 50),
        "live_blocks": len(during_ms),
        "live_blocks_alone": len(alone_ms),
        "drained_s": drained_s,
        "records": records,
        "duplicates": verdict.duplicates,
        "lost": verdict.lost,
        "ledger_lost": verdict.ledger_lost,
    }


def _percentile(delays_ms: Sequence[float], percent: float) -> float | None:
    """None when the drain was over before a block came."""
    return round(float(np.percentile(delays_ms, percent)), 1) if delays_ms else None


async def _said(box: Part, word: str, limit_s: float) -> str:
    """The line of the box that begins with a word, once it is there. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while True:
            for line in box.log_file.read_text(errors="replace").splitlines():
                if line.split(" ")[0] == word:
                    return line
            if box.process is not None and box.process.returncode is not None:
                raise SystemExit(f"bench drain: the box ended by itself: {box.last_words()}")
            await asyncio.sleep(_POLL_S)

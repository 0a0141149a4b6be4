"""What becomes of accepted records when the box is killed with kill -9 again and again, in the middle of its commits.

The box runs in a process of its own against a real cloud. `accepted` is its account of appends that resolved, written
beside the spool; what came is counted in the store by the numbers the records bear.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import random
import sys
import tempfile
from pathlib import Path

from bench import _peers
from bench._ambulances import gateway_id, write_cloud
from bench._box import session_of
from bench._kill9_box import ACCOUNT, LEDGER, accepted
from bench._numbered import deliveries
from cloud.config import STORE_FILE, CloudConfig
from vitalwire.stage import Part, free_port, is_answering
from wire.configuration import load

# From the first record accepted after a start: from one commit to a few hundred.
_LIFE_S = (0.02, 2.0)
_START_LIMIT_S = 60.0
_DRAIN_LIMIT_S = 360.0
_POLL_S = 0.005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How often and how fast."""
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1000.0, help="records a second")
    parser.add_argument("--seed", type=int, default=1)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(_measure(Path(folder) / "bench", arguments.kills, arguments.rate, arguments.seed))
    peers = _peers.kills(arguments.kills, arguments.rate, random.Random(arguments.seed), _LIFE_S)
    return {**figures, "seed": arguments.seed, "peers": peers}


async def _measure(folder: Path, kills: int, rate: float, seed: int) -> dict[str, object]:
    api_port = free_port()
    config_path = write_cloud(folder, 1, api_port=api_port)
    config = load(config_path, CloudConfig)
    cloud = Part("cloud", [sys.executable, "-m", "vitalwire", "cloud", "-c", str(config_path)], folder / "cloud.log")
    command = [sys.executable, "-m", "bench._kill9_box", str(config_path), str(folder), str(rate)]
    box = Part("box", command, folder / "box.log")
    try:
        await cloud.start()
        await is_answering(f"http://127.0.0.1:{api_port}", cloud)
        await _kill_again_and_again(box, folder, random.Random(seed), kills)
        code = await _end(box)
    finally:
        box.kill()
        await cloud.stop()
    print("judging …", file=sys.stderr)
    gateway = gateway_id(0)
    store = config.state_path / STORE_FILE
    verdict = deliveries(store, gateway, session_of(gateway), accepted(folder), folder / LEDGER)
    return {**dataclasses.asdict(verdict), "kills": kills, "last_exit": code}


async def _kill_again_and_again(box: Part, folder: Path, chance: random.Random, kills: int) -> None:
    await box.start()
    for number in range(kills):
        await _is_accepting(box, folder)
        await asyncio.sleep(chance.uniform(*_LIFE_S))
        print(f"kill {number + 1} of {kills} …", file=sys.stderr)
        box.kill()
        assert box.process is not None
        await box.process.wait()
        await box.start()
    await _is_accepting(box, folder)


async def _is_accepting(box: Part, folder: Path) -> None:
    """Until the box just started has accepted a record. Raises TimeoutError."""
    account = folder / ACCOUNT
    before = account.stat().st_size if account.exists() else 0
    async with asyncio.timeout(_START_LIMIT_S):
        while not account.exists() or account.stat().st_size <= before:
            if box.process is not None and box.process.returncode is not None:
                raise SystemExit(f"bench kill9: the box ended by itself: {box.last_words()}")
            await asyncio.sleep(_POLL_S)


async def _end(box: Part) -> int:
    """Lets the box drain and end; its exit code."""
    print("draining …", file=sys.stderr)
    assert box.process is not None
    box.process.terminate()
    async with asyncio.timeout(_DRAIN_LIMIT_S):
        return await box.process.wait()

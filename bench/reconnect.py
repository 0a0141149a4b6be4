"""How many boxes come back after their broker was killed, how soon, and whether they come as a herd.

Every gateway is a real spool, outbox and uplink with its own back-off, several hundred to a process; between them and
the cloud's broker stands a proxy that counts connections. The broker is killed with kill -9 and the cloud starts it
again. Each gateway accepts one record while it is away: it must be in the store in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench._ambulances import gateway_id, write_cloud
from bench._counting_proxy import CountingProxy, peak_per_s
from bench._numbered import DEVICE
from bench._reconnect_boxes import BEFORE, DURING
from cloud.config import STORE_FILE, CloudConfig, parse_address
from cloud.store import account
from cloud.store.database import Database
from vitalwire.stage import Part, free_port, is_answering
from wire.configuration import load

_GATEWAYS_A_PROCESS = 250
_START_LIMIT_S = 900.0
_BACK_LIMIT_S = 300.0
_POLL_S = 0.05
_STORE_POLL_S = 0.5  # each look is a query a gateway: no load of its own on the way back
_QUIET_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many."""
    parser.add_argument("--gateways", type=int, default=2000)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "bench", arguments.gateways))


async def _measure(folder: Path, gateways: int) -> dict[str, object]:
    api_port = free_port()
    config_path = write_cloud(folder, gateways, api_port=api_port)
    config = load(config_path, CloudConfig)
    store = config.state_path / STORE_FILE
    cloud = Part("cloud", [sys.executable, "-m", "vitalwire", "cloud", "-c", str(config_path)], folder / "cloud.log")
    proxy = CountingProxy(parse_address(config.broker.mqtt_listen).port)
    counting = asyncio.ensure_future(proxy.run())
    endpoint = f"mqtt://127.0.0.1:{proxy.port}"
    loads = [
        _load(folder, config_path, endpoint, first, min(first + _GATEWAYS_A_PROCESS, gateways))
        for first in range(0, gateways, _GATEWAYS_A_PROCESS)
    ]
    try:
        began = time.monotonic()
        await cloud.start()
        await is_answering(f"http://127.0.0.1:{api_port}", cloud)
        cloud_start_s = time.monotonic() - began
        print(f"cloud with {gateways} gateways after {cloud_start_s:.1f} s; connecting them …", file=sys.stderr)
        for load_part in loads:
            await load_part.start()
        await _all_up(loads, gateways, _START_LIMIT_S)
        await _all_stored(store, gateways, BEFORE, _START_LIMIT_S)
        await asyncio.sleep(_QUIET_S)
        print("the broker is killed …", file=sys.stderr)
        proxy.asked_s.clear()
        proxy.accepted_s.clear()
        killed = time.monotonic()
        os.kill(int((config.state_path / "broker.pid").read_text()), signal.SIGKILL)
        for load_part in loads:
            assert load_part.process is not None
            load_part.process.send_signal(signal.SIGUSR1)
        await _all_down_once(loads, gateways)
        await _all_up(loads, gateways, _BACK_LIMIT_S)
        back_s = time.monotonic() - killed
        asked_s, accepted_s = list(proxy.asked_s), list(proxy.accepted_s)
        stored = await _all_stored(store, gateways, DURING, _BACK_LIMIT_S)
        stored_s = time.monotonic() - killed
    finally:
        for load_part in loads:
            load_part.kill()
        counting.cancel()
        await cloud.stop()
    return {
        "gateways": gateways,
        "all_back_s": round(back_s, 1),
        "peak_connects_per_s": peak_per_s(accepted_s),
        "peak_asked_per_s": peak_per_s(asked_s),
        "asked": len(asked_s),
        "accepted": len(accepted_s),
        "first_back_s": round(accepted_s[0] - killed, 2),
        "median_back_s": round(accepted_s[len(accepted_s) // 2] - killed, 2),
        "all_stored_s": round(stored_s, 1),
        "lost": gateways - stored,
        "cloud_start_s": round(cloud_start_s, 1),
        "client": "spool, outbox and uplink",
    }


def _load(folder: Path, config: Path, endpoint: str, first: int, end: int) -> Part:
    command = [sys.executable, "-m", "bench._reconnect_boxes", str(config), str(folder), endpoint, str(first), str(end)]
    return Part(f"load-{first}", command, folder / f"load-{first}.log")


def _up(load_part: Part) -> list[int]:
    """How many boxes of a process were connected, one figure after another."""
    lines = load_part.log_file.read_text(errors="replace").splitlines() if load_part.log_file.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("up ")]


async def _all_up(loads: Sequence[Part], gateways: int, limit_s: float) -> None:
    """Until every box is connected. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while sum((_up(one) or [0])[-1] for one in loads) < gateways:
            for one in loads:
                if one.process is not None and one.process.returncode is not None:
                    raise SystemExit(f"bench reconnect: a load ended by itself: {one.last_words()}")
            await asyncio.sleep(_POLL_S)


async def _all_down_once(loads: Sequence[Part], gateways: int) -> None:
    """Until the outage is seen: the boxes of every process have lost their link."""
    async with asyncio.timeout(_BACK_LIMIT_S):
        while sum((_up(one) or [0])[-1] for one in loads) >= gateways:
            await asyncio.sleep(_POLL_S)


async def _all_stored(store: Path, gateways: int, number: int, limit_s: float) -> int:
    """Until the store has this record of every box, or the time is over; how many it has."""
    database = await asyncio.to_thread(Database, store)
    stored = 0
    try:
        async with asyncio.timeout(limit_s):
            missing = {gateway_id(gateway) for gateway in range(gateways)}
            while missing:
                missing -= await asyncio.to_thread(_having, database, frozenset(missing), str(number))
                stored = gateways - len(missing)
                await asyncio.sleep(_STORE_POLL_S)
    except TimeoutError:
        print(f"only {stored} of {gateways} gateways have record {number} stored", file=sys.stderr)
    finally:
        await asyncio.to_thread(database.close)
    return stored


def _having(database: Database, gateways: frozenset[str], number: str) -> set[str]:
    """Those whose numeric with this number is stored."""
    return {
        gateway
        for gateway in gateways
        if any(said.reported_time == number for said in account.said_numerics(database, gateway, DEVICE))
    }

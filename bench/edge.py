"""What one full agent takes of a box: memory idle and with a live 12-lead monitor, processor, time to first record."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from vitalwire.stage import Part, Stage, free_port, on_stage, prepare_folder

_IDLE_S = 8.0
_LOADED_S = 20.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_GATEWAY = "amb-07"


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The figures; the agent runs against a real broker and cloud."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder) / "stage"))


async def _measure(folder: Path) -> dict[str, object]:
    prepare_folder(folder)
    stage = Stage(folder, "first_light", port=free_port())

    async def act() -> dict[str, object]:
        agent = stage.parts[_GATEWAY]
        first_record_s = await _restart_to_first_record(agent, folder / _GATEWAY / "ledger.jsonl")
        print("idle …", file=sys.stderr)
        await asyncio.sleep(_IDLE_S)
        idle_mb = agent.rss_mb()
        await stage.start_simulator(record=None, for_s=None)
        print("12 leads …", file=sys.stderr)
        await asyncio.sleep(_IDLE_S)
        before_s, started = _cpu_s(agent), time.monotonic()
        await asyncio.sleep(_LOADED_S)
        used = (_cpu_s(agent) - before_s) / (time.monotonic() - started)
        return {
            "rss_idle_mb": idle_mb,
            "rss_12lead_mb": agent.rss_mb(),
            "cpu_12lead_percent": round(100 * used, 1),
            "first_record_s": round(first_record_s, 2),
        }

    return await on_stage(stage, act)


async def _restart_to_first_record(agent: Part, ledger: Path) -> float:
    """Kills the agent; s from its new start to its first record on disk."""
    before = ledger.stat().st_size if ledger.exists() else 0
    agent.kill()
    restarts = agent.restarts
    while agent.restarts == restarts or agent.process is None or agent.process.returncode is not None:
        await asyncio.sleep(0.01)
    started = time.monotonic()
    while not ledger.exists() or ledger.stat().st_size <= before:
        await asyncio.sleep(0.01)
    return time.monotonic() - started


def _cpu_s(part: Part) -> float:
    """Processor time a process has used, user and system."""
    assert part.process is not None
    fields = Path(f"/proc/{part.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

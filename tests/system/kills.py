"""Plays the demo while parts are killed -9, and returns its report."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitalwire import demo
from vitalwire.stage import Stage

Act = Callable[[Stage], Awaitable[None]]

# Long enough for the box to have several batches accepted by a broker that nobody reads from.
_INGEST_STOPPED_S = 2.0


async def kill_edge(stage: Stage) -> None:
    stage.parts["amb-07"].kill()


async def kill_cloud(stage: Stage) -> None:
    stage.parts["cloud"].kill()


async def kill_broker(stage: Stage) -> None:
    os.kill(await stage.running_broker_pid(), signal.SIGKILL)


async def cloud_and_buffer_are_lost(stage: Stage) -> None:
    """The broker acknowledges what nobody has stored yet, then it, its disk and the cloud's memory are gone."""
    cloud = await stage.running_cloud()
    pid = await stage.running_broker_pid()
    cloud.send_signal(signal.SIGSTOP)
    await asyncio.sleep(_INGEST_STOPPED_S)
    os.kill(pid, signal.SIGKILL)
    shutil.rmtree(stage.cloud_state / "broker")
    cloud.kill()


KILLS: tuple[Act, ...] = (kill_edge, kill_cloud, kill_broker, cloud_and_buffer_are_lost)


def random_schedule(seed: int, for_s: float, kills: int) -> list[tuple[float, Act]]:
    """Kills at random instants, the last early enough to come back within the scene; the same seed, the same kills."""
    chance = random.Random(seed)
    return sorted(
        ((chance.uniform(2, for_s - 2), chance.choice(KILLS)) for _ in range(kills)),
        key=lambda step: step[0],
    )


def play(
    folder: Path,
    for_s: float,
    schedule: Sequence[tuple[float, Act]] = (),
    *,
    scene: str = "first_light",
    mutant: Mapping[str, Sequence[str]] | None = None,
    record: Path | None = None,
    broker: str = "embedded",
    drain_s: float = 60.0,
) -> dict[str, Any]:
    """The demo's report after `schedule`: seconds from the first sample a screen saw, and what to do then."""
    plan = demo.Plan(
        scene=scene,
        record=record,
        for_s=for_s,
        port=0,
        state=folder / "demo",
        broker=broker,
        mutant=mutant or {},
        drain_s=drain_s,
    )
    stage = demo.prepare(plan)

    async def run() -> dict[str, Any]:
        async with asyncio.TaskGroup() as tasks:
            killer = tasks.create_task(_kill(stage, schedule))
            report = await demo.perform(plan, stage)
            killer.cancel()
        return report

    report = asyncio.run(run())
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    return report


async def _kill(stage: Stage, schedule: Sequence[tuple[float, Act]]) -> None:
    # The simulator writes its truth with the first sample.
    while not list(stage.truth.glob("*/*.i32")):
        await asyncio.sleep(0.1)
    passed_s = 0.0
    for at_s, act in schedule:
        await asyncio.sleep(at_s - passed_s)
        passed_s = at_s
        await act(stage)

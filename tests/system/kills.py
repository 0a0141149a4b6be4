"""Plays the demo while parts are killed -9, and returns its report."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitalwire import demo
from vitalwire.stage import Stage

Act = Callable[[Stage], None]


def kill_edge(stage: Stage) -> None:
    stage.parts["amb-07"].kill()


def kill_cloud(stage: Stage) -> None:
    stage.parts["cloud"].kill()


def kill_broker(stage: Stage) -> None:
    os.kill(stage.broker_pid(), signal.SIGKILL)


KILLS: dict[str, Act] = {"edge": kill_edge, "cloud": kill_cloud, "broker": kill_broker}


def random_schedule(seed: int, for_s: float, kills: int) -> list[tuple[float, Act]]:
    """Kills at random instants, the last early enough to come back within the scene; the same seed, the same kills."""
    chance = random.Random(seed)
    return sorted(
        ((chance.uniform(2, for_s - 2), chance.choice(list(KILLS.values()))) for _ in range(kills)),
        key=lambda step: step[0],
    )


def play(
    folder: Path,
    for_s: float,
    schedule: Sequence[tuple[float, Act]] = (),
    *,
    mutant: Mapping[str, Sequence[str]] | None = None,
    record: Path | None = None,
) -> dict[str, Any]:
    """The demo's report after `schedule`: seconds from the first sample a screen saw, and what to do then."""
    plan = demo.Plan(record=record, for_s=for_s, port=0, state=folder / "demo", mutant=mutant or {})
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
        act(stage)

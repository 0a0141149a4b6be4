"""Everything that can go wrong between sensor and record, by a random schedule, on the demo's real parts.

After `--minutes` all is well again, the boxes drain, and their ledgers and the simulated devices' truth are judged
against the store, and the alarms stored against those that the measurements called for. The same seed plays the same
kinds at the same instants with the same parameters; a fault that needs what another one holds waits for it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

from bench._fault_judge import verdict, wait_until_drained
from bench._fault_kinds import KINDS, Fault, NotInjected, claims, disturbs, schedule
from bench._fault_stage import FaultStage
from vitalwire.judge import RunKey, accepted_runs
from vitalwire.stage import Part, on_stage
from wire.runs import RunSet

_SCENE = "first_light"
_FAULTS_PER_MINUTE = 7.5
# Of the scene's end: boxes come back from their back-offs and the monitor hears all its answers.
_HEALED_S = 20.0
_HEALED_SHARE = 0.3
_SIMULATOR_GRACE_S = 60.0
_DRAIN_S = 120.0
_HAND_OVER_S = 30.0
_LOOK_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, and which schedule."""
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the stage is left when a promise was broken")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures; Any because they are JSON."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    for_s = arguments.minutes * 60
    with tempfile.TemporaryDirectory(prefix="vitalwire-faults-") as folder:
        stage = FaultStage(Path(folder) / "stage", _SCENE, seed=arguments.seed)
        within_s = for_s - min(_HEALED_S, for_s * _HEALED_SHARE)
        faults = schedule(arguments.seed, within_s, round(arguments.minutes * _FAULTS_PER_MINUTE), stage.boxes)
        report = asyncio.run(play(stage, for_s, within_s, faults, keep=arguments.keep))
    return {"seed": arguments.seed, **report}


async def play(
    stage: FaultStage,
    for_s: float,
    within_s: float,
    faults: Sequence[Fault],
    *,
    drain_s: float = _DRAIN_S,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Plays `for_s` seconds of the scene with the faults in its first `within_s`, heals, drains and judges.

    Copies the stage's folder to `keep` when anything was lost, doubled or altered.
    """
    injected: Counter[str] = Counter()
    missed: Counter[str] = Counter()

    async def act() -> tuple[int, dict[RunKey, RunSet], bool]:
        simulator = await stage.start_simulator(record=None, for_s=for_s)
        await _first_sample(stage)
        try:
            async with asyncio.timeout(within_s):
                await _inject(stage, faults, injected, missed)
        except TimeoutError:
            print(f"{within_s:6.1f} s  faults still under way end here", file=sys.stderr)
        stage.heal()
        copies = await _copies_hand_over(stage)
        code = await _end(simulator, for_s - within_s + _SIMULATOR_GRACE_S)
        # The account closes here: what boxes accept from now on (heartbeats) is not waited for.
        accepted = accepted_runs(stage.ledgers()) | copies
        return code, accepted, await wait_until_drained(stage, accepted, drain_s)

    async with stage.set():
        code, accepted, is_drained = await on_stage(stage, act)
        found = await asyncio.to_thread(verdict, stage, accepted)
        if keep is not None and found.findings:
            await asyncio.to_thread(shutil.copytree, stage.folder, keep, dirs_exist_ok=True)
    traffic = stage.slow_traffic
    return {
        "faults": dict(sorted(injected.items())),
        "injected": injected.total(),
        "not_injected": dict(missed),
        "lost": found.lost,
        "duplicates": found.duplicates,
        "altered": found.altered,
        "alarms_due": found.alarms_due,
        "alarms_missing": found.alarms_missing,
        "alarms_doubled": found.alarms_doubled,
        "accepted": found.records_spooled,
        "stored": found.records_stored,
        "truth_samples": found.truth_samples,
        "stored_samples": found.stored_samples,
        "gaps": found.gaps,
        "findings": found.findings,
        "amplification": round(traffic.published / traffic.fresh, 3) if traffic.fresh else None,
        "restarts": {name: part.restarts for name, part in stage.parts.items()},
        "drained": is_drained,
        "simulator_exit": code,
        "errors": _told(stage.errors()),
    }


async def _first_sample(stage: FaultStage) -> None:
    # The simulator writes its truth with the first sample.
    while not list(stage.truth.glob("*/*.i32")):
        await asyncio.sleep(_LOOK_S)


async def _inject(stage: FaultStage, faults: Sequence[Fault], injected: Counter[str], missed: Counter[str]) -> None:
    held = {claim: asyncio.Lock() for fault in faults for claim in claims(fault, stage.boxes)}
    started_s = asyncio.get_running_loop().time()

    async def inject(fault: Fault) -> None:
        await asyncio.sleep(started_s + fault.at_s - asyncio.get_running_loop().time())
        async with AsyncExitStack() as taken:
            for claim in claims(fault, stage.boxes):
                await taken.enter_async_context(held[claim])
            print(fault, file=sys.stderr, flush=True)
            try:
                box = fault.given.box
                with stage.disturbing(box) if disturbs(fault.kind) else nullcontext():
                    await KINDS[fault.kind].act(stage, fault.given)
                injected[fault.kind] += 1
            except NotInjected as reason:
                print(f"{fault.kind}: {reason}", file=sys.stderr)
                missed[fault.kind] += 1

    async with asyncio.TaskGroup() as tasks:
        for fault in faults:
            tasks.create_task(inject(fault), name=f"{fault.kind} at {fault.at_s:.1f} s")


async def _copies_hand_over(stage: FaultStage) -> dict[RunKey, RunSet]:
    """Copies of boxes come back one by one until the cloud has what they had accepted; returns what that was.

    One by one: all of them bear the same name, and the broker lets only the newest of them stay.
    """
    copies: dict[RunKey, RunSet] = {}
    for name in stage.clones:
        accepted = accepted_runs([stage.ledger(name)])
        copies |= accepted
        await stage.parts[name].start()
        await wait_until_drained(stage, accepted, _HAND_OVER_S)
        stage.parts[name].kill()
    return copies


async def _end(simulator: Part, limit_s: float) -> int:
    """How the simulated devices ended; -1 when they did not."""
    assert simulator.process is not None
    try:
        async with asyncio.timeout(limit_s):
            return await simulator.process.wait()
    except TimeoutError:
        return -1


def _told(errors: Sequence[str]) -> Mapping[str, int]:
    """Each error once, without its time, with how often."""
    return dict(Counter(f"{line.split(':')[0]}: {line.split(' ERROR ')[-1][:160]}" for line in errors).most_common(20))

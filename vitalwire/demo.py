"""The demo from curtain to verdict."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cloud.store import account
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from firmware_sim.replay import ReplayError, open_recording
from firmware_sim.scene import load_scene
from firmware_sim.truth import Truth
from vitalwire import mosquitto
from vitalwire.command import UsageError
from vitalwire.judge import RunKey, accepted_runs, judge, missing_records
from vitalwire.stage import MONITOR_ID, Stage, check_port, demo_home, free_port, on_stage, prepare_folder
from vitalwire.watcher import Watcher
from wire.runs import RunSet

_log = logging.getLogger(__name__)

_POLL_S = 0.25
# The twins may need their own drain after the last sample, and a killed box a restart.
_SIMULATOR_GRACE_S = 60.0


class Plan(NamedTuple):
    """What to show."""

    scene: str = "first_light"
    record: Path | None = None
    for_s: float | None = None
    report: Path | None = None
    port: int = 8080
    drain_s: float = 60.0
    state: Path | None = None
    broker: str = "embedded"
    mutant: Mapping[str, Sequence[str]] = {}


def run(plan: Plan) -> int:
    """Runs the demo to its end. Raises UsageError and ConfigError before anything starts."""
    stage = prepare(plan)
    return asyncio.run(_until_interrupted(plan, stage))


def prepare(plan: Plan) -> Stage:
    """Checks all that can be checked before anything starts. Raises UsageError, ConfigError."""
    load_scene(plan.scene)
    if plan.broker == "mosquitto":
        mosquitto.find()
    if plan.record is not None:
        try:
            open_recording(plan.record)
        except ReplayError as error:
            raise UsageError(f"--record: {error}") from None
    if plan.report is not None and not plan.report.resolve().parent.is_dir():
        raise UsageError(f"--report {plan.report}: no such folder")
    port = plan.port or free_port()
    check_port(port)
    folder = (plan.state or demo_home()).resolve()
    prepare_folder(folder)
    return Stage(folder, plan.scene, port=port, broker=plan.broker, mutant=plan.mutant)


async def _until_interrupted(plan: Plan, stage: Stage) -> int:
    show = asyncio.ensure_future(perform(plan, stage))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, show.cancel)
    try:
        report = await show
    except asyncio.CancelledError:
        print("\nEnded; no process is left.")
        return 0
    print(json.dumps(report, ensure_ascii=False, indent=2))
    if plan.report is not None:
        plan.report.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0 if is_clean(report) else 1


def is_clean(report: Mapping[str, Any]) -> bool:
    """Whether the promise was kept: nothing lost, doubled or altered, and the twins ended by themselves."""
    return not (report["lost"] or report["duplicates"] or report["simulator_exit"])


async def perform(plan: Plan, stage: Stage) -> dict[str, Any]:
    """Plays the scene and judges it; with no `for_s` it plays until cancelled."""

    async def act() -> dict[str, Any]:
        watcher = Watcher(stage.url)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watcher.run(), name="watcher")
            started = time.monotonic()
            simulator = await stage.start_simulator(record=plan.record, for_s=plan.for_s)
            _tell(stage)
            assert simulator.process is not None
            try:
                limit_s = None if plan.for_s is None else plan.for_s + _SIMULATOR_GRACE_S
                async with asyncio.timeout(limit_s):
                    code = await simulator.process.wait()
            except TimeoutError:
                code = -1
            _log.info("the simulated devices ended after %.1f s with %d", time.monotonic() - started, code)
            # The account closes here: what boxes accept from now on (heartbeats) is not waited for.
            accepted = accepted_runs(stage.ledgers())
            await _drained(stage, accepted, plan.drain_s)
            watching.cancel()
        return await asyncio.to_thread(_report, stage, watcher, accepted, code)

    return await on_stage(stage, act)


def _tell(stage: Stage) -> None:
    print(f"ER screen     {stage.url}/er   (simulated patients; demo, signed in automatically)")
    print(f"State, logs   {stage.folder}")
    print("Ctrl-C ends it.", flush=True)


async def _drained(stage: Stage, accepted: Mapping[RunKey, RunSet], limit_s: float) -> None:
    """Until everything accepted is stored, or the time for it is over: the judge then says what is missing."""
    database = await asyncio.to_thread(Database, stage.store_file)
    try:
        async with asyncio.timeout(limit_s):
            # Another process fills the database: there is no event to wait for.
            while await asyncio.to_thread(missing_records, accepted, database):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        _log.error("the backlog did not drain within %g s", limit_s)
    finally:
        database.close()


def _report(stage: Stage, watcher: Watcher, accepted: Mapping[RunKey, RunSet], simulator_exit: int) -> dict[str, Any]:
    """The report of the command contract; Any because it is JSON."""
    database = Database(stage.store_file)
    try:
        reader = StoreReader(database)
        truths = {gateway: Truth.read(stage.truth / twin) for twin, gateway in stage.monitors.items()}
        verdict = judge(database, accepted, truths, MONITOR_ID)
        return {
            "scene": stage.scene,
            "gateways": len(stage.gateways),
            **dataclasses.asdict(verdict),
            "dead_lettered": reader.counts()["dead_letter"],
            "alerts": _alerts(database),
            "live_ms": watcher.percentiles_ms(),
            "live_blocks": len(watcher.delays_ms),
            "sessions": [
                {"session_id": one.session_id, "gateway": one.gateway, "label": one.label}
                for one in reader.sessions(most=100)
            ],
            "resources": {name: {"rss_mb": part.rss_mb()} for name, part in stage.parts.items()},
            "restarts": {name: part.restarts for name, part in stage.parts.items()},
            "simulator_exit": simulator_exit,
            "state": str(stage.folder),
            "errors": stage.errors(),
        }
    finally:
        database.close()


def _alerts(database: Database) -> list[dict[str, Any]]:
    """Each alert with the states it went through."""
    found: dict[str, dict[str, Any]] = {}
    for step in account.alert_steps(database):
        alert = found.setdefault(step.alert.alert_id, {"condition": step.alert.condition, "states": []})
        alert["states"].append(step.alert.phase.value)
        alert.setdefault("raised_to_stored_ms", round((step.received_us - step.alert.time_us) / 1000, 1))
    return list(found.values())

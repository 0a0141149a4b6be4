"""What the fault laboratory does at random, once each and fast: half a minute that buys its oracles and its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench._fault_kinds import Fault, Parameters
from bench._fault_stage import FaultStage
from bench.faults import play

pytestmark = [pytest.mark.soak, pytest.mark.timeout(150)]

AMBULANCE, HOME = "amb-07", "home-01"


def fault(at_s: float, kind: str, box: str = AMBULANCE, *, for_s: float = 0.0, amount: float = 0.5) -> Fault:
    return Fault(at_s, kind, Parameters(box, for_s, amount, 0.5))


def run(
    folder: Path,
    for_s: float,
    faults: Sequence[Fault],
    *,
    mutant: Mapping[str, Sequence[str]] | None = None,
    drain_s: float = 60.0,
) -> dict[str, Any]:
    """The laboratory's report; all is well again for the last quarter of the scene."""
    stage = FaultStage(folder / "stage", "first_light", seed=1, mutant=mutant or {})
    return asyncio.run(play(stage, for_s, for_s * 0.75, faults, drain_s=drain_s))


def test_a_link_a_disk_a_clock_a_copy_and_poison_lose_and_double_nothing(tmp_path: Path) -> None:
    faults = [
        fault(0.5, "poison_record", amount=0.0),
        fault(1.0, "boot_in_1970", HOME, for_s=8),
        fault(1.0, "puback_and_drop", for_s=3),
        fault(1.0, "poison_record", amount=0.9),
        fault(2.0, "clock_back", for_s=3),
        fault(4.5, "link_half_open", for_s=2),
        fault(6.0, "disk_full", for_s=3),
        fault(9.5, "cloned_box", HOME, for_s=5),
        fault(15.0, "cloud_restored", for_s=3),
    ]
    report = run(tmp_path, 60, faults)
    assert (report["lost"], report["duplicates"], report["findings"]) == (0, 0, [])
    assert (report["drained"], report["simulator_exit"]) == (True, 0)
    assert report["truth_samples"] == report["stored_samples"] > 50_000
    assert report["restarts"][HOME] == 1
    assert (report["alarms_missing"], report["alarms_doubled"]) == (0, 0)
    needs_root = {"disk_full"} if report["not_injected"] else set()
    assert set(report["faults"]) == {one.kind for one in faults} - needs_root


@pytest.mark.parametrize(
    ("part", "mutation", "kind"),
    [
        (AMBULANCE, "skip_receipt_check", "puback_and_drop"),
        ("cloud", "drop_what_cannot_be_read", "poison_record"),
    ],
)
def test_broken_promise_is_noticed(tmp_path: Path, part: str, mutation: str, kind: str) -> None:
    mutant = {part: ("-m", "tests.system.mutants", mutation)}
    # What a broken part does not keep never comes: no need to wait for it long.
    report = run(tmp_path, 8, [fault(1.0, kind, for_s=3)], mutant=mutant, drain_s=5)
    assert report["faults"] == {kind: 1}
    assert report["lost"] > 0, report


SCENE = """
title = "A patient badly off, who is better at 12 s"
[[monitor]]
name = "monitor-amb-07"
vehicle = "AMB-07"
scenario = "{scenario}"
"""
SCENARIO = """
title = "Too little oxygen until 12 s"
[baseline]
spo2_percent = 84
[[stretch]]
from_s = 12
over_s = 1
spo2_percent = 97
"""
# Quick to alarm, so that a kill can come soon after.
LIMITS = """
version = "test"
population = "test"
persist_s = 2.0
clear_s = 1.0
[limits.spo2]
low = 90
margin = 1
"""


def run_alarm_and_kill(folder: Path, for_s: float, mutant: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One box whose alarm has stood for seconds when it is killed."""
    files = {"scenario": SCENARIO, "scene": SCENE.format(scenario=folder / "scenario.toml"), "limits": LIMITS}
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    stage = FaultStage(
        folder / "stage", str(folder / "scene.toml"), seed=1, mutant=mutant, alarm_limits=folder / "limits.toml"
    )
    report = asyncio.run(play(stage, for_s, for_s - 1, [fault(6.0, "kill_edge")], drain_s=20))
    assert report["faults"] == {"kill_edge": 1}
    return report


def test_an_alarm_stands_through_a_kill_and_clears_once(tmp_path: Path) -> None:
    # Killed at 6 s, beyond doubt watching again at 21 s, and 6 s are to be seen from there.
    report = run_alarm_and_kill(tmp_path, 29, {})
    assert (report["lost"], report["duplicates"], report["findings"]) == (0, 0, [])
    assert (report["alarms_due"], report["alarms_missing"], report["alarms_doubled"]) == (1, 0, 0)


def test_a_box_that_forgets_its_alarms_is_noticed(tmp_path: Path) -> None:
    report = run_alarm_and_kill(tmp_path, 13, {AMBULANCE: ("-m", "tests.system.mutants", "forget_alarms")})
    assert (report["alarms_missing"], report["alarms_doubled"]) == (0, 1), report
    assert (report["lost"], report["duplicates"]) == (0, 1)

"""kill -9 of every part in the middle of a stream: about a minute that buys the first promise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.kills import kill_broker, kill_cloud, kill_edge, play, random_schedule

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ROUNDS = int(os.environ.get("VITALWIRE_SOAK_ROUNDS", "1"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kill9_of_edge_cloud_and_broker_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    schedule = [(4.0, kill_edge), (7.0, kill_broker), (10.0, kill_cloud), (13.0, kill_edge)]
    if seed:
        schedule = random_schedule(seed, 20, kills=6)
    report = play(tmp_path, 16 if not seed else 20, schedule)
    assert report["lost"] == 0, report["findings"]
    assert report["duplicates"] == 0, report["findings"]
    assert report["simulator_exit"] == 0
    assert report["truth_samples"] == report["stored_samples"] > 50_000
    assert report["records_spooled"] > 50
    # The alarm of the scene was raised once although the box was killed while it was building up or standing.
    assert report["alerts"]
    assert len({session["gateway"] for session in report["sessions"]}) == len(report["sessions"])


@pytest.mark.parametrize(
    ("mutation", "schedule", "blamed"),
    [
        ("skip_receipt_check", [(3.0, kill_cloud), (4.0, kill_cloud), (5.0, kill_broker)], "lost"),
        ("forget_transfers", [(3.0, kill_edge), (5.0, kill_edge), (7.0, kill_edge)], "duplicates"),
    ],
)
def test_broken_promise_is_noticed(tmp_path: Path, mutation: str, schedule: list, blamed: str) -> None:  # type: ignore[type-arg]
    mutant = {"amb-07": ("-m", "tests.system.mutants", mutation)}
    report = play(tmp_path, 10, schedule, mutant=mutant)
    assert report[blamed] > 0, report

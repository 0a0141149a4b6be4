"""kill -9 of every part in the middle of a stream: about a minute that buys the first promise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.kills import Act, cloud_and_buffer_are_lost, kill_broker, kill_cloud, kill_edge, play, random_schedule
from vitalwire import demo

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SCHEDULE = (
    (3.0, kill_edge),
    (5.0, kill_broker),
    (7.0, kill_cloud),
    (9.0, cloud_and_buffer_are_lost),
    (13.0, kill_edge),
)
# `make soak` plays random schedules by seed.
ROUNDS = int(os.environ.get("VITALWIRE_SOAK_ROUNDS", "1"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kill9_of_edge_cloud_and_broker_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    schedule = [
        (3.0, kill_edge),
        (5.0, kill_broker),
        (7.0, kill_cloud),
        (9.0, cloud_and_buffer_are_lost),
        (13.0, kill_edge),
    ]
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


def test_kill9_between_disk_and_answer_doubles_nothing(tmp_path: Path) -> None:
    report = play(tmp_path, 6, mutant={"amb-07": ("-m", "tests.system.mutants", "crash_before_answer")})
    assert report["restarts"]["amb-07"] == 1
    assert (report["lost"], report["duplicates"]) == (0, 0), report["findings"]


@pytest.mark.parametrize(
    ("mutation", "schedule", "blamed"),
    [
        ("skip_receipt_check", [(3.0, cloud_and_buffer_are_lost)], "lost"),
        ("forget_transfers", [], "duplicates"),
    ],
)
def test_broken_promise_is_noticed(
    tmp_path: Path, mutation: str, schedule: list[tuple[float, Act]], blamed: str
) -> None:
    mutant = {"amb-07": ("-m", "tests.system.mutants", mutation)}
    report = play(tmp_path, 8, schedule, mutant=mutant)
    assert report[blamed] > 0, report
    assert not demo.is_clean(report)

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
    (12.0, kill_edge),
)
# The patient's oxygen is low from about 11 s and must stay so for 10 s, counted anew when the box is killed meanwhile.
FOR_S = 30
# `make soak` plays random schedules by seed.
ROUNDS = int(os.environ.get("VITALWIRE_SOAK_ROUNDS", "1"))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kill9_of_edge_cloud_and_broker_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    schedule = random_schedule(seed, 20, kills=6) if seed else SCHEDULE
    report = play(tmp_path, FOR_S, schedule)
    assert report["lost"] == 0, report["findings"]
    assert report["duplicates"] == 0, report["findings"]
    assert report["simulator_exit"] == 0
    assert report["truth_samples"] == report["stored_samples"] > 50_000
    assert report["records_spooled"] > 50
    if not seed:
        # Raised once although the box was killed while it was building up.
        assert [alert["condition"] for alert in report["alerts"]].count("spo2_low") == 1
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
    # What a broken box does not send again never comes: no need to wait for it long.
    report = play(tmp_path, 8, schedule, mutant=mutant, drain_s=8)
    assert report[blamed] > 0, report
    assert not demo.is_clean(report)

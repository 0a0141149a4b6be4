"""Each delivery benchmark with small numbers: one object with its keys comes last, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
VERDICT = {"accepted", "delivered", "duplicates", "lost", "peers"}


def figures(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    # The peers cost minutes: a folder that is not there leaves them out.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VITALWIRE_PEERS": str(tmp_path / "none")}
    command = [sys.executable, "-m", "bench", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_outage_delivers_every_record_once(tmp_path: Path) -> None:
    found = figures(tmp_path, "outage", "--records", "500")
    assert found.keys() >= VERDICT
    assert (found["accepted"], found["delivered"]) == (500, 500)
    assert (found["lost"], found["duplicates"], found["ledger_lost"]) == (0, 0, 0)
    assert "VITALWIRE_PEERS" in found["peers"]["thingsboard-gateway"]


def test_kill9_loses_and_doubles_nothing_accepted(tmp_path: Path) -> None:
    found = figures(tmp_path, "kill9", "--kills", "2", "--rate", "200")
    assert found.keys() >= VERDICT
    assert found["delivered"] >= found["accepted"] > 2
    assert (found["lost"], found["duplicates"], found["ledger_lost"]) == (0, 0, 0)
    assert (found["kills"], found["last_exit"]) == (2, 0)


def test_drain_measures_live_delay_with_and_without_a_backlog(tmp_path: Path) -> None:
    found = figures(tmp_path, "drain", "--records", "3000", "--alone-for", "3")
    assert found.keys() >= {"drain_per_s", "live_p99_ms", "live_p99_alone_ms"}
    assert found["drain_per_s"] > 0
    assert found["live_p99_alone_ms"] > 0
    assert found["live_blocks_alone"] >= 4
    assert (found["records"], found["lost"], found["duplicates"]) == (3000, 0, 0)


def test_reconnect_brings_every_gateway_back(tmp_path: Path) -> None:
    found = figures(tmp_path, "reconnect", "--gateways", "12")
    assert found.keys() >= {"gateways", "all_back_s", "peak_connects_per_s"}
    assert (found["gateways"], found["lost"]) == (12, 0)
    assert found["all_back_s"] > 0
    assert 0 < found["peak_connects_per_s"] <= found["accepted"]
    assert found["accepted"] >= 12


@pytest.mark.parametrize("tls", [(), ("--tls",)], ids=["passwords", "enrolled"])
def test_live_and_ingest_measure_with_and_without_tls(tmp_path: Path, tls: tuple[str, ...]) -> None:
    found = figures(tmp_path, "live", "--ambulances", "4", "--for", "3", *tls)
    assert found.keys() >= {"ambulances", "p50_ms", "p99_ms", "bare_p50_ms", "bare_p99_ms"}
    assert (found["tls"], found["blocks"] > 0, found["bare_blocks"] > 0) == (bool(tls), True, True)
    found = figures(tmp_path, "ingest", "--batches", "1000", *tls)
    assert found.keys() >= {"batches_per_s", "bare_per_s", "ratio_to_bare"}
    assert (found["tls"], found["records_stored"]) == (bool(tls), 1500)

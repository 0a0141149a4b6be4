"""ThingsBoard's gateway beside our box: its own storage classes, in a process and a venv of their own.

    uv venv .venv-thingsboard
    uv pip install --python .venv-thingsboard/bin/python thingsboard-gateway==3.8.5

`VITALWIRE_THINGSBOARD` names that Python when it lies elsewhere, `VITALWIRE_PEERS` the folder of
`thingsboard_storage.py` (default `../shared/peers`). Without either the peer is left out, and the figures say so.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "thingsboard-gateway"
_LIMIT_S = 300.0

Peers = dict[str, object]


def _script() -> Path:
    return Path(os.environ.get("VITALWIRE_PEERS", "../shared/peers")) / "thingsboard_storage.py"


def _python() -> Path:
    return Path(os.environ.get("VITALWIRE_THINGSBOARD", ".venv-thingsboard/bin/python"))


def _why_left_out() -> str:
    """Empty when the peer can be measured here."""
    if not _script().is_file():
        return f"left out: no {_script()}; set VITALWIRE_PEERS"
    if not _python().is_file():
        return f"left out: no {_python()}; set VITALWIRE_THINGSBOARD"
    probe = subprocess.run([_python(), "-c", "import thingsboard_gateway"], capture_output=True, timeout=_LIMIT_S)
    return "" if probe.returncode == 0 else f"left out: {NAME} is not installed for {_python()}"


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(_python()), str(_script()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)


def _figures(completed: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The JSON object a run printed last, or how it ended without one."""
    lines = completed.stdout.splitlines()
    if not lines:
        return {"failed": f"exit {completed.returncode}: {completed.stderr.strip()[-200:]}"}
    figures: dict[str, object] = json.loads(lines[-1])
    return figures


def outage(records: int) -> Peers:
    """Both of its storages given a backlog of `records` and then drained."""
    if why := _why_left_out():
        return {NAME: why}
    found: Peers = {}
    for kind in ("file", "sqlite"):
        print(f"{NAME} {kind} …", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            found[f"{NAME} {kind}"] = _figures(_ask("outage", kind, folder, str(records)))
    return found


def kills(rounds: int, rate: float, chance: random.Random, span_s: tuple[float, float]) -> Peers:
    """Its SQLite storage killed in as many rounds as our box, each in a fresh folder and a random time after its first
    event. The file has no count for the other storage."""
    if why := _why_left_out():
        return {NAME: why}
    accepted = survived = lost = 0
    for number in range(rounds):
        print(f"{NAME} sqlite, kill {number + 1} of {rounds} …", file=sys.stderr)
        events = max(1, round(chance.uniform(*span_s) * rate))
        with tempfile.TemporaryDirectory() as folder:
            _ask("write", "sqlite", folder, str(events), str(rate))
            counted = _figures(_ask("count", "sqlite", folder))
        if "failed" in counted:
            return {f"{NAME} sqlite": counted}
        accepted += int(str(counted["accepted"]))
        survived += int(str(counted["survived"]))
        lost += int(str(counted["lost"]))
    return {f"{NAME} sqlite": {"kills": rounds, "accepted": accepted, "delivered": survived, "lost": lost}}

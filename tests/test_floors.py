"""Imports go down only: reads every import of the house and fails on a forbidden one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ALLOWED: dict[str, set[str]] = {
    "wire": set(),
    "configs": set(),
    "signals": {"wire"},
    "clinical": {"wire"},
    "drivers": {"wire"},
    "firmware_sim": {"wire"},
    "screens": set(),
    "edge": {"wire", "signals", "clinical", "drivers", "screens", "configs"},
    "cloud": {"wire", "signals", "clinical", "screens", "configs"},
    "vitalwire": {"wire", "configs", "signals", "clinical", "drivers", "firmware_sim", "screens", "edge", "cloud"},
    "bench": {
        "wire",
        "configs",
        "signals",
        "clinical",
        "drivers",
        "firmware_sim",
        "screens",
        "edge",
        "cloud",
        "vitalwire",
    },
}
# Third parties sit at the rim: where each may be imported.
RIM: dict[str, tuple[str, ...]] = {
    "bleak": ("drivers/links/",),
    "bumble": ("drivers/links/bumble_backend.py", "firmware_sim/", "bench/"),
    "aiomqtt": ("edge/uplink.py", "cloud/bus/", "bench/"),
    "paho": ("cloud/bus/mqtt.py",),
    "nats": ("cloud/bus/", "bench/"),
    "sqlite3": ("edge/spool/", "edge/outbox.py", "cloud/store/"),
    "cryptography": (
        "cloud/enrolment/",
        "edge/enrolment.py",
        "edge/identity.py",
        "edge/trust.py",
        "edge/spool/cipher.py",
    ),
    "argon2": ("cloud/passwords.py",),
    "psycopg": ("cloud/store/",),
    "sqlalchemy": ("cloud/store/", "cloud/consumers.py", "cloud/enrolment/register.py"),
    "httpx": ("vitalwire/stage.py", "vitalwire/commands/command.py", "cloud/oidc.py"),
    "joserfc": ("cloud/oidc.py", "cloud/oidc_claims.py"),
}
# Pure: values in, values out.
PURE = ("signals/", "clinical/", "edge/pipeline.py", "edge/timebase.py", "edge/window.py", "wire/waveform.py")
IMPURE = {"asyncio", "socket", "logging", "time", "sqlite3", "aiomqtt", "os", "threading", "subprocess"}


def sources() -> list[Path]:
    return [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_and_third_parties_stay_at_the_rim(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    package = where.split("/")[0]
    for module in imports(path):
        top = module.split(".")[0]
        if top in ALLOWED and top != package:
            assert top in ALLOWED[package], f"{where} imports {module}"
        if top in RIM:
            assert where.startswith(RIM[top]), f"{where} imports {module}"
    if where.startswith(PURE):
        assert not imports(path) & IMPURE, f"{where} is pure"


def test_every_package_has_its_floor() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(ALLOWED)

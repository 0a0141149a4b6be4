"""The screens' pure modules, run by node's own test runner (*.test.mjs)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
SUITES = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.skipif(NODE is None, reason="node is not installed: apt-get install nodejs; pytest tests/screens")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_pure_modules_of_the_screens_keep_their_promises(suite: Path) -> None:
    run = subprocess.run([str(NODE), "--test", str(suite)], capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stdout + run.stderr

"""The screens' pure modules, run by node's own test runner (logic.test.mjs)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
SUITE = Path(__file__).with_name("logic.test.mjs")


@pytest.mark.skipif(NODE is None, reason="node is not installed: apt-get install nodejs; pytest tests/screens")
@pytest.mark.timeout(60)
def test_pure_modules_of_the_screens_keep_their_promises() -> None:
    run = subprocess.run([str(NODE), "--test", str(SUITE)], capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stdout + run.stderr

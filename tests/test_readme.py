"""README stays true: every command it names runs, every link leads somewhere, every driver and key is covered."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from cloud.config import CloudConfig
from edge.config import EdgeConfig
from tests.conftest import ROOT
from vitalwire.__main__ import COMMANDS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_named_exists_and_every_command_is_named() -> None:
    named = set(re.findall(r"vitalwire ([a-z]+)", README)) - {"is"}
    assert named == set(COMMANDS)


@pytest.mark.timeout(60)  # each is a fresh interpreter
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitalwire", command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"usage: vitalwire {command}")


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / link).exists(), link


@pytest.mark.parametrize(("name", "kind"), [("edge.toml", EdgeConfig), ("cloud.toml", CloudConfig)])
def test_example_configuration_names_every_key(name: str, kind: type[msgspec.Struct]) -> None:
    text = (ROOT / "configs" / name).read_text()
    tomllib.loads(text)
    for field in msgspec.structs.fields(kind):
        assert re.search(rf"\b{field.encode_name}\b", text), field.encode_name

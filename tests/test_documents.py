"""What the documents say is there: every test that docs/ and README name as a proof exists, and proves something."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_TEST = re.compile(r"`(tests/[\w./]+\.py)::(\w+)`")
_ROW = re.compile(r"^\| ([TH]\d+) \|", re.MULTILINE)


@cache
def functions(path: Path) -> dict[str, ast.AST]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_named_exists(document: Path) -> None:
    for file, name in _TEST.findall(document.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), f"{document.name} names {file}"
        assert name in functions(ROOT / file), f"{document.name} names {file}::{name}"


@pytest.mark.parametrize("name", ["threats.md", "hazards.md"])
def test_every_threat_and_hazard_is_shown_by_a_test(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if _ROW.match(line)]
    assert len(rows) > 10
    assert [row[:40] for row in rows if not _TEST.search(row)] == []
    numbers = [int(found[1:]) for found in _ROW.findall(text)]
    assert numbers == list(range(1, len(numbers) + 1))

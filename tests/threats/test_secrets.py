"""No default password and no secret anywhere in what is shipped: secrets come from files, or from the environment."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.cloud.api.apps import PASSWORD

ROOT = Path(__file__).parents[2]
SHIPPED = ("wire", "signals", "clinical", "drivers", "firmware_sim", "edge", "cloud", "screens", "vitalwire", "configs")
# A name that says what it holds, alone or as the end of another: oidc_client_secret.
HOLDS = re.compile(r"(?i)(^|_)(password|passwd|secret|token|api_?key|private_?key|passphrase|credential)$")
# Names of things, as ruff's S105 finds them too, each with what it really is.
NAMES_OF_THINGS = {
    "TOKEN_COOKIE": "a cookie's name",
    "TOKEN": "a mode's name",
}
BY_FORM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|"
    r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[baprs]-[A-Za-z0-9-]{10,}"
    r"|\beyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}|://[^/\s:@\"'{}]+:[^/\s@\"'{}]+@"
)


def shipped(*suffixes: str) -> list[Path]:
    found = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    assert found
    return found


def written_values(tree: ast.AST) -> list[tuple[str, str]]:
    """Every text that code gives to a name, an argument, a default or a key."""
    found: list[tuple[str, ast.expr | None]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                found += [(name.id, value) for name in targets if isinstance(name, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                found.append((name, value))
            case ast.keyword(arg=str(name), value=value):
                found.append((name, value))
            case ast.arguments():
                pairs = zip(node.args[len(node.args) - len(node.defaults) :], node.defaults, strict=True)
                found += [(argument.arg, value) for argument, value in pairs]
                found += [(one.arg, value) for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
            case ast.Dict():
                keys = zip(node.keys, node.values, strict=True)
                found += [(str(key.value), value) for key, value in keys if isinstance(key, ast.Constant)]
    return [(name, value.value) for name, value in found if isinstance(value, ast.Constant) and is_text(value.value)]


def is_text(value: object) -> bool:
    return isinstance(value, str | bytes) and bool(value)


def suspicious(source: str) -> list[str]:
    values = written_values(ast.parse(source))
    return [f"{name} = {value!r}" for name, value in values if HOLDS.search(name) and name not in NAMES_OF_THINGS]


def test_no_code_writes_a_password_into_anything() -> None:
    for path in shipped(".py"):
        assert suspicious(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    "source",
    ["PASSWORD = 'admin'", "connect(password='admin')", "def open(user, token='x'): ...", "config = {'secret': 'x'}",
     "client_secret: str = 'x'", "def open(*, api_key='x'): ..."],
)  # fmt: skip
def test_it_would_be_found(source: str) -> None:
    assert len(suspicious(source)) == 1


def test_no_configuration_has_a_secret_but_the_file_that_holds_it() -> None:
    """Also in what stands commented out: that is what people copy."""
    keys = re.compile(r"^\s*#?\s*([a-z_]+)\s*=", re.MULTILINE)
    for path in shipped(".toml", ".acl", ".service"):
        text = path.read_text(encoding="utf-8")
        for key in keys.findall(text):
            assert not HOLDS.search(key), f"{path}: {key}: name a file, {key}_file"


def test_nothing_has_the_form_of_a_key_or_the_password_of_the_tests() -> None:
    for path in shipped(".py", ".toml", ".js", ".mjs", ".html", ".json", ".acl", ".service"):
        text = path.read_text(encoding="utf-8")
        assert not BY_FORM.search(text), path
        assert PASSWORD not in text, path


def test_no_secret_is_an_argument_of_the_command_line() -> None:
    """There every user of the machine reads it."""
    for path in (ROOT / "vitalwire").rglob("*.py"):
        for option in re.findall(r"add_argument\(\s*\"--([a-z-]+)\"", path.read_text(encoding="utf-8")):
            assert not HOLDS.search(option.replace("-", "_")), f"{path}: --{option}"

"""One TOML file becomes one frozen struct; whatever is wrong is one sentence naming file, key and what is allowed."""

from __future__ import annotations

import re
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class ConfigError(Exception):
    """The configuration cannot be used: stop before anything starts."""


def load(path: Path, kind: type[T]) -> T:
    """Reads and validates one file, without connecting to anything. Raises ConfigError."""
    return parse(read_text(path), kind, where=str(path))


def read_text(path: Path) -> str:
    """The text of one file. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def parse(text: str, kind: type[T], *, where: str) -> T:
    """A text as its struct; `where` names it in errors. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from error
    return convert(table, kind, where=where)


def convert(table: dict[str, Any], kind: type[T], *, where: str) -> T:
    """A parsed table (Any: whatever TOML held) as its struct. Raises ConfigError."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), kind)}") from error


_AT_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_KEY = re.compile(r"unknown field `(?P<key>[^`]*)`")
_BAD_ENUM = re.compile(r"Invalid enum value")


def _explain(message: str, kind: type[msgspec.Struct]) -> str:
    """msgspec's words with the key first and, where it helps, the values that are allowed."""
    match = _AT_PATH.match(message)
    assert match is not None
    what, path = match["what"], (match["path"] or "").lstrip(".")
    at = _type_at(path, kind)
    if (unknown := _UNKNOWN_KEY.search(what)) and isinstance(at, type) and issubclass(at, msgspec.Struct):
        allowed = ", ".join(field.encode_name for field in msgspec.structs.fields(at))
        key = f"{path}.{unknown['key']}" if path else unknown["key"]
        return f"unknown key {key!r}; allowed here: {allowed}"
    if _BAD_ENUM.search(what) and isinstance(at, type) and issubclass(at, Enum):
        allowed = ", ".join(str(member.value) for member in at)
        return f"{path}: {what}; allowed: {allowed}"
    return f"{path or 'top level'}: {what}"


def _type_at(path: str, kind: Any) -> Any:
    """The declared type at a msgspec path such as `device[0].link`; Any because annotations are arbitrary."""
    current = kind
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        current = _without_none(current)
        if step.startswith("["):
            arguments = get_args(current)
            current = arguments[-1] if arguments and arguments[-1] is not Ellipsis else (arguments or (None,))[0]
        elif isinstance(current, type) and issubclass(current, msgspec.Struct):
            names = {field.encode_name: field.name for field in msgspec.structs.fields(current)}
            current = get_type_hints(current).get(names.get(step, step))
        else:
            return None
    return _without_none(current)


def _without_none(annotation: Any) -> Any:
    options = [argument for argument in get_args(annotation) if argument is not type(None)]
    return options[0] if type(None) in get_args(annotation) and len(options) == 1 else annotation

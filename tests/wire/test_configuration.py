from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from wire.configuration import ConfigError, load


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size_mb: int = 1
    colour: Colour = Colour.RED


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()


def write(folder: Path, text: str) -> Path:
    path = folder / "edge.toml"
    path.write_text(text)
    return path


def test_valid_file_becomes_the_struct(tmp_path: Path) -> None:
    assert load(write(tmp_path, 'name = "a"\n[inner]\nsize_mb = 3'), Outer) == Outer("a", Inner(3))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a"\ncolour = "red"', ["edge.toml", "'colour'", "name, inner, many"]),
        ('name = "a"\n[inner]\nsize = 3', ["'inner.size'", "size_mb, colour"]),
        ('name = "a"\n[[many]]\nsize = 3', ["many[0].size", "size_mb, colour"]),
        ('name = "a"\n[inner]\nsize_mb = "3"', ["inner.size_mb", "Expected `int`"]),
        ('name = "a"\n[inner]\ncolour = "green"', ["inner.colour", "green", "red, blue"]),
        ("[inner]", ["name"]),
        ("name = ", ["not TOML"]),
    ],
)
def test_wrong_file_is_one_sentence_with_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, text), Outer)
    message = str(raised.value)
    assert "\n" not in message
    for words in said:
        assert words in message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        load(tmp_path / "nowhere.toml", Outer)

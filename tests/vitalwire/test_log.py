"""What a process writes about itself: one line a message, exceptions without their words."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalwire.log import PrivateFormatter

NAME = "ZHANG^SANFENG"


def written(message: str, error: BaseException | None = None) -> str:
    trace = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("vitalwire.test", logging.ERROR, __file__, 1, "%s", (message,), trace)  # type: ignore[arg-type]
    return PrivateFormatter("%(levelname)s %(message)s").format(record)


@given(st.text(max_size=50))
def test_a_message_is_one_line_whatever_is_in_it(message: str) -> None:
    assert len(written(message).splitlines()) == 1


def test_a_message_cannot_forge_another_and_is_cut() -> None:
    assert written("link lost: x\n2026-11-25 INFO all is well") == "ERROR link lost: x\\x0a2026-11-25 INFO all is well"
    assert len(written("x" * 1_000_000)) < 3000


def test_an_exception_is_told_by_type_and_place_without_its_words() -> None:
    try:
        try:
            int(NAME)
        except ValueError as cause:
            group = ExceptionGroup(f"about {NAME}", [KeyError(NAME), OSError(NAME)])
            raise RuntimeError(f"cannot read {NAME}") from group.with_traceback(cause.__traceback__)
    except RuntimeError as error:
        text = written("driver failed", error)
    assert NAME not in text
    for told in ("builtins.RuntimeError", "ExceptionGroup", "builtins.KeyError", "builtins.OSError", __file__):
        assert told in text


def test_an_exception_that_is_its_own_context_ends() -> None:
    one, two = ValueError(NAME), TypeError(NAME)
    one.__context__, two.__context__ = two, one
    assert written("x", one).count("builtins.ValueError") == 1


def test_the_death_of_a_process_tells_no_words_either() -> None:
    dying = f"from vitalwire import log; log.begin(verbose=False); raise ValueError({NAME!r})"
    died = subprocess.run([sys.executable, "-c", dying], capture_output=True, text=True, check=False)
    assert died.returncode == 1
    assert "CRITICAL" in died.stderr
    assert "builtins.ValueError" in died.stderr
    assert NAME not in died.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("async def main():\n asyncio.ensure_future(fails())\n await asyncio.sleep(0)", "never retrieved"),
        ("async def main():\n asyncio.get_running_loop().call_soon(int, NAME)", "an error in the event loop"),
        ("class Ends:\n def __del__(self):\n  int(NAME)\nasync def main():\n Ends()", "where nobody could be told"),
    ],
)
def test_an_error_that_nobody_awaits_tells_no_words_either(code: str, told: str) -> None:
    lines = [
        "import asyncio",
        "from vitalwire import log",
        f"NAME = {NAME!r}",
        "async def fails():\n int(NAME)",
        code,
        "log.begin(verbose=False)",
        "asyncio.run(main())",
    ]
    ran = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert told in ran.stderr
    assert "builtins.ValueError" in ran.stderr
    assert NAME not in ran.stderr

"""One event is one line, whatever came from outside is in it."""

from __future__ import annotations

import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from vitalwire.log_lines import LineFormatter

FORGED = "x\n2026-11-25 08:00:00,000 INFO cloud.api routed by root"


def line_of(text: str, *, raised: str = "") -> str:
    record = logging.LogRecord("edge", logging.WARNING, __file__, 1, "device %s", (text,), None)
    if raised:
        try:
            raise ValueError(raised)
        except ValueError:
            record.exc_info = sys.exc_info()
    return LineFormatter().format(record)


@given(st.text())
def test_any_text_stays_one_line(text: str) -> None:
    assert len(line_of(text).splitlines()) == 1
    assert "\x1b" not in line_of(text)


def test_a_traceback_is_set_in_so_that_nothing_it_quotes_reads_as_an_event() -> None:
    first, *others = line_of(FORGED, raised=FORGED).split("\n")
    assert first.endswith("device x\\x0a2026-11-25 08:00:00,000 INFO cloud.api routed by root")
    assert any("routed by root" in line for line in others)
    assert all(line.startswith("    ") for line in others)


def test_what_is_harmless_is_written_as_it_is() -> None:
    assert line_of("strap\t心率").endswith(" WARNING edge device strap\t心率")

"""One event, one line: what came from outside can begin no line of its own in the log."""

from __future__ import annotations

import logging
import re

# Line ends of every kind that a reader of logs may know, and what steers a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class LineFormatter(logging.Formatter):
    """Writes control characters as escapes; the lines of a traceback are set in, so that none reads as an event."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The first line."""
        return _escape(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The whole event."""
        first, *others = super().format(record).split("\n")
        return "\n".join([first, *(f"    {_escape(line)}" for line in others)])


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)

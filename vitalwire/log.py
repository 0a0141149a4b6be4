"""What the processes write about themselves: one line a message, and no value of anybody in it.

An exception is told by its type and by where it was raised, never by its message or its variables: a message may quote
what could not be read, and that may be a name.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_log = logging.getLogger(__name__)
# A message quotes at most some words of a stranger; a flood of text in one line is no message.
_LONGEST = 2000
# C0 and C1 controls and Unicode's own line ends: none may begin a line that we did not write.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}

# What the event loop says without quoting anything; behind these words it shows tasks, handles and their exceptions.
_LOOP_WORDS = frozenset(
    {
        "Task exception was never retrieved",
        "Future exception was never retrieved",
        "Task was destroyed but it is pending!",
        "Unhandled exception in event loop",
        "unhandled exception during asyncio.run() shutdown",
    }
)


class PrivateFormatter(logging.Formatter):
    """Escapes control characters, cuts, and tells exceptions without their words."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        line = super().formatMessage(record)
        return (line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …").translate(_CONTROLS)

    def formatException(self, ei: object) -> str:
        """Type and place of an exception and of what caused it, the first cause first."""
        assert isinstance(ei, tuple)
        return "\n".join(_told(ei[1], set()))


def _told(error: BaseException | None, told: set[int]) -> list[str]:
    if error is None or id(error) in told:
        return []
    told.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = _told(cause, told)
    places = [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    lines += [*(["then"] if lines else []), *places, f"{type(error).__module__}.{type(error).__qualname__}"]
    if isinstance(error, BaseExceptionGroup):
        for number, one in enumerate(error.exceptions, 1):
            lines += [f"of them {number}:", *_told(one, told)]
    return lines


def begin(*, verbose: bool) -> None:
    """Sends every logger's words, and the death of the process, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrivateFormatter(_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)
    for loud in ("alembic", "httpx"):
        logging.getLogger(loud).setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_withhold)
    sys.excepthook = _on_crash
    sys.unraisablehook = _on_unraisable
    threading.excepthook = _on_thread_crash


def _withhold(record: logging.LogRecord) -> bool:
    """Of an error in the event loop only the loop's own words; its exception follows by type and place."""
    if record.levelno >= logging.ERROR:
        words = record.getMessage().partition("\n")[0]
        record.msg, record.args = words if words in _LOOP_WORDS else "an error in the event loop", ()
    return True


def _on_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("this process ends by an error of its own", exc_info=(kind, error, trace))


def _on_thread_crash(crash: threading.ExceptHookArgs) -> None:
    name = crash.thread.name if crash.thread is not None else "unknown"
    _log.error("thread %s ended by an error of its own", name, exc_info=crash.exc_value)


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    _log.error("%s where nobody could be told", unraisable.exc_type.__name__, exc_info=unraisable.exc_value)

"""MLLP as the sending side needs it: frame a message, and find the answers in the bytes that come back."""

from __future__ import annotations

from typing import NamedTuple

_START = b"\x0b"
_END = b"\x1c\x0d"
# An answer is two or three short segments; more without an end is not one.
_LARGEST_ANSWER = 64 * 1024


class Answer(NamedTuple):
    """MSA-1 and MSA-2."""

    code: str
    message_id: str


def frame(message: bytes) -> bytes:
    """The message between its start and end blocks."""
    return _START + message + _END


class AnswerReader:
    """Collects bytes in any pieces; whatever is not an answer is passed over."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> list[Answer]:
        """The answers completed by this piece."""
        self._held += piece
        answers = []
        *complete, self._held = self._held.split(_END)
        for block in complete:
            # After a broken frame only the last start block can begin the message that ended here.
            text = block.rpartition(_START)[2].decode("utf-8", errors="replace")
            answer = _parse(text)
            if answer is not None:
                answers.append(answer)
        if len(self._held) > _LARGEST_ANSWER:
            self._held = b""
        return answers


def _parse(text: str) -> Answer | None:
    segments = text.replace("\n", "\r").split("\r")
    separator = segments[0][3:4] if segments[0].startswith("MSH") else ""
    if not separator:
        return None
    for segment in segments:
        fields = segment.split(separator)
        if fields[0] == "MSA" and len(fields) > 2:
            return Answer(fields[1], fields[2])
    return None

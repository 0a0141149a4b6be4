"""A chain as JSON Lines and back: a row a line, and a last line that tells where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from cloud.store.audit.chain import START, ChainBroken, Entry, Head, Row

# A row of ours is under 20 kB also where JSON writes six bytes for each character; older rows were not cut to length.
_MOST_LINE_BYTES = 1 << 20


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row; the hashes in hex."""

    number: int
    at_us: int
    principal: str
    role: str
    action: str
    object: str
    source: str
    result: str
    reason: str
    previous: str
    hash: str


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: the last row as NUMBER:HASH."""

    rows: int
    head: str


def lines(rows: Iterable[Row]) -> Iterator[bytes]:
    """The lines of a file. What cannot be written, because it is no text any more, is written as escapes."""
    count, last = 0, START
    for row in rows:
        texts = (
            text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for text in row.entry.texts
        )
        line = _Line(row.number, row.entry.at_us, *texts, previous=row.previous.hex(), hash=row.hash.hex())  # type: ignore[misc]  # the texts are as many as the fields
        yield msgspec.json.encode(line) + b"\n"
        count, last = count + 1, Head(row.number, row.hash)
    yield msgspec.json.encode(_End(count, str(last))) + b"\n"


def rows_of(file: BinaryIO) -> Iterator[Row]:
    """The rows of a file, none of it left unread. Raises ChainBroken where a line is not as `lines` writes it."""
    count, last = 0, START
    while (line := file.readline(_MOST_LINE_BYTES)).startswith(b'{"number":'):
        row = _row(line, last.number + 1)
        yield row
        count, last = count + 1, Head(row.number, row.hash)
    if line != msgspec.json.encode(_End(count, str(last))) + b"\n":
        what = (
            f"line {count + 1} is neither a row nor the end of {count} rows"
            if line
            else "the file ends without its last line"
        )
        raise ChainBroken(last.number + 1, what)
    if file.read(1):
        raise ChainBroken(last.number + 1, "something stands behind the file's last line")


def _row(line: bytes, number: int) -> Row:
    try:
        read = msgspec.json.decode(line, type=_Line)
        row = Row(
            read.number,
            Entry(*(getattr(read, name) for name in Entry._fields)),
            bytes.fromhex(read.previous),
            bytes.fromhex(read.hash),
        )
        # One row has one line: what JSON would overlook is a change too.
        if line != msgspec.json.encode(read) + b"\n" or (row.previous.hex(), row.hash.hex()) != (
            read.previous,
            read.hash,
        ):
            raise ValueError("it is written another way")
        if not -(2**63) <= row.entry.at_us < 2**63 or not 0 < row.number < 2**63:
            raise ValueError("a number is out of range")
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise ChainBroken(number, f"its line is not as it was exported: {error}") from None
    return row

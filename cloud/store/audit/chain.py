"""The chain itself, pure: what a row's hash covers, byte by byte, and a walk that finds the first wrong row."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

HASH_BYTES = 32
# What row 1 names as the hash before it.
NOTHING_BEFORE = bytes(HASH_BYTES)
# Another encoding gets another first line, so that no row can be read by both.
_DOMAIN = b"vitalwire audit 1\n"

# Rows that the store writes of itself bear this role, which no principal has.
STORE_ROLE = "store"
REMOVE = "remove audit rows"
# China's Cybersecurity Law, art. 21(3) (art. 23(3) as amended for 2026), asks for network logs of at least six months;
# the longest six calendar months are 184 days.
MIN_KEEP_DAYS = 184

# Names and paths come from outside: a row stays small, and what PostgreSQL cannot hold never reaches it.
_MOST_CHARACTERS = 200
_MOST_REASON_CHARACTERS = 1000


class Entry(NamedTuple):
    """Who did what to what, when, from where, with which result and for which reason."""

    at_us: int
    principal: str
    role: str
    action: str
    object: str
    source: str
    result: str
    reason: str = ""

    def cleaned(self) -> Entry:
        """Its texts cut to length, and without what some database refuses: NUL and halves of characters."""
        principal, role, action, about, source, result = (_clean(text, _MOST_CHARACTERS) for text in self.texts[:-1])
        reason = _clean(self.reason, _MOST_REASON_CHARACTERS)
        return Entry(self.at_us, principal, role, action, about, source, result, reason)

    @property
    def texts(self) -> tuple[str, ...]:
        """All but the time, in the order they are hashed in."""
        return (self.principal, self.role, self.action, self.object, self.source, self.result, self.reason)


class Row(NamedTuple):
    """An entry in its place: `previous` is the hash of the row numbered one less."""

    number: int
    entry: Entry
    previous: bytes
    hash: bytes


class Head(NamedTuple):
    """One row by number and hash. Whoever knows it can tell whether that row, and all before it, are as they were."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"


START = Head(0, NOTHING_BEFORE)


class ChainBroken(Exception):
    """Rows are not as they were written; `number` is the first wrong one."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"row {number}: {why}")
        self.number, self.why = number, why


def parse_head(text: str) -> Head:
    """Reads NUMBER:HASH as `Head` prints it. Raises ValueError."""
    if not (found := re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)):
        raise ValueError(f"{text!r} is not NUMBER:HASH as `vitalwire audit head` prints it")
    return Head(int(found[1]), bytes.fromhex(found[2]))


def digest(number: int, entry: Entry, previous: bytes) -> bytes:
    """SHA-256 over the domain line, `previous`, number and time (8 bytes each, big-endian, signed), then each text:
    its length in bytes (4 bytes, big-endian), its UTF-8. Texts that no UTF-8 stands for count as the bytes they were.
    """
    parts = [_DOMAIN, previous, number.to_bytes(8, "big", signed=True), entry.at_us.to_bytes(8, "big", signed=True)]
    for text in entry.texts:
        encoded = text.encode("utf-8", "surrogateescape")
        parts += len(encoded).to_bytes(4, "big"), encoded
    return hashlib.sha256(b"".join(parts)).digest()


def link(last: Head, entry: Entry) -> Row:
    """The row that puts `entry` behind `last`."""
    number = last.number + 1
    return Row(number, entry, last.hash, digest(number, entry, last.hash))


def removal(last_removed: Head, at_us: int, keep_days: int) -> Entry:
    """What the chain says of its own beginning being removed: from here on it starts behind `last_removed`."""
    why = f"rows are kept {keep_days} days"
    return Entry(
        at_us, "vitalwire", STORE_ROLE, REMOVE, f"{last_removed.number} {last_removed.hash.hex()}", "", "done", why
    )


class Walk:
    """Takes a chain's rows in order; keeps where it started and where it stands."""

    def __init__(self) -> None:
        self.start: Head | None = None
        self.last = START
        self._vouched = START  # up to where the chain itself says that rows were removed
        self._vouched_by = 0

    def take(self, row: Row) -> None:
        """One more row. Raises ChainBroken."""
        if self.start is None:
            self.start = self.last = Head(row.number - 1, row.previous) if row.number > 1 else START
        if row.number != self.last.number + 1:
            raise ChainBroken(self.last.number + 1, f"it is missing; the next row there is has number {row.number}")
        if row.previous != self.last.hash:
            raise ChainBroken(row.number, "it does not name the hash of the row before it")
        if row.hash != digest(row.number, row.entry, row.previous):
            raise ChainBroken(row.number, "its content is not what its hash was made of")
        if (row.entry.role, row.entry.action) == (STORE_ROLE, REMOVE):
            self._vouch(row)
        self.last = Head(row.number, row.hash)

    def end(self) -> None:
        """There are no more rows. Raises ChainBroken when the start is not where the chain says."""
        start = self.start or START
        if start == self._vouched:
            return
        if not self._vouched_by:
            raise ChainBroken(
                1, f"the chain starts with row {start.number + 1}, and no row says that those before were removed"
            )
        said = f"row {self._vouched_by} says that rows up to {self._vouched.number} were removed"
        if start.number == self._vouched.number:
            raise ChainBroken(start.number + 1, f"{said}, the last with another hash than this row names")
        raise ChainBroken(
            min(start.number, self._vouched.number) + 1, f"{said}, but the chain starts with row {start.number + 1}"
        )

    def _vouch(self, row: Row) -> None:
        try:
            number, _, removed = row.entry.object.partition(" ")
            self._vouched, self._vouched_by = parse_head(f"{number}:{removed}"), row.number
        except ValueError:
            raise ChainBroken(row.number, "it says that rows were removed, but not which") from None


def _clean(text: str, most: int) -> str:
    return text[:most].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")

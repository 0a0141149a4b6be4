"""The head file: the chain's last row, noted outside the store after its commit, so that a cut end is noticed.

What it does and does not prove stands in docs/audit.md. Beside it, `….disputed` keeps every noted row that the store
at some start no longer held, until a person accepts that.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from cloud.store.audit import table
from cloud.store.audit.chain import Head, parse_head
from cloud.store.location import StoreLocation

_SUFFIX = ".audit-head"


class HeadFile:
    """One head file, and what is disputed beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._disputed = path.with_name(f"{path.name}.disputed")

    def read(self) -> list[str]:
        """What is noted: the head, then what is disputed; of each a line as it stands. Raises OSError."""
        return [*_lines(self.path), *_lines(self._disputed)]

    def write(self, head: Head) -> None:
        """Notes a head in the place of the last one, which stays until the new one is on disk. Raises OSError."""
        _replace(self.path, f"{head}\n")

    def dispute(self, notes: list[str]) -> None:
        """Keeps notes that the store contradicts. Raises OSError."""
        kept = list(dict.fromkeys([*_lines(self._disputed), *notes]))
        _replace(self._disputed, "".join(f"{note}\n" for note in kept))

    def settle(self) -> None:
        """A person has accepted what was disputed. Raises OSError."""
        self._disputed.unlink(missing_ok=True)


def head_file(location: StoreLocation, state_path: Path) -> HeadFile:
    """Beside a store's file; for a store on a server, in the state directory of the cloud."""
    if isinstance(location, Path):
        return HeadFile(location.with_name(location.name + _SUFFIX))
    return HeadFile(state_path / f"store{_SUFFIX}")


def contradictions(connection: sa.Connection, notes: list[str]) -> dict[str, str]:
    """Why the chain in the store is not the one that was noted, by note; a note it bears out is left out.

    The notes must have been read before the transaction began: the chain only grows.
    """
    found = {note: _contradiction(connection, note) for note in notes}
    return {note: why for note, why in found.items() if why}


def _contradiction(connection: sa.Connection, note: str) -> str:
    try:
        noted = parse_head(note)
    except ValueError:
        return f"{note[:80]!r} was noted and is no NUMBER:HASH: the head file is damaged or was changed"
    if noted.number == 0 or table.head_at(connection, noted.number) == noted:
        return ""
    last = table.newest(connection)
    if noted.number > last.number:
        return (
            f"row {last.number + 1}: it is missing: row {noted.number} was noted, but the chain ends with row "
            f"{last.number}. An older backup was restored, or the end was cut off"
        )
    if noted.number < table.first_number(connection):
        return ""  # retention removed it; the chain says of itself where it starts
    return (
        f"row {noted.number}: it is not the row that was noted. An older backup was restored and has gone on since, "
        "or the chain was written anew"
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="backslashreplace").splitlines() or ["an empty file"]
    except FileNotFoundError:
        return []


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)

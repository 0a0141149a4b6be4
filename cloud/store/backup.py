"""Copies a running store into a file, checks it, and puts such a copy in the place of a store.

A backup is two files: the copy, and beside it its SHA-256 as `sha256sum -c` reads it. A restored store has a new id, so
that boxes, which see the id in receipts, offer again everything they still hold.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from cloud.store.database import STORE_ID, STORE_ID_BYTES, known_revisions
from cloud.store.sqlite import StoreInUse, StoreLock, create_private

# Readers do not wait in a WAL; this is for a store that is just being opened or closed.
_BUSY_S = 10.0
_SIDE_FILES = ("-wal", "-shm", "-journal")


class BackupRefused(Exception):
    """Nothing was changed; the text says what stands in the way."""


class Backup(NamedTuple):
    """What a file holds that was found to be a whole backup."""

    path: Path
    sha256: str
    revision: str
    store_id: bytes
    records: int


class Restored(NamedTuple):
    """What was put in place, the store's new id, and where the store lies that was there before."""

    backup: Backup
    store_id: bytes
    set_aside: Path | None


def back_up(store: Path, target: Path) -> Backup:
    """Copies `store`, which may be in use, to a new file `target`. Raises BackupRefused."""
    if not store.is_file():
        raise BackupRefused(f"{store}: no such store")
    if target.exists():
        raise BackupRefused(f"{target} exists; a backup never overwrites another one")
    if not target.absolute().parent.is_dir():
        raise BackupRefused(f"{target}: no such folder")
    partial = target.with_name(f"{target.name}.partial")
    with _held(store, is_alone=False), _named_errors(store, target), _removed_on_error(partial):
        partial.unlink(missing_ok=True)
        create_private(partial)
        with closing(_open(store, is_readonly=True)) as source, closing(_open(partial)) as copy:
            # All pages in one step: they are one moment of the store. In several steps every commit of the running
            # cloud would make the copy begin again, and it would never end.
            source.backup(copy, pages=-1)
            # A single file, that can be read from a medium nobody may write to.
            copy.execute("PRAGMA journal_mode = DELETE")
        found = _examine(partial)
        _sync(partial)
        _digest_path(target).write_text(f"{found.sha256}  {target.name}\n", encoding="utf-8")
        _sync(_digest_path(target))
        # The copy counts from here on: whole, checked, with its digest beside it.
        partial.rename(target)
        _sync(target.parent)
    return found._replace(path=target)


def verify(path: Path) -> Backup:
    """Reads a whole backup. Raises BackupRefused for whatever is wrong with it."""
    if not path.is_file():
        raise BackupRefused(f"{path}: no such file")
    try:
        said = _digest_path(path).read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        raise BackupRefused(f"{_digest_path(path)} is missing or unreadable; a backup is both files") from None
    with _named_errors(path):
        if said != _sha256(path):
            raise BackupRefused(f"{path} is damaged: its SHA-256 is not the one in {_digest_path(path).name}")
        return _examine(path)


def restore(path: Path, store: Path, *, now_us: int) -> Restored:
    """Puts a backup in the place of `store`, under a new id. Raises BackupRefused.

    A store that lies there is set aside, not deleted; `now_us` goes into its name. Everybody is signed out.
    """
    backup = verify(path)
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = store.with_name(f"{store.name}.restoring")
    store_id = os.urandom(STORE_ID_BYTES)
    with _held(store, is_alone=True), _named_errors(path, store), _removed_on_error(staged):
        staged.unlink(missing_ok=True)
        create_private(staged)
        shutil.copyfile(path, staged)
        if _sha256(staged) != backup.sha256:
            raise BackupRefused(f"{path} changed while it was read")
        with closing(_open(staged)) as connection, connection:
            connection.execute("UPDATE meta SET value = ? WHERE name = ?", (store_id, STORE_ID))
            # Who was signed out since the backup must not be signed in again by it.
            if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sign_in'").fetchone():
                connection.execute("UPDATE sign_in SET ended_us = ? WHERE ended_us IS NULL", (now_us,))
        _sync(staged)
        set_aside = _set_aside(store, now_us) if store.exists() else None
        staged.replace(store)
        _sync(store.parent)
    return Restored(backup, store_id, set_aside)


@contextmanager
def _held(store: Path, *, is_alone: bool) -> Iterator[None]:
    try:
        lock = StoreLock(store, is_alone=is_alone)
    except StoreInUse as error:
        raise BackupRefused(f"{error}; {'stop the cloud first' if is_alone else 'try again'}") from None
    except OSError as error:
        raise BackupRefused(f"{store}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _set_aside(store: Path, now_us: int) -> Path:
    """Gives the store that lies there a second name. Its log must not be taken for that of what comes in its place."""
    aside = store.with_name(f"{store.name}.before-{now_us}")
    # SQLite deletes the log of a store whose first page is broken: a second name keeps it for whoever mends the store.
    log, kept_log = (path.with_name(f"{path.name}-wal") for path in (store, aside))
    with suppress(FileNotFoundError):
        os.link(log, kept_log)
    if _close_log(store):
        kept_log.unlink(missing_ok=True)
    os.link(store, aside)
    for suffix in _SIDE_FILES:
        store.with_name(store.name + suffix).unlink(missing_ok=True)
    return aside


def _close_log(store: Path) -> bool:
    """Writes the log of a store nobody has open into its file; False when the store is broken."""
    try:
        with closing(_open(store)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return False
        raise
    if mode != "delete":
        raise BackupRefused(f"{store} is open in another program")
    return True


def _examine(path: Path) -> Backup:
    """Looks at every page of a copy. Raises BackupRefused, sqlite3.DatabaseError."""
    with closing(_open(path, is_readonly=True)) as connection:
        (verdict, *_) = (str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)"))
        if verdict != "ok":
            raise BackupRefused(f"{path} is damaged: {verdict}")
        if broken := connection.execute("PRAGMA foreign_key_check").fetchone():
            raise BackupRefused(f"{path} is damaged: a row of {broken[0]} refers to nothing")
        ((revision,),) = connection.execute("SELECT version_num FROM alembic_version")
        if revision not in known_revisions():
            raise BackupRefused(f"{path} has schema {revision}, which this version does not know; a newer one wrote it")
        ((store_id,),) = connection.execute("SELECT value FROM meta WHERE name = ?", (STORE_ID,))
        ((records,),) = connection.execute("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM run")
    return Backup(path, _sha256(path), revision, store_id, records)


def _open(path: Path, *, is_readonly: bool = False) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + ("?mode=ro" if is_readonly else "")
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S)


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_error(partial: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for suffix in ("", *_SIDE_FILES):
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)
        raise


@contextmanager
def _named_errors(*paths: Path) -> Iterator[None]:
    """What the disk and SQLite say, as BackupRefused."""
    try:
        yield
    except (sqlite3.Error, ValueError, OSError) as error:
        raise BackupRefused(f"{' → '.join(map(str, paths))}: {error}") from error

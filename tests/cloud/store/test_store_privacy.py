"""Nobody but its owner may read a store or a backup, whatever the umask of who made it."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.store.backup import back_up, restore
from cloud.store.database import Database


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_store_and_its_folder_are_its_owners_alone(tmp_path: Path) -> None:
    store = tmp_path / "state" / "store.sqlite"
    database = Database(store)
    try:
        assert mode(store.parent) == 0o700
        assert {path.name: mode(path) for path in store.parent.iterdir()} == {
            f"store.sqlite{suffix}": 0o600 for suffix in ("", "-wal", "-shm", ".lock")
        }
    finally:
        database.close()


def test_a_store_others_could_read_is_closed_to_them_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store.sqlite"
    running = Database(store)
    try:
        files = [store.with_name(store.name + suffix) for suffix in ("", "-wal", "-shm")]
        for file in files:
            file.chmod(0o644)
        with caplog.at_level(logging.INFO, "cloud.store.sqlite"):
            Database(store).close()
            Database(store).close()
        assert [mode(file) for file in files] == [0o600] * 3
    finally:
        running.close()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "cloud.store.sqlite"]
    assert all(str(file) in line for file in files)


def test_a_backup_and_a_restored_store_are_their_owners_alone(tmp_path: Path) -> None:
    store, backup, elsewhere = tmp_path / "store.sqlite", tmp_path / "backup", tmp_path / "new" / "store.sqlite"
    Database(store).close()
    back_up(store, backup)
    restore(backup, elsewhere, now_us=1)
    assert (mode(backup), mode(elsewhere), mode(elsewhere.parent)) == (0o600, 0o600, 0o700)

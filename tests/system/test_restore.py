"""The cloud's disk is lost and an old backup restored: what the boxes still hold fills the hole, once."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.system.kills import play
from vitalwire.__main__ import main
from vitalwire.stage import Stage

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_BACKUP = "old-backup.sqlite"


def _stored(store: Path) -> tuple[int, bytes]:
    """How many records a store has, and its id."""
    with closing(sqlite3.connect(store)) as connection:
        (records,) = connection.execute("SELECT sum(last_seq - first_seq + 1) FROM run").fetchone()
        (store_id,) = connection.execute("SELECT value FROM meta WHERE name = 'store_id'").fetchone()
    return records, store_id


async def back_up(stage: Stage) -> None:
    """While everything runs."""
    command = ["backup", str(stage.folder / _BACKUP), "--store", str(stage.store_file)]
    assert await asyncio.to_thread(main, command) == 0


async def restore_the_old_backup(stage: Stage) -> None:
    """Stops the cloud, whose receipts for what came since the backup are out, and restores."""
    command = ["restore", str(stage.folder / _BACKUP), "--store", str(stage.store_file)]
    assert await asyncio.to_thread(main, command) == 2, "a live store is not replaced"
    # The stage starts the cloud again as soon as it dies, so that it may have its store open before it can be replaced.
    for _ in range(20):
        stage.parts["cloud"].kill()
        await asyncio.sleep(0.1)
        if await asyncio.to_thread(main, command) == 0:
            return
    raise AssertionError("the store was never free")


def test_a_restored_backup_is_filled_up_by_the_boxes(tmp_path: Path) -> None:
    report = play(tmp_path, 14, [(3.0, back_up), (8.0, restore_the_old_backup)])
    folder = Path(report["state"])
    (lost_store,) = (folder / "cloud").glob("store.sqlite.before-*[0-9]")
    then, old_id = _stored(folder / _BACKUP)
    receipted, lost_id = _stored(lost_store)
    filled, new_id = _stored(folder / "cloud" / "store.sqlite")
    assert then < receipted <= filled
    assert old_id == lost_id != new_id
    assert (report["lost"], report["duplicates"]) == (0, 0), report["findings"]
    assert report["truth_samples"] == report["stored_samples"] > 50_000
    assert report["restarts"]["cloud"] >= 1

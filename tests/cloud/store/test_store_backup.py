"""A store is copied while it is written to, checked, and restored as another store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloud.store import access_tables, accounts, schema
from cloud.store.append import Appender, Incoming
from cloud.store.backup import BackupRefused, back_up, restore, verify
from cloud.store.database import Database, StoreUnavailable
from cloud.store.reader import StoreReader
from cloud.store.sqlite import StoreLock
from tests.cloud.api.apps import person
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database(path)
    yield opened
    opened.close()


def append(database: Database, first_seq: int, count: int = 1) -> bytes:
    """Stores heart rates that are their own numbers; returns the store id of the receipt."""
    records = [heart_rate(float(seq), NOW_US + seq) for seq in range(first_seq, first_seq + count)]
    group = [Incoming("vw.1.gw-1.up.routine", frame(records, first_seq))]
    ((_, receipt),) = Appender(database, FakeClock()).append(group).receipts
    return receipt.store_id


def values(database: Database) -> list[float]:
    query = sa.select(schema.numeric.c.value).order_by(schema.numeric.c.value)
    return database.read_now(lambda connection: list(connection.scalars(query)))


def test_what_came_after_the_backup_is_stored_once_when_it_is_offered_again(database: Database, path: Path) -> None:
    append(database, 1, 3)
    made = back_up(path, path.with_name("backup"))
    assert made.records == 3
    before = append(database, 4, 2)  # receipted, then lost with the store
    database.close()
    restored = restore(made.path, path, now_us=NOW_US)
    again = Database(path)
    assert values(again) == [1, 2, 3]
    after = append(again, 1, 5)  # all that the box still holds
    assert after == again.store_id == restored.store_id != before
    assert values(again) == [1, 2, 3, 4, 5]
    assert {run[2:] for run in StoreReader(again).stored_runs()} == {(1, 5)}
    assert StoreReader(again).counts()["conflict"] == 0
    again.close()
    assert restored.set_aside is not None
    replaced = Database(restored.set_aside)
    assert values(replaced) == [1, 2, 3, 4, 5]
    assert replaced.store_id == before
    replaced.close()


def test_who_was_signed_in_at_the_backup_is_not_by_its_restoring(database: Database, path: Path) -> None:
    wang = person("wang", "er_clinician", "H1")
    database.transaction(lambda connection: accounts.add(connection, wang))
    for number in (b"1" * 32, b"2" * 32):
        database.transaction(
            lambda connection, number=number: accounts.begin(connection, number, wang, "10.0.0.9", NOW_US - 9)  # type: ignore[misc]
        )
    database.transaction(lambda connection: accounts.end(connection, b"1" * 32, NOW_US - 5))
    made = back_up(path, path.with_name("backup"))
    database.transaction(lambda connection: accounts.change(connection, "wang", NOW_US, is_disabled=1))
    database.close()
    restore(made.path, path, now_us=NOW_US)
    again = Database(path)
    ended = sa.select(access_tables.sign_in.c.ended_us).order_by(access_tables.sign_in.c.ended_us)
    assert again.read_now(lambda connection: list(connection.scalars(ended))) == [NOW_US - 5, NOW_US]
    again.close()


def test_a_backup_from_before_there_were_sign_ins_is_restored(database: Database, path: Path) -> None:
    made = back_up(path, path.with_name("backup"))
    database.close()
    with closing(sqlite3.connect(made.path)) as old, old:
        later = ("sign_in", "break_glass_review", "break_glass", "session_hospital", "account", "consent")
        for table in (*later, "enrolment_code", "certificate"):
            old.execute(f"DROP TABLE {table}")
        old.execute("UPDATE alembic_version SET version_num = '0005'")
    digest = hashlib.sha256(made.path.read_bytes()).hexdigest()
    made.path.with_name("backup.sha256").write_text(f"{digest}  backup\n")
    restore(made.path, path, now_us=NOW_US)
    Database(path).close()


async def test_a_backup_of_a_store_being_written_is_one_moment_of_it(database: Database, path: Path) -> None:
    append(database, 1, 3)
    done = asyncio.Event()

    async def store_on() -> int:
        seq = 4
        while not done.is_set():
            await database.on_writer(lambda seq=seq: append(database, seq))  # type: ignore[misc]
            seq += 1
        return seq

    storing = asyncio.create_task(store_on())
    backups = [await asyncio.to_thread(back_up, path, path.with_name(f"backup-{n}")) for n in range(3)]
    done.set()
    next_seq = await storing
    for backup in backups:
        with closing(sqlite3.connect(backup.path)) as copy:
            stored = [row[0] for row in copy.execute("SELECT value FROM numeric ORDER BY value")]
            runs = copy.execute("SELECT first_seq, last_seq FROM run").fetchall()
        assert stored == [float(seq) for seq in range(1, backup.records + 1)]
        assert runs == [(1, backup.records)]
    assert 3 <= backups[0].records < backups[-1].records < next_seq


def test_a_store_in_use_is_not_replaced(database: Database, path: Path) -> None:
    append(database, 1)
    made = back_up(path, path.with_name("backup"))
    with pytest.raises(BackupRefused, match="stop the cloud"):
        restore(made.path, path, now_us=NOW_US)
    assert values(database) == [1]
    assert sorted(file.name for file in path.parent.glob("store.sqlite.*")) == ["store.sqlite.lock"]


def test_nobody_opens_a_store_while_it_is_replaced(path: Path) -> None:
    replacing = StoreLock(path, is_alone=True)
    with pytest.raises(StoreUnavailable, match="being replaced"):
        Database(path)
    replacing.release()
    Database(path).close()


@pytest.mark.timeout(60)  # a fresh interpreter
def test_a_store_is_free_again_when_its_process_was_killed(path: Path) -> None:
    Database(path).close()
    made = back_up(path, path.with_name("backup"))
    words = (
        "import os, pathlib, sys; from cloud.store.database import Database;"
        "Database(pathlib.Path(sys.argv[1])); print(1, flush=True); os.read(0, 1); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", words, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BackupRefused, match="stop the cloud"):
            restore(made.path, path, now_us=NOW_US)
        holder.communicate(b"x")
    restore(made.path, path, now_us=NOW_US)


def test_a_damaged_or_foreign_backup_is_refused_and_the_store_stays(database: Database, path: Path) -> None:
    append(database, 1, 3)
    made = back_up(path, path.with_name("backup")).path
    database.close()
    digest = made.with_name("backup.sha256")
    whole, said = made.read_bytes(), digest.read_text()

    def refused(why: str) -> None:
        with pytest.raises(BackupRefused, match=why):
            restore(made, path, now_us=NOW_US)

    made.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    refused("damaged")
    made.write_bytes(whole)
    digest.unlink()
    refused("both files")
    for content, why in ((b"not a store", "not a database"), (whole[:8192], "malformed|damaged")):
        made.write_bytes(content)
        _write_digest(made)
        refused(why)
    made.write_bytes(whole)
    with closing(sqlite3.connect(made)) as copy, copy:
        copy.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
    _write_digest(made)
    refused("newer one")
    made.write_bytes(whole)
    digest.write_text(said)
    assert verify(made).records == 3
    again = Database(path)
    assert (values(again), again.store_id) == ([1, 2, 3], database.store_id)
    again.close()


def _write_digest(path: Path) -> None:
    done = subprocess.run(["sha256sum", path.name], cwd=path.parent, check=True, capture_output=True, text=True)
    path.with_name(f"{path.name}.sha256").write_text(done.stdout)


def test_the_digest_is_what_sha256sum_reads(database: Database, path: Path) -> None:
    back_up(path, path.with_name("backup"))
    subprocess.run(["sha256sum", "--check", "--strict", "backup.sha256"], cwd=path.parent, check=True)


def test_a_backup_never_overwrites_and_leaves_nothing_half_done(database: Database, path: Path) -> None:
    target = path.with_name("backup")
    target.write_text("an earlier one")
    with pytest.raises(BackupRefused, match="never overwrites"):
        back_up(path, target)
    assert target.read_text() == "an earlier one"
    with pytest.raises(BackupRefused, match="no such folder"):
        back_up(path, path.parent / "nowhere" / "backup")
    broken = path.with_name("broken.sqlite")
    broken.write_bytes(os.urandom(8192))
    with pytest.raises(BackupRefused, match="not a database"):
        back_up(broken, path.with_name("other"))
    assert not list(path.parent.glob("other*"))


def test_a_broken_store_and_its_log_make_room(database: Database, path: Path) -> None:
    append(database, 1, 3)
    made = back_up(path, path.with_name("backup"))
    database.close()
    path.write_bytes(b"broken" * 2000)
    log = path.with_name("store.sqlite-wal")
    log.write_bytes(b"a log of the broken store")
    restored = restore(made.path, path, now_us=NOW_US)
    assert restored.set_aside is not None
    assert restored.set_aside.read_bytes() == b"broken" * 2000
    assert restored.set_aside.with_name(restored.set_aside.name + "-wal").read_bytes() == b"a log of the broken store"
    again = Database(path)
    assert values(again) == [1, 2, 3]
    again.close()


def test_a_store_is_restored_where_there_is_none(database: Database, path: Path, tmp_path: Path) -> None:
    append(database, 1, 3)
    made = back_up(path, path.with_name("backup"))
    elsewhere = tmp_path / "new" / "cloud" / "store.sqlite"
    assert restore(made.path, elsewhere, now_us=NOW_US).set_aside is None
    again = Database(elsewhere)
    assert values(again) == [1, 2, 3]
    again.close()

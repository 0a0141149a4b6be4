"""The head is noted outside the store, compared at the start, and old rows go."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.api.audit import Audit
from cloud.audit_keeper import AuditKeeper
from cloud.counters import Counters
from cloud.store.audit import table
from cloud.store.audit.chain import Head, parse_head
from cloud.store.audit.head import HeadFile, contradictions, head_file
from cloud.store.backup import back_up, restore
from cloud.store.database import Database
from cloud.store.location import ServerStore, StoreLocation
from tests.cloud.cloud_frames import NOW_US, FakeClock
from tests.cloud.store.audit.chains import DAY_US, add, entry, stored, walk


@pytest.fixture
def database(location: StoreLocation) -> Iterator[Database]:
    opened = Database(location)
    yield opened
    opened.close()


@pytest.fixture
def head(location: StoreLocation, tmp_path: Path) -> HeadFile:
    return head_file(location, tmp_path)


def keeper(
    database: Database, head: HeadFile, *, counters: Counters | None = None, now_us: int = NOW_US
) -> AuditKeeper:
    clock, counters = FakeClock(now_us), counters or Counters()
    return AuditKeeper(database, Audit(database, clock), head, clock, counters, keep_days=184)


def wrong(database: Database, head: HeadFile) -> dict[str, str]:
    notes = head.read()
    return database.read_now(lambda connection: contradictions(connection, notes))


async def test_the_head_is_noted_at_the_start_after_commits_and_at_the_end(database: Database, head: HeadFile) -> None:
    audit = Audit(database, FakeClock())
    async with AuditKeeper(database, audit, head, FakeClock(), Counters(), keep_days=184) as keeping:
        assert parse_head(head.read()[0]).number == 0
        running = asyncio.create_task(keeping.keep_head())
        await audit.write("dr", "er_clinician", "view", "s1", "", "allowed")
        while parse_head(head.read()[0]).number < 1:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        await audit.write("dr", "er_clinician", "view", "s2", "", "allowed")
    assert parse_head(head.read()[0]) == database.read_now(table.newest)
    assert os.stat(head.path).st_mode & 0o777 == 0o600


async def test_a_shorter_chain_is_said_until_it_is_accepted(
    database: Database, head: HeadFile, caplog: pytest.LogCaptureFixture
) -> None:
    last = add(database, [entry(n) for n in range(3)])
    note = str(Head(7, last.hash))
    head.write(parse_head(note))
    for _ in range(2):
        counters = Counters()
        with caplog.at_level(logging.ERROR):
            async with keeper(database, head, counters=counters):
                pass
        assert "row 7 was noted, but the chain ends with row 3. An older backup" in caplog.text
        assert "vitalwire audit head --accept" in caplog.text
        assert counters["audit_contradictions"] == 1
        assert head.read() == [str(last), note]
        caplog.clear()
    # Growing past it does not make it forgotten.
    last = add(database, [entry(n) for n in range(9)])
    assert "row 7: it is not the row that was noted" in wrong(database, head)[note]
    head.settle()
    async with keeper(database, head):
        assert head.read() == [str(last)]
    assert wrong(database, head) == {}


async def test_a_damaged_head_file_is_a_contradiction(database: Database, head: HeadFile) -> None:
    add(database, [entry(0)])
    for content in (b"", b"\xff\xfe", b"1:abc\n"):
        head.path.write_bytes(content)
        assert "damaged" in next(iter(wrong(database, head).values()))
    async with keeper(database, head):
        pass
    assert list(wrong(database, head)) == ["1:abc"]


async def test_a_store_without_a_head_file_is_told_of(
    database: Database, head: HeadFile, caplog: pytest.LogCaptureFixture
) -> None:
    async with keeper(database, head):
        pass
    assert caplog.text == ""
    add(database, [entry(0)])
    head.path.unlink()
    async with keeper(database, head):
        pass
    assert "a cut end of the chain is not seen" in caplog.text


async def test_old_rows_go_and_an_older_note_is_no_contradiction(database: Database, head: HeadFile) -> None:
    first = add(database, [entry(0)])
    add(database, [entry(n) for n in range(1, 4)])
    counters = Counters()
    late = keeper(database, head, counters=counters, now_us=NOW_US + 185 * DAY_US)
    assert await late.remove_old() == 4
    assert await late.remove_old() == 0
    assert counters["audit_rows_removed"] == 4
    assert [row.number for row in stored(database)] == [5]
    walk(stored(database))
    head.write(first)
    assert wrong(database, head) == {}


KILLED = """
import os, pathlib, sys
from cloud.store.audit import table
from cloud.store.audit.head import head_file
from cloud.store.database import Database
from tests.cloud.store.audit.chains import add, entry
path = pathlib.Path(sys.argv[1])
database = Database(path)
head_file(path, path).write(add(database, [entry(0), entry(1)]))
add(database, [entry(2), entry(3)])
os.kill(os.getpid(), 9)  # committed, not yet noted
"""


@pytest.mark.timeout(60)  # a fresh interpreter
async def test_a_kill_between_commit_and_note_is_no_contradiction(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(path)], timeout=50)
    assert done.returncode == -signal.SIGKILL
    database, head, counters = Database(path), head_file(path, tmp_path), Counters()
    assert parse_head(head.read()[0]).number == 2
    assert wrong(database, head) == {}
    async with keeper(database, head, counters=counters):
        assert parse_head(head.read()[0]).number == 4
    assert counters["audit_contradictions"] == 0
    walk(stored(database))
    database.close()


async def test_a_restored_older_store_is_noticed_and_its_chain_whole(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    database, head = Database(path), head_file(path, tmp_path)
    add(database, [entry(n) for n in range(3)])
    made = back_up(path, tmp_path / "backup")
    add(database, [entry(n) for n in range(3, 8)])
    async with keeper(database, head):
        pass
    database.close()
    set_aside = restore(made.path, path, now_us=NOW_US).set_aside
    database = Database(path)
    assert walk(stored(database)).last.number == 3
    (why,) = wrong(database, head).values()
    assert why.startswith("row 4: it is missing: row 8 was noted, but the chain ends with row 3. An older backup")
    database.close()
    # The one that was there before is still what was noted.
    assert set_aside is not None
    database = Database(set_aside)
    assert wrong(database, head) == {}
    database.close()


def test_where_the_head_is_noted(tmp_path: Path) -> None:
    assert head_file(tmp_path / "a" / "store.sqlite", tmp_path).path == tmp_path / "a" / "store.sqlite.audit-head"
    server = ServerStore("postgresql+psycopg://vitalwire@127.0.0.1/vitalwire")
    assert head_file(server, tmp_path).path == tmp_path / "store.audit-head"

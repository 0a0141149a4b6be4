"""Who asked is written before the answer, many in one commit, never without bound."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.exc

from cloud.api import audit as audit_module
from cloud.api.audit import Audit
from cloud.counters import Counters
from cloud.store.database import Database, StoreUnavailable
from tests.cloud.cloud_frames import FakeClock
from tests.cloud.store.audit.chains import stored, walk


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def commits(database: Database) -> list[int]:
    seen: list[int] = []
    sa.event.listen(database.engine.core, "commit", lambda _: seen.append(1))
    return seen


class Held:
    """The writing thread, busy until let go."""

    def __init__(self, database: Database) -> None:
        self._go = threading.Event()
        self.work = asyncio.ensure_future(database.on_writer(lambda: self._go.wait(10)))

    def let_go(self) -> None:
        self._go.set()


def write(audit: Audit, n: int) -> asyncio.Task[None]:
    return asyncio.create_task(audit.write("", "", f"/try/{n}", "", "10.0.0.9", "refused", reason=f"guess {n}"))


async def until_waiting(audit: Audit, count: int) -> None:
    while len(audit._waiting) < count:
        await asyncio.sleep(0)


async def test_what_gathers_during_a_commit_is_the_next_one(database: Database, commits: list[int]) -> None:
    audit = Audit(database, FakeClock())
    held = Held(database)
    tasks = [write(audit, n) for n in range(500)]
    await until_waiting(audit, 500)
    held.let_go()
    await asyncio.gather(*tasks)
    assert len(commits) == 1
    rows = stored(database)
    assert [row.entry.action for row in rows] == [f"/try/{n}" for n in range(500)]
    assert rows[7].entry.reason == "guess 7"
    walk(rows)
    assert audit.moved.is_set()


async def test_nobody_is_answered_before_the_commit(database: Database) -> None:
    audit = Audit(database, FakeClock())
    held = Held(database)
    task = write(audit, 1)
    await until_waiting(audit, 1)
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    assert stored(database) == []
    held.let_go()
    await task
    assert len(stored(database)) == 1


async def test_a_full_queue_turns_away_and_counts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MOST_WAITING", 3)
    counters = Counters()
    audit = Audit(database, FakeClock(), counters)
    held = Held(database)
    tasks = [write(audit, n) for n in range(3)]
    await until_waiting(audit, 3)
    with pytest.raises(StoreUnavailable, match="wait for the store"):
        await audit.write("dr", "er_clinician", "view", "s1", "", "allowed")
    assert counters["audit_turned_away"] == 1
    held.let_go()
    await asyncio.gather(*tasks)
    await audit.write("dr", "er_clinician", "view", "s1", "", "allowed")
    assert len(stored(database)) == 4


async def test_a_request_that_is_given_up_is_written_all_the_same(database: Database) -> None:
    audit = Audit(database, FakeClock())
    held = Held(database)
    task = write(audit, 1)
    await until_waiting(audit, 1)
    task.cancel()
    await asyncio.wait([task])
    held.let_go()
    await database.on_writer(lambda: None)
    assert [row.entry.action for row in stored(database)] == ["/try/1"]


async def test_every_request_of_a_failed_commit_is_told(database: Database) -> None:
    audit = Audit(database, FakeClock())
    for error in (sqlalchemy.exc.IntegrityError("insert", {}, ValueError("guard")), StoreUnavailable("disk full")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        sa.event.listen(database.engine.core, "before_cursor_execute", fail)
        held = Held(database)
        tasks = [write(audit, n) for n in range(5)]
        await until_waiting(audit, 5)
        held.let_go()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable | sqlalchemy.exc.IntegrityError) for outcome in outcomes)
        sa.event.remove(database.engine.core, "before_cursor_execute", fail)
    assert stored(database) == []
    await write(audit, 9)
    assert len(stored(database)) == 1

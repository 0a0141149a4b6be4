"""The chain in both databases: added to by one at a time, changed by nobody, removed only by retention."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from alembic import command
from alembic.config import Config

from cloud.store.audit import table
from cloud.store.audit.chain import REMOVE, START, STORE_ROLE, ChainBroken, Entry, Head
from cloud.store.database import Database
from cloud.store.location import ServerStore, StoreLocation
from cloud.store.postgres import PostgresEngine
from cloud.store.sqlite import SqliteEngine
from tests.cloud.cloud_frames import NOW_US
from tests.cloud.store.audit.chains import DAY_US, add, entry, stored, unguarded, walk
from tests.conftest import ROOT


@pytest.fixture
def database(location: StoreLocation) -> Any:
    opened = Database(location)
    yield opened
    opened.close()


def test_rows_are_numbered_and_chained_as_they_come(database: Database) -> None:
    assert add(database, []) == START
    add(database, [entry(0)])
    head = add(database, [entry(1), entry(2)])
    rows = stored(database)
    assert [row.entry for row in rows] == [entry(0), entry(1), entry(2)]
    assert walk(rows).last == head == database.read_now(table.newest)
    assert head.number == 3


def test_what_cannot_be_stored_is_cleaned_before_it_is_hashed(database: Database) -> None:
    add(database, [Entry(1, "\0", "\udc80", "/" * 5000, "", "", "refused")])
    walk(stored(database))


def test_writers_of_several_processes_make_one_chain(database: Database, location: StoreLocation) -> None:
    other = Database(location)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: add((database, other)[n % 2], [entry(2 * n), entry(2 * n + 1)]), range(60)))
    other.close()
    rows = stored(database)
    assert walk(rows).last.number == 120
    assert {row.entry for row in rows} == {entry(n) for n in range(120)}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET result = 'allowed' WHERE audit_id = 2",
        "UPDATE audit SET audit_id = 9 WHERE audit_id = 3",
        "DELETE FROM audit WHERE audit_id = 1",
        "DELETE FROM audit WHERE audit_id = 3",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT 9, at_us, principal, role, action, object, source, result, reason, hash, hash"
        " FROM audit WHERE audit_id = 3",
        "INSERT INTO audit SELECT 4, at_us, principal, role, action, object, source, result, reason, previous, hash"
        " FROM audit WHERE audit_id = 3",
    ],
)
def test_the_database_itself_refuses_changes(database: Database, statement: str) -> None:
    add(database, [entry(0), entry(1), entry(2)])
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="audit rows are"):
        database.transaction(lambda connection: connection.exec_driver_sql(statement))
    assert walk(stored(database)).last.number == 3


def test_the_ways_around_of_each_database_are_closed(database: Database, location: StoreLocation) -> None:
    add(database, [entry(0), entry(1)])
    columns = "2, at_us, 'nobody', role, action, object, source, result, reason, previous, hash"
    around = f"INSERT OR REPLACE INTO audit SELECT {columns} FROM audit WHERE audit_id = 2"
    if isinstance(location, ServerStore):
        around = "TRUNCATE audit"
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="audit rows are"):
        database.transaction(lambda connection: connection.exec_driver_sql(around))
    assert [row.entry for row in stored(database)] == [entry(0), entry(1)]


def remove_old(database: Database, now_us: int, keep_days: int = 184) -> int:
    return database.transaction(lambda one: table.remove_old(database.engine, one, now_us, keep_days))


def test_retention_removes_a_whole_beginning_and_says_so(database: Database) -> None:
    # Row 3 was written while the clock was ahead: what stands behind it is kept as long as it.
    ages = (200, 190, 100, 195, 10)
    add(database, [entry(n, NOW_US - days * DAY_US) for n, days in enumerate(ages)])
    second = stored(database)[1]
    assert remove_old(database, NOW_US) == 2
    rows = stored(database)
    assert [row.number for row in rows] == [3, 4, 5, 6]
    assert rows[-1].entry.action == REMOVE
    assert rows[-1].entry.object == f"2 {second.hash.hex()}"
    assert walk(rows).start == Head(2, second.hash)
    assert remove_old(database, NOW_US) == 0
    assert remove_old(database, NOW_US + 100 * DAY_US) == 2
    assert [row.number for row in stored(database)] == [5, 6, 7]
    walk(stored(database))


def test_retention_ends_with_the_row_that_tells_of_it(database: Database) -> None:
    add(database, [entry(n, NOW_US) for n in range(3)])
    assert remove_old(database, NOW_US + 185 * DAY_US) == 3
    assert remove_old(database, NOW_US + 370 * DAY_US) == 1
    (row,) = stored(database)
    assert row.number == 5
    walk([row])
    add(database, [entry(1)])
    walk(stored(database))


def test_retention_goes_in_pieces(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_REMOVED", 4)
    add(database, [entry(n, NOW_US) for n in range(10)])
    removed = [remove_old(database, NOW_US + 184 * DAY_US + 1) for _ in range(4)]
    assert removed == [4, 4, 2, 0]
    walk(stored(database))


def test_the_word_of_retention_removes_nothing_younger(database: Database) -> None:
    add(database, [entry(n, NOW_US) for n in range(3)])
    row = stored(database)[2]
    lie = Entry(NOW_US + 184 * DAY_US, "vitalwire", STORE_ROLE, REMOVE, f"3 {row.hash.hex()}", "", "done")
    add(database, [lie])
    for most in (1, 3, 4):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="only by retention"):
            database.transaction(lambda one, most=most: one.execute(_delete_to(most)))  # type: ignore[misc]
    # Nor does a removal of yesterday allow one today.
    add(database, [lie._replace(at_us=lie.at_us + 1), entry(9)])
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="only by retention"):
        database.transaction(lambda one: one.execute(_delete_to(1)))


def _delete_to(number: int) -> sa.TextClause:
    return sa.text(f"DELETE FROM audit WHERE audit_id <= {number}")


def test_rows_from_before_are_chained_as_they_are(location: StoreLocation) -> None:
    before(location, [(7, "dr"), (9, "operator"), (12, "王")])
    database = Database(location)
    rows = stored(database)
    assert [(row.number, row.entry.principal) for row in rows] == [
        (1, "dr"),
        (2, "operator"),
        (3, "王"),
        (4, "vitalwire"),
    ]
    assert rows[0].entry == Entry(NOW_US + 7, "dr", "er_clinician", "list sessions", "", "10.0.0.9", "allowed", "")
    assert rows[3].entry.action == "begin audit chain"
    assert rows[3].entry.object == "1-3"
    add(database, [entry(0)])
    assert walk(stored(database)).last.number == 5
    database.close()


def test_a_store_without_audit_rows_starts_an_empty_chain(location: StoreLocation) -> None:
    before(location, [])
    database = Database(location)
    assert stored(database) == []
    database.close()


def before(location: StoreLocation, people: list[tuple[int, str]]) -> None:
    """A store as the version before the chain left it."""
    engine = PostgresEngine(location) if isinstance(location, ServerStore) else SqliteEngine(location)
    alembic = Config()
    alembic.set_main_option("script_location", str(ROOT / "cloud/store/migrations"))
    with engine.core.begin() as connection:
        if isinstance(location, ServerStore):
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "0004")
        for number, name in people:
            values = (number, NOW_US + number, name, "er_clinician", "list sessions", "", "10.0.0.9", "allowed")
            quoted = ", ".join(repr(value) for value in values)
            connection.execute(sa.text(f"INSERT INTO audit VALUES ({quoted})"))
    engine.close()


def test_a_change_past_the_guard_is_found(database: Database) -> None:
    add(database, [entry(n) for n in range(4)])
    unguarded(database, "UPDATE audit SET result = 'refused' WHERE audit_id = 2")
    with pytest.raises(ChainBroken, match="row 2: its content"):
        walk(stored(database))

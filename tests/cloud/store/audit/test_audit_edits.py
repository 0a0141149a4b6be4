"""10,000 random edits of a chain, each found: of an exported file's bytes, and of the values in a store's table."""

from __future__ import annotations

import io
import random
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloud.store.audit import table
from cloud.store.audit.chain import Entry, Head
from cloud.store.audit.export import lines, rows_of
from cloud.store.audit.head import contradictions
from cloud.store.audit.reading import opened, verify, walk
from cloud.store.database import Database
from cloud.store.location import ServerStore, StoreLocation
from tests.cloud.store.audit.chains import add, chain, entry

EDITS = 10_000
# Small, so that a walk takes a tenth of a millisecond; an edit far along a long chain is found the same way.
ROWS = 8
COLUMNS = ("audit_id", *Entry._fields, "previous", "hash")


@pytest.mark.timeout(120)
def test_every_edit_of_an_exported_byte_is_found() -> None:
    whole = b"".join(lines(chain(ROWS)))
    assert walk(rows_of(io.BytesIO(whole))).problems == ()
    dice = random.Random(184)
    for _ in range(EDITS):
        at, other = dice.randrange(len(whole)), dice.randrange(1, 256)
        edited = whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :]
        verdict = walk(rows_of(io.BytesIO(edited)))
        # Named is the row whose line was edited; only its number, or a line end, may point at a neighbour.
        row = whole.count(b"\n", 0, at) + 1
        assert verdict.problems, (at, other)
        assert any(verdict.problems[0].startswith(f"row {near}:") for near in (row, row + 1)), (at, verdict.problems)


@pytest.mark.timeout(120)
def test_every_part_of_an_exported_file_is_missed() -> None:
    whole = b"".join(lines(chain(3)))
    for length in range(len(whole)):
        assert walk(rows_of(io.BytesIO(whole[:length]))).problems
    for more in (b"\n", b"x", whole):
        assert walk(rows_of(io.BytesIO(whole + more))).problems


@pytest.mark.timeout(120)
def test_every_edit_of_a_value_in_a_file_is_found(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite")
    head = add(database, [entry(n) for n in range(ROWS)])
    dice = random.Random(184)
    with database.engine.core.connect() as connection:
        take_the_guards_away(connection)
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.text_factory = as_bytes_count
        for _ in range(EDITS):
            number, column = dice.randint(1, ROWS), dice.choice(COLUMNS)
            ((found,),) = driver.execute(f"SELECT {column} FROM audit WHERE audit_id = {number}")
            edited = changed(found, dice, is_server=False)
            driver.execute("SAVEPOINT edit")
            driver.execute(f"UPDATE audit SET {column} = ? WHERE audit_id = {number}", (edited,))
            verdict = walk(
                map(table.row_of, driver.execute(f"SELECT {', '.join(COLUMNS)} FROM audit ORDER BY audit_id"))
            )
            assert verdict.problems, (number, column, found, edited)
            # Without its number row 1 goes to the end: the chain may then rightly start with row 2, and ends wrongly.
            named = ROWS + 1 if (number, column) == (1, "audit_id") else number
            assert verdict.problems[0].startswith(f"row {named}:"), (verdict.problems, column)
            driver.execute("ROLLBACK TO edit")
        assert walk(table.rows(connection)).last == head
        connection.rollback()
    database.close()


@pytest.mark.timeout(60)
def test_edits_are_found_in_either_database(location: StoreLocation) -> None:
    database = Database(location)
    add(database, [entry(n) for n in range(ROWS)])
    note = [str(database.read_now(table.newest))]
    is_server = isinstance(location, ServerStore)
    dice = random.Random(185)
    with database.engine.core.connect() as connection:
        take_the_guards_away(connection)
        if not is_server:
            connection.connection.driver_connection.text_factory = as_bytes_count  # type: ignore[union-attr]
        for _ in range(200):
            number, column = dice.randint(1, ROWS), dice.choice(COLUMNS)
            found = connection.exec_driver_sql(f"SELECT {column} FROM audit WHERE audit_id = {number}").scalar_one()
            edited = changed(found, dice, is_server=is_server)
            with connection.begin_nested() as edit:
                statement = sa.text(f"UPDATE audit SET {column} = :value WHERE audit_id = {number}")
                connection.execute(statement, {"value": edited})
                assert verify(connection, note).problems, (number, column, found, edited)
                edit.rollback()
        assert verify(connection, note).problems == ()
        connection.rollback()
    database.close()


def as_bytes_count(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def take_the_guards_away(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        return
    connection.exec_driver_sql("BEGIN")
    for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
        connection.exec_driver_sql(f"DROP TRIGGER {name}")


def changed(found: object, dice: random.Random, *, is_server: bool) -> object:
    """One bit or byte of a value made another; a text that is none any more stays the bytes it is in SQLite."""
    if isinstance(found, int):
        return found ^ 1 << dice.randrange(4 if found <= ROWS else 0, 62)  # no number that another row has
    raw = found.encode() if isinstance(found, str) else bytes(found)  # type: ignore[arg-type]
    at = dice.randrange(len(raw))
    edited = raw[:at] + bytes([raw[at] ^ dice.randrange(1, 256)]) + raw[at + 1 :]
    if not isinstance(found, str):
        return edited
    if is_server:
        text = edited.decode("utf-8", "replace").replace("\0", "x")
        return text if text != found else f"{found}."
    try:
        return edited.decode()
    except UnicodeDecodeError:
        return edited


@pytest.mark.timeout(60)
def test_a_text_that_is_no_text_any_more_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    database = Database(path)
    add(database, [entry(n) for n in range(3)])
    with database.engine.core.connect() as connection:
        take_the_guards_away(connection)
        connection.exec_driver_sql("UPDATE audit SET principal = CAST(x'ff41' AS TEXT) WHERE audit_id = 2")
        connection.commit()
    database.close()
    with opened(path) as connection:
        verdict = verify(connection, [])
        assert verdict.problems == ("row 2: its content is not what its hash was made of",)
        exported = b"".join(lines(table.rows(connection)))
    assert walk(rows_of(io.BytesIO(exported))).problems


def test_a_chain_written_anew_is_seen_only_by_what_was_noted(location: StoreLocation) -> None:
    database = Database(location)
    add(database, [entry(n) for n in range(4)])
    note = str(database.read_now(table.newest))
    with database.engine.core.connect() as connection:
        take_the_guards_away(connection)
        connection.exec_driver_sql("DELETE FROM audit WHERE audit_id > 2")
        assert verify(connection, []).problems == ()
        assert "row 3: it is missing: row 4 was noted" in verify(connection, [note]).problems[0]
        table._append(connection, [entry(7), entry(8), entry(9)])
        assert verify(connection, []).problems == ()
        assert "row 4: it is not the row that was noted" in verify(connection, [note]).problems[0]
        assert contradictions(connection, [str(Head(0, bytes(32)))]) == {}
        connection.rollback()
    database.close()

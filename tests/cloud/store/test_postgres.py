"""What a server can do to us and a file cannot."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from cloud.store import schema
from cloud.store.append import Appended, Appender, Incoming
from cloud.store.database import Database, StoreUnavailable
from cloud.store.location import ServerStore
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record
from tests.cloud.postgres_server import PostgresServer
from wire.readings import DeviceEvent, EventKind

pytestmark = pytest.mark.timeout(60)  # servers start and stop


@pytest.fixture
def location(postgres: PostgresServer) -> ServerStore:
    return postgres.empty_store()


def append(appender: Appender, *frames: bytes) -> Appended:
    return appender.append([Incoming("vw.1.gw-1.up.routine", one) for one in frames])


def values(database: Database) -> list[float]:
    query = sa.select(schema.numeric.c.value).order_by(schema.numeric.c.value)
    return database.read_now(lambda connection: list(connection.scalars(query)))


def test_a_cut_connection_is_a_reason_to_try_again(postgres: PostgresServer, location: ServerStore) -> None:
    database = Database(location)
    appender = Appender(database, FakeClock())
    append(appender, frame([heart_rate(1)], 1))
    postgres.cut_connections()
    batches = frame([heart_rate(1)], 1), frame([heart_rate(2)], 2)
    try:
        append(appender, *batches)
    except StoreUnavailable:
        append(appender, *batches)
    assert values(database) == [1, 2]
    database.close()


def test_while_the_server_is_away_everybody_is_told_to_wait(postgres: PostgresServer, location: ServerStore) -> None:
    database = Database(location)
    appender = Appender(database, FakeClock())
    append(appender, frame([heart_rate(1)], 1))
    postgres.crash()
    try:
        for ask in (lambda: append(appender, frame([heart_rate(2)], 2)), lambda: values(database)):
            with pytest.raises(StoreUnavailable) as told:
                ask()
            assert "\n" not in str(told.value)
        with pytest.raises(StoreUnavailable):
            Database(location)
    finally:
        postgres.start()
    append(appender, frame([heart_rate(1)], 1), frame([heart_rate(2)], 2))
    assert values(database) == [1, 2]
    database.close()


def test_what_is_wrong_with_the_server_buries_no_batch(postgres: PostgresServer, location: ServerStore) -> None:
    database = Database(location)
    appender = Appender(database, FakeClock())
    rename = sa.text("ALTER TABLE numeric RENAME TO numeric_away")
    database.transaction(lambda connection: connection.execute(rename))
    try:
        with pytest.raises(StoreUnavailable, match="numeric"):
            append(appender, frame([heart_rate(1)], 1))
    finally:
        back = sa.text("ALTER TABLE numeric_away RENAME TO numeric")
        database.transaction(lambda connection: connection.execute(back))
    append(appender, frame([heart_rate(1)], 1))
    assert values(database) == [1]
    letters = sa.select(sa.func.count()).select_from(schema.dead_letter)
    assert database.read_now(lambda connection: connection.scalar(letters)) == 0
    database.close()


def test_a_character_the_server_cannot_hold_makes_a_dead_letter(location: ServerStore) -> None:
    database = Database(location)
    poison = frame([record(DeviceEvent(EventKind.LEADS_OFF, NOW_US), session_id="s\0")], 2)
    appended = append(Appender(database, FakeClock()), frame([heart_rate(1)], 1), poison)
    assert [receipt.first_seq for _, receipt in appended.receipts] == [1, 2]
    payloads = database.read_now(lambda connection: list(connection.scalars(sa.select(schema.dead_letter.c.payload))))
    assert payloads == [poison]
    assert values(database) == [1]
    database.close()


def test_a_server_that_answers_before_its_disk_is_overruled(postgres: PostgresServer, location: ServerStore) -> None:
    def asked(database: Database) -> str:
        try:
            return str(database.read_now(lambda connection: connection.scalar(sa.text("SHOW synchronous_commit"))))
        finally:
            database.close()

    try:
        for configured, used in (("off", "on"), ("remote_apply", "remote_apply")):
            postgres.run(f"ALTER ROLE vitalwire SET synchronous_commit = {configured}")
            assert asked(Database(location)) == used
    finally:
        postgres.run("ALTER ROLE vitalwire RESET synchronous_commit")


@pytest.mark.usefixtures("location")
def test_a_store_answers_over_the_unix_socket(postgres: PostgresServer) -> None:
    database = Database(postgres.socket_store())
    append(Appender(database, FakeClock()), frame([heart_rate(1)], 1))
    assert values(database) == [1]
    database.close()

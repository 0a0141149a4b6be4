"""Cursor and effect together; alerts and sessions in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cloud.consumers import Consumer, boards_consumer
from cloud.counters import Counters
from cloud.store import schema
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.engine import insert
from cloud.store.location import StoreLocation
from cloud.store.reader import StoredEntry, StoreReader
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    DeviceEvent,
    EventKind,
    Numeric,
    Origin,
    Priority,
    SessionEvent,
    SessionKind,
    SessionPhase,
)
from wire.vocabulary import Metric


@pytest.fixture
def database(location: StoreLocation) -> Iterator[Database]:
    opened = Database(location)
    yield opened
    opened.close()


def append(database: Database, records: list[bytes], first_seq: int = 1, *, gateway: str = "gw-1") -> None:
    epoch = gateway.encode().ljust(16)
    Appender(database, FakeClock()).append([Incoming(f"vw.1.{gateway}.up.x", frame(records, first_seq, epoch=epoch))])


def step(phase: AlertPhase, time_us: int) -> bytes:
    onset_us = NOW_US - 60_000_000
    return record(Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, phase, onset_us, time_us))


def session(phase: SessionPhase, time_us: int, label: str = "") -> bytes:
    return record(SessionEvent("s1", SessionKind.MISSION, phase, time_us, label))


def boards(database: Database) -> Consumer:
    return boards_consumer(database, Counters(), lambda session_id: None)


async def test_what_failed_is_undone_and_tried_again_from_the_cursor(database: Database) -> None:
    append(database, [record(DeviceEvent(EventKind.LEADS_OFF, NOW_US + n)) for n in range(3)])
    failures, seen, done = [True], [], asyncio.Event()

    def effect(connection: sa.Connection, entry: StoredEntry) -> str | None:
        values = {"name": f"effect-{entry.position}", "value": b""}
        connection.execute(schema.meta.insert().values(values))
        if entry.position == 2 and failures:
            failures.pop()
            raise RuntimeError("a bug")
        seen.append(entry.position)
        if entry.position == 3:
            done.set()
        return None

    counters = Counters()
    running = asyncio.create_task(Consumer("test", effect, database, counters, lambda session_id: None).run())
    await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert seen == [1, 1, 2, 3]
    assert counters["consumer_failures"] == 1


async def test_an_entry_no_table_takes_is_passed_over_and_counted(database: Database) -> None:
    append(database, [record(DeviceEvent(EventKind.LEADS_OFF, NOW_US + n)) for n in range(3)])

    def effect(connection: sa.Connection, entry: StoredEntry) -> str | None:
        value = 1 << 63 if entry.position == 2 else 1
        connection.execute(insert(schema.cursor).values(consumer=f"effect-{entry.position}", position=value))
        return f"s{entry.position}"

    counters, changed = Counters(), list[str]()
    await Consumer("test", effect, database, counters, changed.append).catch_up()
    assert changed == ["s1", "s3"]
    assert counters["consumer_entries_skipped"] == 1


async def test_an_alert_that_stands_is_told_before_any_that_is_cleared(database: Database) -> None:
    def alert(name: str, phase: AlertPhase, onset_us: int) -> bytes:
        return record(Alert(name, "leads_off", AlertKind.TECHNICAL, Priority.LOW, phase, onset_us, onset_us))

    cleared = [alert(f"c{n}", AlertPhase.CLEARED, NOW_US + n) for n in range(5)]
    append(database, [alert("standing", AlertPhase.RAISED, NOW_US - 60_000_000), *cleared])
    await boards(database).catch_up()
    told = StoreReader(database).alerts(cleared_since_us=0, most=3)
    assert "standing" in [stored.alert.alert_id for stored in told]


async def test_a_cleared_alert_never_comes_back(database: Database) -> None:
    append(database, [step(AlertPhase.CLEARED, NOW_US), step(AlertPhase.RAISED, NOW_US - 20_000_000)])
    await boards(database).catch_up()
    (stored,) = StoreReader(database).alerts(cleared_since_us=0, most=10)
    assert stored.alert.phase is AlertPhase.CLEARED
    assert stored.delayed is True


async def test_an_alert_committed_in_time_is_not_delayed(database: Database) -> None:
    append(database, [step(AlertPhase.RAISED, NOW_US - 1_000_000)])
    await boards(database).catch_up()
    (stored,) = StoreReader(database).alerts(cleared_since_us=NOW_US, most=10)
    assert stored.delayed is False


async def test_a_session_opens_and_closes_once(database: Database) -> None:
    append(database, [session(SessionPhase.OPENED, NOW_US, "Ambulance 1")])
    await boards(database).catch_up()
    append(database, [session(SessionPhase.CLOSED, NOW_US + 5)], 2)
    await boards(database).catch_up()
    stored = StoreReader(database).session("s1")
    assert (stored.label, stored.opened_us, stored.closed_us) == ("Ambulance 1", NOW_US, NOW_US + 5)


async def test_another_gateway_cannot_close_a_session(database: Database) -> None:
    append(database, [session(SessionPhase.OPENED, NOW_US, "Ambulance 1")])
    append(database, [session(SessionPhase.CLOSED, NOW_US + 5, "theirs")], gateway="gw-2")
    await boards(database).catch_up()
    stored = StoreReader(database).session("s1")
    assert (stored.gateway, stored.label, stored.closed_us) == ("gw-1", "Ambulance 1", None)


async def test_a_clock_that_stepped_back_does_not_leave_an_alarm_standing(database: Database) -> None:
    append(database, [step(AlertPhase.RAISED, NOW_US), step(AlertPhase.CLEARED, NOW_US - 3_600_000_000)])
    await boards(database).catch_up()
    (stored,) = StoreReader(database).alerts(cleared_since_us=0, most=10)
    assert stored.alert.phase is AlertPhase.CLEARED


def real_session() -> bytes:
    event = SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, "Ambulance 1")
    return record(event, origin=Origin.REAL)


SIMULATED = [heart_rate(60), wave(0), record(DeviceEvent(EventKind.LEADS_OFF, NOW_US))]


@pytest.mark.parametrize("simulated", SIMULATED, ids=["numeric", "waveform", "event"])
@pytest.mark.parametrize("is_opened_first", [True, False])
async def test_simulated_data_marks_its_session(database: Database, simulated: bytes, is_opened_first: bool) -> None:
    records = [real_session(), simulated] if is_opened_first else [simulated, real_session()]
    for seq, each in enumerate(records, 1):
        append(database, [each], seq)
        await boards(database).catch_up()
    assert StoreReader(database).session("s1").origin == Origin.DEMO


async def test_another_gateway_cannot_write_into_a_session(database: Database) -> None:
    real = Numeric(Metric.HEART_RATE, 60, NOW_US)
    append(database, [real_session(), record(real, origin=Origin.REAL)])
    theirs = [heart_rate(30, NOW_US + 1), wave(0), step(AlertPhase.RAISED, NOW_US), SIMULATED[2]]
    append(database, theirs, gateway="gw-2")
    await boards(database).catch_up()
    reader = StoreReader(database)
    assert reader.session("s1").origin == Origin.REAL
    assert [each.value for each in reader.numerics("s1", from_us=0, to_us=NOW_US + 9, most=10)] == [60]
    assert reader.newest_us("s1", to_us=NOW_US) == NOW_US
    assert (reader.streams("s1"), reader.stream_origin("s1", "ecg"), list(reader.blocks("s1", "ecg"))) == ([], 0, [])
    assert reader.recent_blocks("s1", since_us=0, most=10) == []
    assert reader.recent_entries("s1", "event", 10) == []
    assert reader.alerts(session_id="s1", cleared_since_us=0, most=10) == []
    assert reader.alerts(cleared_since_us=0, most=10) == []

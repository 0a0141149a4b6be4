"""Every question to the store, answered alike on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store import account
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.location import StoreLocation
from cloud.store.reader import StoreReader, UnknownSession
from tests.cloud.cloud_frames import EPOCH, NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.messages import Lane
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    DeviceEvent,
    EventKind,
    Gap,
    GapReason,
    Numeric,
    Origin,
    Priority,
    SessionEvent,
    SessionKind,
    SessionPhase,
)
from wire.vocabulary import Metric

BLOCKS = 250  # more than one page
GAP = Gap(GapReason.LINK, NOW_US, NOW_US + 1, EPOCH, "bulk", 7, 9)


@pytest.fixture
def database(location: StoreLocation) -> Iterator[Database]:
    """A session with numerics, waveforms, an alert, a gap and an event."""
    opened = Database(location)
    alert = Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, NOW_US, NOW_US)
    urgent = [
        record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, "Ambulance 1")),
        record(alert),
        record(GAP),
        record(DeviceEvent(EventKind.LEADS_OFF, NOW_US + 2)),
        record(msgspec.structs.replace(alert, phase=AlertPhase.CLEARED, time_us=NOW_US + 3)),
    ]
    routine = [heart_rate(float(60 + n), NOW_US + n) for n in range(5)]
    routine.append(record(Numeric(Metric.GLUCOSE, 5.5, NOW_US + 9, reported_time="2026-01-02 03:04:05")))
    bulk = [wave(50 * n, NOW_US + 100_000 * n) for n in range(BLOCKS)]
    lanes = ((Lane.URGENT, urgent), (Lane.ROUTINE, routine), (Lane.BULK, bulk))
    group = [Incoming(f"vw.1.gw-1.up.{lane.value}", frame(records, lane=lane)) for lane, records in lanes]
    Appender(opened, FakeClock()).append(group)
    asyncio.run(boards_consumer(opened, Counters(), lambda session_id: None).catch_up())
    yield opened
    opened.close()


def test_sessions_and_what_each_holds(database: Database) -> None:
    reader = StoreReader(database)
    (session,) = reader.sessions(most=10, open_only=True)
    assert session == reader.session("s1")
    assert (session.gateway, session.label, session.origin) == ("gw-1", "Ambulance 1", Origin.DEMO.value)
    with pytest.raises(UnknownSession, match="s1"):
        reader.session("s2")
    assert reader.streams("s1") == ["ecg"]
    assert reader.stream_origin("s1", "ecg") == Origin.DEMO.value
    assert reader.newest_us("s1", to_us=NOW_US + 10**9) == NOW_US + 100_000 * (BLOCKS - 1)
    assert reader.newest_us("s2", to_us=NOW_US + 10**9) == 0
    assert reader.counts() == {
        "numeric": 6,
        "waveform": BLOCKS,
        "entry": 5,
        "unread": 0,
        "conflict": 0,
        "dead_letter": 0,
        "session": 1,
        "alert": 1,
    }


def test_the_newest_numerics_come_oldest_first(database: Database) -> None:
    reader = StoreReader(database)
    rates = reader.numerics("s1", metric="heart_rate", from_us=NOW_US + 1, to_us=NOW_US + 8, most=3)
    assert [(rate.value, rate.time_us - NOW_US) for rate in rates] == [(62, 2), (63, 3), (64, 4)]
    everything = reader.numerics("s1", from_us=0, to_us=NOW_US + 9, most=100)
    assert [one.value for one in everything] == [60, 61, 62, 63, 64, 5.5]


def test_blocks_come_in_order_page_after_page(database: Database) -> None:
    reader = StoreReader(database)
    indexes = [block.first_index for block in reader.blocks("s1", "ecg")]
    assert indexes == [50 * n for n in range(BLOCKS)]
    assert [block.first_index for block in reader.blocks("s1", "ecg", from_index=100, most=2)] == [100, 150]
    recent = reader.recent_blocks("s1", since_us=NOW_US + 100_000, most=2)
    assert [block.first_index for block in recent] == indexes[-2:]


def test_alerts_entries_and_runs(database: Database) -> None:
    reader = StoreReader(database)
    (stored,) = reader.alerts(session_id="s1", cleared_since_us=0, most=10)
    assert stored.alert.phase is AlertPhase.CLEARED
    assert reader.alerts(cleared_since_us=NOW_US + 4, most=10) == []
    assert [entry.position for entry in reader.recent_entries("s1", "alert", 10)] == [2, 5]
    runs = {(EPOCH, "urgent", 1, 5), (EPOCH, "routine", 1, 6), (EPOCH, "bulk", 1, BLOCKS)}
    assert reader.stored_runs() == runs


def test_the_account_is_in_the_words_of_the_devices(database: Database) -> None:
    said = account.said_numerics(database, "gw-1", "monitor")
    assert said[account.SaidNumeric("glucose", "2026-01-02 03:04:05", 5.5)] == 1
    assert said.total() == 6
    assert account.gaps(database) == [GAP]
    assert [step.alert.phase for step in account.alert_steps(database)] == [AlertPhase.RAISED, AlertPhase.CLEARED]

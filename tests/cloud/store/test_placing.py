"""A box that booted in 1970: its readings wait, enter history once, and nothing stored is changed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import permutations

import pytest
import sqlalchemy as sa

from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store import schema
from cloud.store.append import Appended, Appender, Incoming
from cloud.store.database import Database
from cloud.store.location import StoreLocation
from cloud.store.reader import StoreReader
from tests.cloud.cloud_frames import BOOT, NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.clock import ClockAnchor
from wire.messages import Lane
from wire.readings import SessionEvent, SessionKind, SessionPhase

# The box booted with its wall clock one second ahead of its monotonic one, and was set when that said 60 s.
UNSET = ClockAnchor(BOOT, 10_000_000, 11_000_000, 0, False)
SET = ClockAnchor(BOOT, 60_000_000, NOW_US, 20_000, True)
SHIFT_US = NOW_US - 61_000_000
TABLES = (schema.numeric, schema.waveform, schema.entry, schema.batch, schema.placement)


class Store:
    def __init__(self, location: StoreLocation) -> None:
        self.database = Database(location)
        self.appender = Appender(self.database, FakeClock())
        self.reader = StoreReader(self.database)
        opened = record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US))
        self.append(frame([opened], lane=Lane.URGENT), lane=Lane.URGENT)
        asyncio.run(boards_consumer(self.database, Counters(), lambda session_id: None).catch_up())

    def append(self, one: bytes, *, lane: Lane = Lane.ROUTINE) -> Appended:
        return self.appender.append([Incoming(f"vw.1.gw-1.up.{lane.value}", one)])

    def rows(self) -> set[tuple[object, ...]]:
        return {
            (table.name, *row)
            for table in TABLES
            for row in self.database.read_now(
                lambda connection, table=table: connection.execute(sa.select(table)).all()
            )
        }

    def history(self) -> list[tuple[int, float | None]]:
        found = self.reader.numerics("s1", from_us=0, to_us=NOW_US * 2, most=100)
        return [(one.time_us, one.value) for one in found]


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Store]:
    opened = Store(location)
    yield opened
    opened.database.close()


def test_without_a_clock_readings_are_kept_and_wait(store: Store) -> None:
    appended = store.append(frame([heart_rate(60, 12_000_000)], 1, anchors=(UNSET,)))
    assert appended.counts["records_waiting_for_a_clock"] == 1
    assert len(appended.receipts) == 1
    assert store.history() == []


def test_they_enter_history_when_the_clock_is_known_and_no_stored_row_changes(store: Store) -> None:
    store.append(frame([heart_rate(60, 12_000_000), heart_rate(61, 13_500_000)], 1, anchors=(UNSET,)))
    store.append(frame([wave(0, 12_000_000)], 1, lane=Lane.BULK, anchors=(UNSET,)), lane=Lane.BULK)
    before = store.rows()
    assert [block.start_us for block in store.reader.blocks("s1", "ecg")] == []
    appended = store.append(frame([heart_rate(62, NOW_US + 5)], 3, anchors=(SET,)))
    assert appended.counts["boots_placed"] == 1
    assert before < store.rows()
    assert store.history() == [(SHIFT_US + 12_000_000, 60), (SHIFT_US + 13_500_000, 61), (NOW_US + 5, 62)]
    assert [block.start_us for block in store.reader.blocks("s1", "ecg")] == [SHIFT_US + 12_000_000]


def test_a_placement_is_made_once(store: Store) -> None:
    store.append(frame([heart_rate(60, 12_000_000)], 1, anchors=(UNSET,)))
    store.append(frame([heart_rate(61, NOW_US)], 2, anchors=(SET,)))
    before, history = store.rows(), store.history()
    later = ClockAnchor(BOOT, 70_000_000, NOW_US + 11_000_000, 5, True)
    appended = store.append(frame([heart_rate(62, NOW_US + 11_000_000)], 3, anchors=(later,)))
    assert "boots_placed" not in appended.counts
    assert before < store.rows()
    assert store.history()[:2] == history


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_whatever_comes_first_the_place_is_the_same(store: Store, order: tuple[int, ...]) -> None:
    frames = (
        frame([heart_rate(60, 12_000_000)], 1, anchors=(UNSET,)),
        frame([heart_rate(61, 13_000_000)], 2, anchors=(UNSET,)),
        frame([heart_rate(62, NOW_US)], 3, anchors=(SET,)),
    )
    for index in order:
        store.append(frames[index])
    assert store.history() == [(SHIFT_US + 12_000_000, 60), (SHIFT_US + 13_000_000, 61), (NOW_US, 62)]


def test_a_clock_that_is_set_but_trusted_by_nobody_places_nothing(store: Store) -> None:
    store.append(frame([heart_rate(60, 12_000_000)], 1, anchors=(UNSET,)))
    store.append(frame([heart_rate(61, NOW_US)], 2, anchors=(ClockAnchor(BOOT, 60_000_000, NOW_US, 0, False),)))
    assert store.history() == [(NOW_US, 61)]


def test_a_record_committed_after_the_setting_goes_by_its_monotonic_time(store: Store) -> None:
    # cloud_frames stamps records at monotonic 5 µs.
    store.append(frame([heart_rate(60, 12_000_000)], 1, anchors=(SET,)))
    assert store.history() == [(NOW_US - 60_000_000 + 5, 60)]

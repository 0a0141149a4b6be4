"""A box that booted in 1970: its readings wait, enter history once, and nothing stored is changed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest
import sqlalchemy as sa

from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.store import schema
from cloud.store.alerts import StoredAlert
from cloud.store.append import Appended, Appender, Incoming
from cloud.store.database import Database
from cloud.store.location import StoreLocation
from cloud.store.reader import StoreReader
from tests.cloud.cloud_frames import BOOT, NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.clock import ClockAnchor
from wire.messages import Lane, encode_record
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    Body,
    Origin,
    Priority,
    SessionEvent,
    SessionKind,
    SessionPhase,
)

# The box booted with its wall clock one second ahead of its monotonic one, and was set when that said 60 s.
UNSET = ClockAnchor(BOOT, 10_000_000, 11_000_000, 0, False)
SET = ClockAnchor(BOOT, 60_000_000, NOW_US, 20_000, True)
SHIFT_US = NOW_US - 61_000_000
BOARDS = (schema.alert, schema.session)
TABLES = (schema.numeric, schema.waveform, schema.entry, schema.batch, schema.placement)


class Store:
    def __init__(self, location: StoreLocation) -> None:
        self.database = Database(location)
        self.appender = Appender(self.database, FakeClock())
        self.reader = StoreReader(self.database)
        opened = record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US))
        self.append(frame([opened], lane=Lane.URGENT), lane=Lane.URGENT)
        self.follow()

    def follow(self) -> None:
        """The boards catch up with the log."""
        asyncio.run(boards_consumer(self.database, Counters(), lambda session_id: None).catch_up())

    def urgent(self, first_seq: int, *bodies: Body, anchor: ClockAnchor = UNSET, boot: bytes = BOOT) -> Appended:
        """A batch of the urgent lane, on the boards when this returns."""
        source = {"device_id": "monitor", "origin": Origin.DEMO, "boot_id": boot, "mono_us": 5}
        records = [encode_record(body, session_id=getattr(body, "session_id", "s1"), **source) for body in bodies]
        appended = self.append(frame(records, first_seq, lane=Lane.URGENT, anchors=(anchor,)), lane=Lane.URGENT)
        self.follow()
        return appended

    def alert(self, *, cleared_since_us: int = NOW_US) -> StoredAlert:
        """The only one there is to be seen."""
        (found,) = self.reader.alerts(session_id="s1", cleared_since_us=cleared_since_us, most=10)
        assert [found] == self.reader.alerts(cleared_since_us=cleared_since_us, most=10)
        return found

    def append(self, one: bytes, *, lane: Lane = Lane.ROUTINE) -> Appended:
        return self.appender.append([Incoming(f"vw.1.gw-1.up.{lane.value}", one)])

    def rows(self, tables: Sequence[sa.Table] = TABLES) -> set[tuple[object, ...]]:
        return {
            (table.name, *row)
            for table in tables
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


def step(phase: AlertPhase, time_us: int, *, onset_us: int = 60_500_000, alert_id: str = "a1") -> Alert:
    return Alert(alert_id, "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, phase, onset_us, time_us)


def test_an_alert_raised_without_a_clock_is_seen_and_waits_for_its_times(store: Store) -> None:
    raised = step(AlertPhase.RAISED, 60_800_000)
    store.urgent(2, raised)
    assert (store.alert().alert, store.alert().placed) == (raised, False)


def test_its_times_take_their_place_and_no_row_and_no_board_changes(store: Store) -> None:
    store.urgent(2, step(AlertPhase.RAISED, 60_800_000))
    before = store.rows((*TABLES, *BOARDS))
    store.append(frame([heart_rate(62, NOW_US + 5)], 1, anchors=(SET,)))
    assert before < store.rows((*TABLES, *BOARDS))
    stored = store.alert()
    assert (stored.alert.onset_us, stored.alert.time_us) == (SHIFT_US + 60_500_000, SHIFT_US + 60_800_000)
    assert (stored.placed, stored.delayed) == (True, False)


def test_one_that_came_late_is_delayed(store: Store) -> None:
    store.urgent(2, step(AlertPhase.RAISED, 20_000_000, onset_us=12_000_000))
    store.urgent(3, step(AlertPhase.ESCALATED, 60_800_000, onset_us=12_000_000))
    store.append(frame([heart_rate(62, NOW_US + 5)], 1, anchors=(SET,)))
    stored = store.alert()
    assert (stored.alert.phase, stored.alert.onset_us) == (AlertPhase.ESCALATED, SHIFT_US + 12_000_000)
    assert stored.delayed


def test_a_step_after_the_clock_was_set_leaves_the_onset_where_it_was(store: Store) -> None:
    store.urgent(2, step(AlertPhase.RAISED, 60_800_000))
    store.urgent(3, step(AlertPhase.CLEARED, NOW_US + 9), anchor=SET)
    stored = store.alert()
    assert (stored.alert.onset_us, stored.alert.time_us) == (SHIFT_US + 60_500_000, NOW_US + 9)
    assert (stored.alert.phase, stored.placed) == (AlertPhase.CLEARED, True)


def test_one_of_an_earlier_boot_keeps_that_boots_onset(store: Store) -> None:
    again = ClockAnchor(b"again" * 3 + b".", 7_000_000, 8_000_000, 0, False)
    store.urgent(2, step(AlertPhase.RAISED, 60_800_000))
    store.append(frame([heart_rate(62, NOW_US + 5)], 1, anchors=(SET,)))
    store.urgent(3, step(AlertPhase.ESCALATED, 9_000_000), anchor=again, boot=again.boot_id)
    assert not store.alert().placed
    later = ClockAnchor(again.boot_id, 20_000_000, NOW_US + 90_000_000, 0, True)
    store.append(frame([heart_rate(62, NOW_US + 90_000_000)], 2, anchors=(later,)))
    stored = store.alert()
    assert (stored.alert.onset_us, stored.alert.time_us) == (SHIFT_US + 60_500_000, NOW_US + 78_000_000)


def test_one_cleared_without_a_clock_is_shown_as_long_as_any_other(store: Store) -> None:
    store.urgent(2, step(AlertPhase.RAISED, 60_800_000), step(AlertPhase.CLEARED, 60_900_000))
    store.append(frame([heart_rate(62, NOW_US + 5)], 1, anchors=(SET,)))
    cleared_us = SHIFT_US + 60_900_000
    assert store.alert(cleared_since_us=cleared_us).alert.time_us == cleared_us
    assert store.reader.alerts(cleared_since_us=cleared_us + 1, most=10) == []


def test_the_newest_alerts_are_chosen_by_their_place(store: Store) -> None:
    store.urgent(2, step(AlertPhase.RAISED, 60_800_000), anchor=UNSET)
    old = step(AlertPhase.RAISED, NOW_US - 9_000_000, onset_us=NOW_US - 9_000_000, alert_id="old")
    store.urgent(3, old, anchor=SET)
    (newest,) = store.reader.alerts(cleared_since_us=NOW_US, most=1)
    assert newest.alert.alert_id == "a1"


def test_a_session_opened_without_a_clock_takes_its_place_among_the_others(store: Store) -> None:
    opened = SessionEvent("s2", SessionKind.HOME, SessionPhase.OPENED, 61_500_000)
    store.urgent(2, opened)
    assert [one.session_id for one in store.reader.sessions(most=10)] == ["s1", "s2"]
    store.append(frame([heart_rate(62, NOW_US + 5)], 1, anchors=(SET,)))
    assert [one.session_id for one in store.reader.sessions(most=1)] == ["s2"]
    assert store.reader.session("s2").opened_us == SHIFT_US + 61_500_000

"""What the store promises, on every engine it may lie in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
import sqlalchemy as sa

from cloud.store import schema
from cloud.store.append import Appended, Appender, Incoming
from cloud.store.database import Database
from cloud.store.location import ServerStore, StoreLocation
from tests.cloud.cloud_frames import BOOT, EPOCH, NOW_US, FakeClock, frame, heart_rate, record, wave
from tests.conftest import ROOT
from wire.clock import ClockAnchor
from wire.messages import Lane, encode_frame
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    DeviceEvent,
    EventKind,
    Gap,
    GapReason,
    Numeric,
    Priority,
    Status,
)
from wire.vocabulary import Metric


class Store:
    def __init__(self, location: StoreLocation) -> None:
        self.database = Database(location)
        self.appender = Appender(self.database, FakeClock())

    def append(self, *frames: bytes, gateway: str = "gw-1") -> Appended:
        return self.appender.append([Incoming(f"vw.1.{gateway}.up.routine", one) for one in frames])

    def rows(self, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
        return self.database.read_now(lambda connection: list(connection.execute(sa.select(table))))

    def runs(self) -> list[tuple[int, int]]:
        return sorted((row.first_seq, row.last_seq) for row in self.rows(schema.run))

    def values(self) -> list[float]:
        return [
            row.value for row in sorted(self.rows(schema.numeric), key=lambda row: (row.time_us, row.lane, row.seq))
        ]


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Store]:
    opened = Store(location)
    yield opened
    opened.database.close()


def seqs(appended: Appended) -> list[tuple[int, int]]:
    return [(receipt.first_seq, receipt.last_seq) for _, receipt in appended.receipts]


def test_a_batch_is_stored_and_receipted(store: Store) -> None:
    appended = store.append(frame([heart_rate(60), heart_rate(61)], 1))
    assert seqs(appended) == [(1, 2)]
    (gateway, receipt), *_ = appended.receipts
    assert (gateway, receipt.epoch, receipt.lane) == ("gw-1", EPOCH, Lane.ROUTINE)
    assert receipt.store_id == store.database.store_id
    assert store.values() == [60, 61]
    assert store.runs() == [(1, 2)]


def test_a_repeated_batch_is_stored_once_and_receipted_again(store: Store) -> None:
    batch = frame([heart_rate(60)], 1)
    for appended in (store.append(batch, batch), store.append(batch)):
        assert set(seqs(appended)) == {(1, 1)}
    assert store.values() == [60]
    assert store.rows(schema.conflict) == []


def test_an_overlapping_batch_adds_exactly_what_is_new(store: Store) -> None:
    records = [heart_rate(float(value), NOW_US + value) for value in range(1, 11)]
    store.append(frame(records[2:4], 3), frame(records[6:8], 7))
    store.append(frame(records, 1))
    assert store.values() == [float(value) for value in range(1, 11)]
    assert store.runs() == [(1, 10)]
    assert store.rows(schema.conflict) == []


def test_another_record_under_a_used_number_is_kept_aside_and_receipted(store: Store) -> None:
    store.append(frame([heart_rate(60), heart_rate(61), heart_rate(62)], 1))
    appended = store.append(frame([heart_rate(61), heart_rate(99), heart_rate(63)], 2))
    assert seqs(appended) == [(2, 4)]
    assert appended.counts["conflicts"] == 1
    assert store.values() == [60, 61, 62, 63]
    (kept,) = store.rows(schema.conflict)
    assert (kept.seq, kept.record) == (3, heart_rate(99))
    store.append(frame([heart_rate(99)], 3))
    assert len(store.rows(schema.conflict)) == 1


def test_a_conflict_within_one_group_is_seen(store: Store) -> None:
    appended = store.append(frame([heart_rate(60)], 1), frame([heart_rate(61)], 1))
    assert appended.counts["conflicts"] == 1
    assert store.values() == [60]


def test_an_epoch_used_by_another_gateway_is_kept_aside(store: Store) -> None:
    store.append(frame([heart_rate(60)], 1))
    appended = store.append(frame([heart_rate(70)], 2), gateway="gw-2")
    assert [gateway for gateway, _ in appended.receipts] == ["gw-2"]
    assert appended.counts["stolen_epoch_records"] == 1
    assert store.values() == [60]
    assert store.rows(schema.conflict)[0].gateway == "gw-2"


def test_a_poison_batch_is_buried_and_the_others_are_stored(store: Store) -> None:
    number = 1 << 63  # no column holds it
    poison = frame([heart_rate(2.0)], number)
    appended = store.append(frame([heart_rate(1)], 1), poison, frame([heart_rate(3)], 3))
    assert seqs(appended) == [(1, 1), (number, number), (3, 3)]
    assert store.values() == [1, 3]
    (buried,) = store.rows(schema.dead_letter)
    assert (buried.payload, buried.first_seq, buried.gateway) == (poison, str(number), "gw-1")
    store.append(poison)
    assert len(store.rows(schema.dead_letter)) == 1


def test_an_undecodable_frame_is_a_dead_letter_without_receipt(store: Store) -> None:
    appended = store.append(b"\x01\x00garbage", frame([heart_rate(1)], 1), b"")
    assert seqs(appended) == [(1, 1)]
    assert len(store.rows(schema.dead_letter)) == 2


def test_a_record_of_a_newer_version_is_kept_raw(store: Store) -> None:
    unknown = msgspec.msgpack.encode(["monitor", "s1", 2, BOOT, 5, ["hologram", 1]])
    appended = store.append(frame([heart_rate(1), unknown, heart_rate(3)], 1))
    assert seqs(appended) == [(1, 3)]
    assert store.values() == [1, 3]
    (kept,) = store.rows(schema.unread)
    assert (kept.seq, kept.record) == (2, unknown)


def test_a_time_beyond_every_column_does_not_take_its_batch_along(store: Store) -> None:
    late, long_up = heart_rate(2, 1 << 63), record(Numeric(Metric.HEART_RATE, 3, NOW_US), mono_us=1 << 63)
    appended = store.append(frame([heart_rate(1), late, long_up, heart_rate(4)], 1))
    assert (seqs(appended), store.runs()) == ([(1, 4)], [(1, 4)])
    assert store.values() == [1, 4]
    assert [row.record for row in store.rows(schema.unread)] == [late, long_up]
    assert store.rows(schema.dead_letter) == []


@pytest.mark.parametrize(
    "body",
    [
        Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, 1 << 63, NOW_US),
        Gap(GapReason.DISK, NOW_US, NOW_US, last_seq=1 << 63),
        Status(NOW_US, "0.2", {}, {"accepted": 1 << 63}),
    ],
)
def test_a_number_beyond_every_column_never_reaches_the_log(store: Store, body: Alert | Gap | Status) -> None:
    store.append(frame([record(body)]))
    assert store.rows(schema.entry) == []
    assert len(store.rows(schema.unread)) == 1


def test_after_a_restart_nothing_is_doubled(store: Store, location: StoreLocation) -> None:
    batch = frame([heart_rate(60)], 1)
    first = store.append(batch)
    again = Store(location)
    second = again.append(batch, frame([heart_rate(61)], 2))
    assert second.receipts[0][1] == first.receipts[0][1]
    assert again.values() == [60, 61]
    assert again.runs() == [(1, 2)]
    again.database.close()


def test_two_that_store_in_turn_double_nothing(store: Store, location: StoreLocation) -> None:
    other = Store(location)
    # Waveforms: no key of their table would refuse a second one.
    batches = [frame([wave(50 * seq)], seq) for seq in range(1, 4)]
    store.append(batches[0])
    other.append(batches[0], batches[1])
    store.append(batches[1], batches[2])
    other.append(*batches)
    assert sorted(row.first_index for row in store.rows(schema.waveform)) == [50, 100, 150]
    assert store.runs() == [(1, 3)]
    assert store.rows(schema.conflict) == []
    other.database.close()


@pytest.mark.timeout(60)  # a fresh interpreter
def test_killed_between_commit_and_receipt_stores_once_and_receipts(store: Store, location: StoreLocation) -> None:
    words = (
        "import os, sys; from cloud.store.append import Appender, Incoming; from cloud.store.database import Database;"
        "from cloud.store.location import parse_store_url; from wire.clock import SystemClock;"
        "appender = Appender(Database(parse_store_url(sys.argv[1])), SystemClock());"
        "appender.append([Incoming('vw.1.gw-1.up.routine', bytes.fromhex(sys.argv[2]))]); os.kill(os.getpid(), 9)"
    )
    batch = frame([heart_rate(60), heart_rate(61)], 1)
    url, environment = f"sqlite:///{location}", dict(os.environ)
    if isinstance(location, ServerStore):
        url, environment = location.url, environment | {"PGPASSWORD": location.password}
    killed = subprocess.run([sys.executable, "-c", words, url, batch.hex()], env=environment, cwd=ROOT, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert store.values() == [60, 61]
    assert seqs(store.append(batch)) == [(1, 2)]
    assert store.values() == [60, 61]
    assert store.rows(schema.conflict) == []


def test_a_value_that_is_not_a_number_does_not_poison(store: Store) -> None:
    store.append(frame([heart_rate(float("nan"))], 1))
    assert store.values() == [None]


def test_everything_else_enters_the_log_in_order(store: Store) -> None:
    store.append(frame([record(DeviceEvent(EventKind.LEADS_OFF, NOW_US)), heart_rate(1)], 1))
    store.append(frame([record(DeviceEvent(EventKind.LEADS_ON, NOW_US + 1))], 3))
    rows = store.rows(schema.entry)
    assert [(row.position, row.kind, row.time_us) for row in rows] == [(1, "event", NOW_US), (2, "event", NOW_US + 1)]


def test_compressed_frames_and_lanes_are_told_apart(store: Store) -> None:
    store.append(frame([heart_rate(1)], 1, lane=Lane.URGENT), frame([heart_rate(2)], 1, lane=Lane.BULK))
    assert store.values() == [1, 2]


def test_a_reported_time_is_kept_as_said(store: Store) -> None:
    numeric = Numeric(Metric.GLUCOSE, 5.5, NOW_US, reported_time="2026-01-02 03:04:05")
    store.append(frame([record(numeric)], 1))
    assert store.rows(schema.numeric)[0].reported_time == "2026-01-02 03:04:05"


def test_a_frame_of_something_else_is_a_dead_letter(store: Store) -> None:
    store.append(encode_frame(ClockAnchor(BOOT, 1, 2, 3, True)))
    assert len(store.rows(schema.dead_letter)) == 1

"""What is known of boxes: state, clock, drops and starts, from the bus and from the store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from cloud.consumers import fleet_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.fleet import Fleet
from cloud.fleet_keeper import FleetKeeper
from cloud.gateways import GatewayState
from cloud.heartbeats import Moment, follows
from cloud.live_screen import LiveScreen
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.fleet import FleetReader
from cloud.store.location import StoreLocation
from tests.cloud.cloud_frames import BOOT, EPOCH, NOW_US, FakeClock, frame, heart_rate, record
from wire.messages import Presence, encode_frame
from wire.readings import DeviceState, Gap, GapReason, Status

pytestmark = pytest.mark.timeout(60)  # the first one over PostgreSQL starts its server

UP = "vw.1.gw-1.up.x"
S = 1_000_000


def status(time_us: int = NOW_US, *, backlog: float = 0, skipped: int = 0, **gauges: float) -> Status:
    counters = {"accepted": 9, "monitor.bad checksum": skipped, "monitor.repetition_dropped": 50}
    return Status(time_us, "0.2", {"backlog_records": backlog, **gauges}, counters)


def moment(time_us: int, *, mono_us: int = 0, boot: bytes = BOOT, received_us: int = NOW_US) -> Moment:
    return Moment(boot, mono_us, time_us, received_us)


class Boxes:
    """A feed that hears gw-1, configured beside gw-2."""

    def __init__(self) -> None:
        self.clock, self.seq = FakeClock(), 0
        self.feed = Feed(self.clock, Counters(), Fleet(self.clock, Counters(), ["gw-1", "gw-2"]))

    def say(self, body: Status, *, mono_us: int | None = None, epoch: bytes = EPOCH) -> None:
        self.seq += 1
        mono_us = self.clock.us if mono_us is None else mono_us
        self.feed.hear(UP, frame([record(body, mono_us=mono_us)], self.seq, epoch=epoch))

    def row(self, gateway: str = "gw-1") -> dict[str, Any]:
        (found,) = [row for row in self.feed.fleet.rows() if row["gateway_id"] == gateway]
        return found


def test_a_configured_box_never_heard_is_said_to_be_one() -> None:
    boxes = Boxes()
    boxes.say(status())
    assert boxes.row("gw-2")["state"] == "never"
    assert boxes.row("gw-1")["state"] == "online"


def test_silence_is_not_the_same_as_being_gone() -> None:
    boxes = Boxes()
    boxes.say(status())
    boxes.clock.us += 15 * S + 1
    boxes.feed.tick()
    assert (boxes.row()["state"], boxes.row()["since_us"]) == ("silent", NOW_US)
    boxes.feed.hear("vw.1.gw-1.status", encode_frame(Presence(False, "0.2", 0)))
    assert (boxes.row()["state"], boxes.row()["since_us"]) == ("offline", NOW_US)
    boxes.say(status())
    assert (boxes.row()["state"], boxes.row()["since_us"]) == ("online", boxes.clock.us)


def test_a_backlog_of_heartbeats_never_overwrites_the_newest() -> None:
    boxes = Boxes()
    boxes.say(status(backlog=7), mono_us=100)
    boxes.say(status(backlog=900), mono_us=50)
    assert boxes.row()["gauges"]["backlog_records"] == 7
    boxes.say(status(backlog=0), mono_us=101)
    assert boxes.row()["gauges"]["backlog_records"] == 0


OTHER = b"o" * 16


@pytest.mark.parametrize(
    ("new", "known", "expected"),
    [
        (moment(NOW_US, boot=OTHER), moment(NOW_US - S), True),
        (moment(NOW_US - S, boot=OTHER), moment(NOW_US), False),
        (moment(5 * S, boot=OTHER, received_us=NOW_US + 16 * S), moment(NOW_US), True),
        (moment(5 * S, boot=OTHER, received_us=NOW_US + 5 * S), moment(NOW_US), False),
        (moment(NOW_US, boot=OTHER, received_us=NOW_US + 5 * S), moment(5 * S), False),
        (moment(NOW_US - 9 * S, mono_us=2), moment(NOW_US, mono_us=1), True),
    ],
    ids=["later boot", "earlier boot", "rebooted into 1970", "backlog of 1970", "backlog of a set clock", "set back"],
)
def test_heartbeats_of_two_boots(new: Moment, known: Moment, expected: bool) -> None:
    assert follows(new, known) is expected


def test_the_clock_of_a_box_is_compared_by_the_message_that_came_quickest() -> None:
    boxes = Boxes()
    for delay_us in (900_000, 20_000, 400_000):
        boxes.clock.us += 5 * S
        boxes.say(status(boxes.clock.us + 60 * S - delay_us))
    assert boxes.row()["clock_offset_us"] == 60 * S - 20_000


def test_one_message_tells_no_offset() -> None:
    boxes = Boxes()
    boxes.say(status(NOW_US - 600 * S))
    assert boxes.row()["clock_offset_us"] is None


def test_skipped_packets_are_counted_of_late_and_from_zero_after_a_restart() -> None:
    boxes = Boxes()
    boxes.say(status(skipped=0))
    for _ in range(30):
        boxes.clock.us += 30 * S
        boxes.say(status(skipped=100))
    boxes.clock.us += 5 * S
    assert (boxes.row()["skipped"], boxes.row()["skipped_10min"]) == (100, 0)
    boxes.say(status(skipped=130))
    assert boxes.row()["skipped_10min"] == 30
    boxes.clock.us += 60 * S
    boxes.say(status(skipped=4))
    assert (boxes.row()["skipped"], boxes.row()["skipped_10min"]) == (4, 4)


def test_every_new_epoch_is_a_start() -> None:
    boxes = Boxes()
    boxes.say(status())
    boxes.say(status())
    assert boxes.row()["starts_24h"] == 1
    boxes.say(status(), epoch=b"second-start----")
    assert boxes.row()["starts_24h"] == 2
    boxes.clock.us += 25 * 3600 * S
    assert boxes.row()["starts_24h"] == 0


def test_a_broken_box_cannot_fill_every_screen() -> None:
    gateway = GatewayState("gw-1")
    huge = Status(
        NOW_US,
        "v" * 10_000,
        {f"made up {n}": 1.0 for n in range(5000)},
        {f"{n:05d}" + "d" * 500 + ".x": n for n in range(5000)},
        tuple(DeviceState("d" * 5000, "driver", True) for _ in range(1000)),
    )
    gateway.heartbeat(huge, moment(NOW_US), "s1")
    assert len(orjson.dumps(gateway.row_json(NOW_US))) < 1500
    assert len(orjson.dumps(gateway.details_json(NOW_US))) < 100_000


async def told(screen: LiveScreen) -> list[dict[str, Any]]:
    return [orjson.loads(one.payload) for one in await screen.next()]


def test_a_gauge_that_is_no_number_breaks_no_screen() -> None:
    boxes = Boxes()
    boxes.say(status(backlog=math.nan, spool_mib=math.inf, devices=2))
    assert boxes.row()["gauges"] == {"devices": 2}
    assert boxes.feed.gateway("gw-1").as_json()["backlog_records"] == 0


async def test_a_fleet_screen_is_told_all_rows_and_then_those_that_changed() -> None:
    boxes, screen = Boxes(), LiveScreen()
    boxes.feed.tick()
    boxes.feed.fleet.join(screen)
    (all_rows,) = await told(screen)
    assert [row["gateway_id"] for row in all_rows["gateways"]] == ["gw-1", "gw-2"]
    boxes.say(status())
    boxes.feed.hear(UP, frame([heart_rate(61)], 99))
    boxes.feed.tick()
    tick, changed = await told(screen)
    assert (tick["type"], tick["server_us"]) == ("tick", NOW_US)
    assert [row["gateway_id"] for row in changed["gateways"]] == ["gw-1"]
    boxes.feed.hear(UP, frame([heart_rate(62)], 100))
    boxes.feed.tick()
    assert [one["type"] for one in await told(screen)] == ["tick"]
    boxes.feed.fleet.leave(screen)
    assert boxes.feed.fleet.screens == 0


async def test_a_fleet_screen_that_lost_frames_is_told_all_rows_again() -> None:
    boxes, screen = Boxes(), LiveScreen(most_frames=1)
    boxes.feed.fleet.join(screen)
    for _ in range(3):
        boxes.feed.tick()
    assert screen.take_dropped() == {"": 4}
    (again,) = boxes.feed.fleet.make_good("", screen)
    assert len(orjson.loads(again.payload)["gateways"]) == 2


# From the store.


@pytest.fixture
def database(location: StoreLocation) -> Iterator[Database]:
    opened = Database(location)
    yield opened
    opened.close()


async def store(database: Database, *records: bytes, first_seq: int = 1, at_us: int = NOW_US) -> list[str]:
    changed: list[str] = []
    Appender(database, FakeClock(at_us)).append([Incoming(UP, frame(list(records), first_seq))])
    await fleet_consumer(database, Counters(), changed.append).catch_up()
    return changed


async def test_after_a_restart_the_newest_stored_heartbeat_is_shown(database: Database) -> None:
    newest = record(status(NOW_US, backlog=3, disk_free_mib=900), mono_us=20)
    await store(database, newest, record(status(NOW_US - S, backlog=500), mono_us=10))
    clock = FakeClock(NOW_US + 5 * S)
    for later_us, state in ((5 * S, "online"), (60 * S, "silent")):
        clock.us = NOW_US + later_us
        fleet = Fleet(clock, Counters(), ["gw-1", "gw-2"])
        await FleetKeeper(fleet, FleetReader(database), clock).fill()
        row, other = fleet.rows()
        assert (row["state"], row["gauges"]["backlog_records"], row["gauges"]["disk_free_mib"]) == (state, 3, 900)
        assert (row["last_seen_us"], row["last_receipt_us"], row["starts_24h"]) == (NOW_US, NOW_US, 1)
        assert (row["status_us"], row["clock_offset_us"]) == (NOW_US, None)
        assert other["state"] == "never"


async def test_a_box_no_longer_configured_is_not_brought_back_from_the_store(database: Database) -> None:
    await store(database, record(status()))
    fleet = Fleet(FakeClock(), Counters(), ["gw-2"])
    await FleetKeeper(fleet, FleetReader(database), FakeClock()).fill()
    assert [row["gateway_id"] for row in fleet.rows()] == ["gw-2"]


async def test_a_box_stored_without_its_clock_is_shown_with_it(database: Database) -> None:
    await store(database, record(status(7 * S)))
    fleet = Fleet(FakeClock(), Counters(), ["gw-1"])
    await FleetKeeper(fleet, FleetReader(database), FakeClock()).fill()
    assert fleet.rows()[0]["status_us"] == 7 * S


async def test_gaps_are_counted_with_the_records_they_name(database: Database) -> None:
    def gap(first: int, last: int) -> bytes:
        return record(Gap(GapReason.OVERFLOW, NOW_US - S, NOW_US, EPOCH, "bulk", first, last))

    stream = record(Gap(GapReason.LINK, NOW_US - S, NOW_US, stream="ecg", first_index=5, last_index=9))
    assert await store(database, gap(1, 10), stream) == ["gw-1"]
    assert await store(database, gap(20, 20), first_seq=3, at_us=NOW_US + S) == ["gw-1"]
    stored = FleetReader(database).gateway("gw-1")
    assert stored is not None
    assert (stored.gaps, stored.lost_records, stored.last_gap_us, stored.moment) == (3, 11, NOW_US + S, None)
    await store(database, record(status()), first_seq=4)
    again = FleetReader(database).gateway("gw-1")
    assert again is not None
    assert (again.gaps, again.moment is not None) == (3, True)


async def test_the_backlog_of_the_last_heartbeats_comes_in_the_order_of_the_boxs_clock(database: Database) -> None:
    newer = status(NOW_US + 5 * S, backlog_urgent=0, backlog_routine=0, backlog_bulk=0)
    older = status(NOW_US, backlog_urgent=1, backlog_routine=20, backlog_bulk=300, oldest_bulk_s=40, oldest_urgent_s=2)
    await store(database, record(newer), record(older))
    assert [tuple(one) for one in FleetReader(database).backlogs("gw-1", "s1", 10)] == [
        (NOW_US, 1, 20, 300, 40.0),
        (NOW_US + 5 * S, 0, 0, 0, 0.0),
    ]
    assert len(FleetReader(database).backlogs("gw-1", "s1", 1)) == 1
    assert FleetReader(database).backlogs("gw-2", "s1", 10) == []

"""The windows behind a backlog: filled from the store, not value by value from the bus."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import sentinel

from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.feed_keeper import FeedKeeper
from cloud.live_screen import LiveScreen
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from tests.cloud.cloud_frames import BOOT, NOW_US, FakeClock, frame, heart_rate, record
from tests.cloud.test_live_screen import SESSION
from wire.clock import ClockAnchor
from wire.messages import Lane
from wire.readings import SessionEvent, SessionKind, SessionPhase

UP = "vw.1.gw-1.up.routine"
S = 1_000_000


def anchor(mono_us: int) -> ClockAnchor:
    return ClockAnchor(BOOT, mono_us, NOW_US, 1000, True)


def test_a_busy_boxs_large_batch_is_heard_at_once() -> None:
    feed = Feed(FakeClock(), Counters())
    feed.put_session(SESSION, [])
    for number in range(2):
        values = [heart_rate(60 + number, NOW_US + 100 * number + n) for n in range(50)]
        feed.hear(UP, frame(values, 1 + 50 * number, anchors=(anchor(number * S),)))
    (snapshot, *_) = feed.snapshot("s1", LiveScreen())
    assert (str(snapshot.payload).count("60.0"), str(snapshot.payload).count("61.0")) == (50, 50)


async def test_a_backlog_is_shown_once_it_is_stored_and_no_screen_hears_it_value_by_value(tmp_path: Path) -> None:
    database, clock, counters = Database(tmp_path / "store.sqlite"), FakeClock(), Counters()
    feed, appender = Feed(clock, counters), Appender(database, clock)
    # No message of this test comes by a bus.
    keeper = FeedKeeper(feed, StoreReader(database), sentinel.bus, clock)
    opening = record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, label="A-01"))
    appender.append([Incoming(UP, frame([opening], lane=Lane.URGENT))])
    await boards_consumer(database, counters, lambda _session: None).catch_up()
    feed.put_session(await asyncio.to_thread(StoreReader(database).session, "s1"), [])
    now = frame([heart_rate(80, NOW_US)], 1000, anchors=(anchor(3600 * S),))
    past = frame([heart_rate(50, NOW_US - ago_s * S) for ago_s in range(60, 0, -1)], anchors=(anchor(3500 * S),))

    screen = LiveScreen()
    feed.join(screen)
    await screen.next()
    for payload in (now, past):
        feed.hear(UP, payload)
        feed.stored(appender.append([Incoming(UP, payload)]))
    told = [str(one.payload) for one in await screen.next()]
    assert [message.split('"')[3] for message in told] == ["gateway", "numeric"]

    await keeper.refill()
    for _ in range(5):
        feed.tick()
    snapshot = next(str(one.payload) for one in await screen.next() if '"snapshot"' in str(one.payload))
    assert snapshot.count("50.0") == 60
    assert feed.take_behind() == []
    database.close()

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from fastapi import WebSocket

from cloud.api.live import _serve
from cloud.bus.bus import Bus
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.feed_keeper import FeedKeeper
from cloud.live_screen import Frame, LiveScreen
from cloud.store.alerts import StoredAlert
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.reader import StoredSession, StoreReader
from tests.cloud.cloud_frames import BOOT, NOW_US, FakeClock, frame, heart_rate, record, wave
from wire.clock import ClockAnchor
from wire.messages import Lane, Presence, encode_frame
from wire.readings import Alert, AlertKind, AlertPhase, Priority, SessionEvent, SessionKind, SessionPhase, Status

UP = "vw.1.gw-1.up.x"
SESSION = StoredSession("s1", "gw-1", "mission", "Ambulance 1", 2, NOW_US, None, NOW_US)


def feed_of_one() -> tuple[Feed, FakeClock, Counters]:
    clock, counters = FakeClock(), Counters()
    feed = Feed(clock, counters)
    feed.put_session(SESSION, [])
    return feed, clock, counters


async def kinds(screen: LiveScreen) -> list[str]:
    words = []
    for one in await screen.next():
        words.append("wave" if isinstance(one.payload, bytes) else one.payload.split('"')[3])
    return words


async def test_a_slow_screen_loses_its_oldest_frames_and_no_other_does() -> None:
    feed, _, counters = feed_of_one()
    slow, quick = LiveScreen(most_frames=3), LiveScreen()
    feed.join(slow)
    feed.join(quick)
    for seq in range(1, 11):
        feed.hear(UP, frame([heart_rate(60, NOW_US + seq)], seq))
    assert slow.take_dropped().keys() == {"", "s1"}  # the gateway's coming online, and the session's frames
    assert counters["live_frames_dropped"] == 9
    assert [one.payload for one in await slow.next()] == [one.payload for one in await quick.next()][-3:]
    assert quick.take_dropped() == {}


async def test_dropped_counts_add_up_for_the_next_snapshot() -> None:
    feed, _, _ = feed_of_one()
    screen = LiveScreen(most_frames=1)
    for _ in range(3):
        screen.offer(Frame("s1", "x"))
    screen.take_dropped()
    (snapshot, *_) = feed.snapshot("s1", screen)
    assert '"dropped":2' in str(snapshot.payload)


async def test_a_block_heard_twice_is_told_once() -> None:
    feed, _, _ = feed_of_one()
    screen = LiveScreen()
    feed.join(screen)
    for _ in range(2):
        feed.hear(UP, frame([wave(0)], 1, lane=Lane.BULK))
    assert await kinds(screen) == ["snapshot", "gateway", "wave"]


async def test_a_block_from_long_ago_is_not_drawn() -> None:
    feed, _, _ = feed_of_one()
    screen = LiveScreen()
    feed.hear(UP, frame([wave(10_000, NOW_US)], 1, lane=Lane.BULK))
    feed.join(screen)
    feed.hear(UP, frame([wave(0, NOW_US - 20_000_000)], 2, lane=Lane.BULK))
    assert await kinds(screen) == ["snapshot", "wave"]


async def test_readings_without_a_clock_are_not_shown() -> None:
    feed, _, _ = feed_of_one()
    screen = LiveScreen()
    feed.hear(UP, frame([heart_rate(60, 7_000_000), wave(0, 7_000_000)], 1))
    feed.join(screen)
    assert await kinds(screen) == ["snapshot"]


async def test_a_backlog_comes_as_one_snapshot() -> None:
    feed, _, _ = feed_of_one()
    feed.hear(UP, frame([heart_rate(60, NOW_US)], 100))
    screen = LiveScreen()
    feed.join(screen)
    await screen.next()
    for seq in range(1, 50):
        feed.hear(UP, frame([heart_rate(60, NOW_US - seq)], seq))
    for _ in range(5):
        feed.tick()
    assert await kinds(screen) == ["tick"] * 5 + ["snapshot"]


async def test_silence_of_15_s_is_offline_and_any_word_is_life() -> None:
    feed, clock, _ = feed_of_one()
    feed.hear("vw.1.gw-1.status", encode_frame(Presence(True, "0.1", NOW_US)))
    assert feed.gateway("gw-1").as_json()["online"] is True
    clock.us += 15_000_001
    feed.tick()
    assert feed.gateway("gw-1").as_json()["online"] is False
    feed.hear(UP, frame([record(Status(NOW_US, "0.2", {}, {}))], 1))
    assert feed.gateway("gw-1").as_json()["online"] is True
    feed.hear("vw.1.gw-1.status", encode_frame(Presence(False, "0.2", NOW_US)))
    assert feed.gateway("gw-1").as_json()["online"] is False


async def test_garbage_on_the_bus_is_counted() -> None:
    feed, _, counters = feed_of_one()
    feed.hear(UP, b"\x01\x00garbage")
    feed.hear("vw.1.gw-1.status", b"")
    assert counters["live_frames_unread"] == 2


async def test_a_closed_session_is_told_and_forgotten() -> None:
    feed, _, _ = feed_of_one()
    screen = LiveScreen()
    feed.join(screen)
    await screen.next()
    feed.put_session(SESSION._replace(closed_us=NOW_US + 1), [])
    assert await kinds(screen) == ["session"]
    assert feed.snapshot("s1", screen) == []


async def test_a_screen_that_lost_frames_learns_of_closed_sessions_and_every_gateway() -> None:
    feed, _, _ = feed_of_one()
    for gateway in ("gw-1", "gw-2"):
        feed.hear(f"vw.1.{gateway}.status", encode_frame(Presence(True, "0.1", NOW_US)))
    sent: list[str] = []

    class Socket:
        async def send_text(self, payload: str) -> None:
            sent.append(payload)

    screen = LiveScreen(most_frames=1)
    feed.join(screen)
    feed.tick()
    feed.put_session(SESSION._replace(closed_us=NOW_US + 1), [])
    feed.tick()
    serving = asyncio.create_task(_serve(cast(WebSocket, Socket()), feed, screen))
    await asyncio.sleep(0.05)
    serving.cancel()
    await asyncio.wait([serving])
    assert any('"type":"session"' in one and f'"closed_us":{NOW_US + 1}' in one for one in sent)
    gateways = [one for one in sent if '"type":"gateway"' in one]
    assert ["gw-1" in one for one in gateways] == [True, False]


async def test_simulated_data_marks_a_session_at_once_and_for_good() -> None:
    feed, screen = Feed(FakeClock(), Counters()), LiveScreen()
    feed.put_session(SESSION._replace(origin=0), [])
    feed.join(screen)
    await screen.next()
    feed.hear(UP, frame([heart_rate(60)], 1))
    assert await kinds(screen) == ["gateway", "session", "numeric"]
    feed.put_session(SESSION._replace(origin=0, label="renamed"), [])
    (told,) = await screen.next()
    assert '"origin":2' in str(told.payload)


async def test_what_was_heard_before_the_opening_marks_a_session() -> None:
    feed, screen = Feed(FakeClock(), Counters()), LiveScreen()
    feed.hear(UP, frame([heart_rate(60)], 1))
    feed.put_session(SESSION._replace(origin=0), [])
    assert '"origin":2' in str(feed.snapshot("s1", screen)[0].payload)


async def test_another_gateway_cannot_write_into_a_session() -> None:
    screen, counters = LiveScreen(), Counters()
    feed = Feed(FakeClock(), counters)
    feed.hear("vw.1.gw-2.up.x", frame([heart_rate(30)], 1))
    feed.put_session(SESSION, [])
    feed.hear("vw.1.gw-2.up.x", frame([heart_rate(31), wave(0)], 2))
    assert '"numerics":{}' in str(feed.snapshot("s1", screen)[0].payload)
    assert counters["live_records_foreign"] == 2


async def test_an_alert_too_old_to_be_read_does_not_stay_on_screens() -> None:
    feed, _, _ = feed_of_one()
    raised = Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, NOW_US, NOW_US)
    feed.put_session(SESSION, [StoredAlert("gw-1", "s1", False, raised)])
    screen = LiveScreen()
    feed.join(screen)
    await screen.next()
    feed.put_session(SESSION, [])
    (told,) = await screen.next()
    assert '"alerts":[]' in str(told.payload)


async def test_an_alert_is_told_again_when_its_boot_is_placed(tmp_path: Path) -> None:
    database, (feed, clock, _) = Database(tmp_path / "store.sqlite"), feed_of_one()
    appender, boards = Appender(database, clock), boards_consumer(database, Counters(), lambda session_id: None)
    keeper = FeedKeeper(feed, StoreReader(database), cast(Bus, None), clock)
    opened = SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US)
    raised = Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, AlertPhase.RAISED, 12_000_000, 12_000_000)
    unset, known = ClockAnchor(BOOT, 10_000_000, 11_000_000, 0, False), ClockAnchor(BOOT, 60_000_000, NOW_US, 0, True)
    waiting = frame([record(opened), record(raised)], anchors=(unset,))
    keeper.stored(appender.append([Incoming(UP, waiting)]))
    await boards.catch_up()
    screen, telling = LiveScreen(), asyncio.create_task(keeper.run())
    feed.join(screen)
    try:
        keeper.changed("s1")
        while '"placed":false' not in "".join(str(one.payload) for one in await screen.next()):
            pass
        keeper.stored(appender.append([Incoming(UP, frame([heart_rate(60)], 3, anchors=(known,)))]))
        while f'"onset_us":{NOW_US - 49_000_000}' not in "".join(str(one.payload) for one in await screen.next()):
            pass
    finally:
        telling.cancel()
        await asyncio.wait([telling])
        database.close()

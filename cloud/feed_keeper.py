"""Keeps the feed fed: from the store at the start and behind a backlog, from the bus while it runs, from the boards
after each commit."""

from __future__ import annotations

import asyncio
import logging

from cloud.bus.bus import Bus
from cloud.feed import CLEARED_SHOWN_US, Feed
from cloud.store.alerts import StoredAlert
from cloud.store.append import Appended
from cloud.store.database import StoreUnavailable
from cloud.store.reader import StoredSession, StoreReader, UnknownSession
from cloud.window import TREND_US, WAVE_US
from wire.clock import MICROSECONDS, Clock
from wire.messages import decode_body
from wire.readings import DeviceEvent, Numeric, Quality
from wire.vocabulary import Metric

_log = logging.getLogger(__name__)

_TICK_S = 1.0
# While a backlog drains, what it adds to the last minutes of a session is looked up this often.
_REFILL_S = 5.0
# Values put into a window before anybody else gets his turn: about a millisecond.
_AT_A_TIME = 100
# At start: every box has one open session, so that this is many times the boxes of a cloud.
_MOST_SESSIONS = 20_000
# Of so many the windows are filled before screens are served; those of the rest follow.
_FILLED_FIRST = 500
# A reading further ahead than this is of a wrong clock (cloud/window.py), and no measure of what is recent.
_AHEAD_US = 60 * MICROSECONDS
_MOST_NUMERICS = 50_000
_MOST_BLOCKS = 500
_MOST_EVENTS = 50
_MOST_ALERTS = 200


class FeedKeeper:
    """Owns the tasks around a feed."""

    def __init__(self, feed: Feed, reader: StoreReader, bus: Bus, clock: Clock) -> None:
        self._feed, self._reader, self._bus, self._clock = feed, reader, bus, clock
        # Bounded by the number of sessions; full policy: a session waits once, however often it changed.
        self._changed: dict[str, None] = {}
        self._woken = asyncio.Event()
        # What is read first is put first: an alert just told must not vanish by an older answer of the store.
        self._putting = asyncio.Lock()

    def changed(self, session_id: str) -> None:
        """The boards of a session changed."""
        self._changed[session_id] = None
        self._woken.set()

    def stored(self, appended: Appended) -> None:
        """A group is committed. With a placement in it, what a box said without a clock has its place from now on."""
        self._feed.stored(appended)
        if appended.counts.get("boots_placed"):
            for session_id in appended.sessions:
                self.changed(session_id)

    async def fill(self) -> None:
        """Shows what is stored of every open session, so that a restart does not empty the screens."""
        # Listening first: a reading that arrives meanwhile is then seen twice, not missed.
        await self._bus.listen(self._feed.hear)
        sessions = await asyncio.to_thread(self._reader.sessions, most=_MOST_SESSIONS, open_only=True)
        if len(sessions) == _MOST_SESSIONS:
            _log.error("%d sessions are open, the oldest of them are on no screen", _MOST_SESSIONS)
        for number, session in enumerate(sessions):
            await self._put(session.session_id)
            if number < _FILLED_FIRST:
                await self._fill_window(session)
            else:
                self._feed.behind(session.gateway)

    async def run(self) -> None:
        """Ticks and tells changes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="feed-tick")
            tasks.create_task(self._tell_changes(), name="feed-changes")
            tasks.create_task(self._keep_filled(), name="feed-refill")

    async def _tick(self) -> None:
        while True:
            self._feed.tick()
            await asyncio.sleep(_TICK_S)

    async def _keep_filled(self) -> None:
        while True:
            await asyncio.sleep(_REFILL_S)
            await self.refill()

    async def refill(self) -> None:
        """Takes into the windows what was stored of backlogs since the last call."""
        for session_id, gateway in self._feed.take_behind():
            try:
                await self._fill_window(await self._put(session_id))
            except StoreUnavailable as error:
                _log.warning("feed: %s; session %s is filled later", error, session_id)
                self._feed.behind(gateway)

    async def _tell_changes(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._changed:
                session_id = next(iter(self._changed))
                del self._changed[session_id]
                try:
                    await self._put(session_id)
                except UnknownSession:
                    _log.info("an alert belongs to session %s, which was never opened", session_id)
                except StoreUnavailable as error:
                    _log.warning("feed: %s; session %s is told again", error, session_id)
                    self._changed[session_id] = None
                    await asyncio.sleep(_TICK_S)

    async def _put(self, session_id: str) -> StoredSession:
        """Shows a session and its alerts as they are stored now. Raises UnknownSession, StoreUnavailable."""
        async with self._putting:
            session = await asyncio.to_thread(self._reader.session, session_id)
            self._feed.put_session(session, await self._alerts(session_id))
        return session

    async def _alerts(self, session_id: str) -> list[StoredAlert]:
        since_us = self._clock.now_us() - CLEARED_SHOWN_US
        return await asyncio.to_thread(
            lambda: self._reader.alerts(session_id=session_id, cleared_since_us=since_us, most=_MOST_ALERTS)
        )

    async def _fill_window(self, session: StoredSession) -> None:
        session_id = session.session_id
        to_us = self._clock.now_us() + _AHEAD_US
        newest_us = await asyncio.to_thread(lambda: self._reader.newest_us(session_id, to_us=to_us))
        since_us = newest_us - TREND_US
        numerics = await asyncio.to_thread(
            lambda: self._reader.numerics(session_id, from_us=since_us, to_us=newest_us, most=_MOST_NUMERICS)
        )
        for number, each in enumerate(numerics):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
            value = float("nan") if each.value is None else each.value
            numeric = Numeric(Metric(each.metric), value, each.time_us, quality=Quality(each.quality))
            self._feed.add_numeric(session.gateway, session_id, each.device_id, numeric)
        blocks = await asyncio.to_thread(
            lambda: self._reader.recent_blocks(session_id, since_us=newest_us - WAVE_US, most=_MOST_BLOCKS)
        )
        for block in blocks:
            self._feed.add_wave(session.gateway, session_id, block.stream, block.quality, block.data)
        entries = await asyncio.to_thread(self._reader.recent_entries, session_id, "event", _MOST_EVENTS)
        for entry in entries:
            body = decode_body(entry.body)
            assert isinstance(body, DeviceEvent)
            self._feed.add_event(session.gateway, session_id, entry.device_id, body)

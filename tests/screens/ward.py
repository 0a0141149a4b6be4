"""A hospital's ER clinician and the region's auditor, with patients of two hospitals, before a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Locator

from cloud.access_config import AccessConfig, AccessMode, Unrouted
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.passwords import hash_password
from cloud.store import accounts, break_glass
from cloud.store.append import Appender, Incoming
from cloud.store.break_glass import Grant
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from tests.cloud.api.apps import PASSWORD, build, person
from tests.cloud.cloud_frames import FakeClock, frame, record
from tests.screens.served import House, served
from wire.clock import SystemClock
from wire.messages import Lane
from wire.readings import SessionEvent, SessionKind, SessionPhase

MINUTE_US = 60_000_000
LABELS = {"s1": "AMB-01", "s2": "AMB-02", "s3": "Mrs Li, Lane 4"}


class ShiftedClock(SystemClock):
    """Goes on as clocks do, from where a test puts it."""

    shift_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.shift_us


@dataclass
class Ward:
    """A house with three sessions: s1 is routed to H1, s2 to H2, s3 is a home routed nowhere."""

    house: House
    clock: ShiftedClock

    def enter(self, name: str, path: str = "/sign-in", query: str = "?lang=en") -> None:
        self.house.page.goto(self.house.url + path + query)
        self.house.type_in(name)

    def see(self, test_id: str) -> Locator:
        return self.house.page.get_by_test_id(test_id)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.house.page.keyboard.press(key)

    def answers(self, path: str, status: int, *, method: str) -> None:
        """From now on the server answers so; with 0 not at all."""

        def answer(route: Any) -> None:
            if route.request.method != method:
                route.continue_()
            elif status == 0:
                route.abort()
            else:
                route.fulfill(status=status, json={"error": "so it is"})

        self.house.page.unroute(path)
        self.house.page.route(path, answer)

    def grant(self, grant_id: str, account: str, session_id: str, reason: str) -> None:
        now_us = self.clock.now_us()
        made = Grant(grant_id, account, "H1", session_id, reason, now_us - MINUTE_US, now_us + 59 * MINUTE_US)
        self.house.database.transaction(lambda connection: break_glass.add(connection, made))


@pytest.fixture
def ward(browser: Browser, tmp_path: Path) -> Iterator[Ward]:
    database, hashed, clock = Database(tmp_path / "store.sqlite"), hash_password(PASSWORD), ShiftedClock()
    people = (
        person("wang", "er_clinician", "H1", hashed),
        person("chen", "er_clinician", "H2", hashed),
        person("audi", "auditor", "", hashed),
    )
    for account in people:
        database.transaction(lambda connection, account=account: accounts.add(connection, account))
    opened_us = clock.now_us() - 5 * MINUTE_US
    kinds = {"s3": SessionKind.HOME}
    steps = [
        SessionEvent(name, kinds.get(name, SessionKind.MISSION), SessionPhase.OPENED, opened_us, label)
        for name, label in LABELS.items()
    ]
    batch = frame([record(step, session_id=step.session_id) for step in steps], 1, lane=Lane.URGENT)
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", batch)])

    async def make() -> FastAPI:
        await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
        feed = Feed(clock, Counters())
        config = AccessConfig(mode=AccessMode.ACCOUNTS, unrouted=Unrouted.NONE)
        app = build(database, config, clock=clock, feed=feed)  # type: ignore[arg-type]
        for number in (1, 2):
            await app.state.reach.route(f"s{number}", f"H{number}", is_routed=True, routed_by="test")
        for session in StoreReader(database).sessions(most=9):
            feed.put_session(session, [])
        return app

    with served(browser, database, make) as house:
        yield Ward(house, clock)
    database.close()

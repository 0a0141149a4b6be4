"""A real browser looking at a real live channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bench.screen import CHROMIUM_FLAGS, FeedPatient, LiveFeed, chromium_path
from wire.clock import SystemClock


@dataclass
class Room:
    """The emergency room of one test: its feed, the first patient on it and the page that shows them."""

    feed: LiveFeed
    patient: FeedPatient
    page: Page
    errors: list[str]

    def open(self, query: str = "?lang=en") -> None:
        """Starts the feed as the test has set it up, loads the ER screen, waits until the patient is on the stage."""
        self.feed.start()
        self.page.goto(self.feed.url + query)
        self.page.get_by_test_id("patient-panel").first.wait_for()

    def now_index(self) -> int:
        """Index of the sample the first patient's device takes just now."""
        return int((self.patient.clock.now_us() - self.patient.epoch_us) / 1e6 * self.patient.rate_hz)

    def lead(self, name: str) -> dict[str, Any]:
        """What the screen says it drew of one lead of the first patient."""
        leads = self.page.evaluate("(id) => window.vitalwire.stats().sessions[id]", self.patient.session_id)
        found: dict[str, Any] = leads[name]
        return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    if path is None:
        pytest.skip("no browser: apt-get install chromium, or set VITALWIRE_CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def room(browser: Browser) -> Iterator[Room]:
    clock = SystemClock()
    patient = FeedPatient(0, "A-01", clock, leads=("I", "II", "V2"), rate_hz=250)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    feed = LiveFeed([patient], clock)
    yield Room(feed, patient, page, errors)
    page.close()
    feed.stop()

"""A cloud without a broker, served as the real one is, to be looked at by a browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect

from cloud.api.hasty import Doorway
from cloud.api.server import ApiServer, listen
from cloud.config import ApiConfig
from cloud.counters import Counters
from cloud.store import accounts
from cloud.store.database import Database
from tests.cloud.api.apps import PASSWORD
from vitalwire.stage import free_port


@dataclass
class House:
    """A served cloud and a browser before its door."""

    url: str
    database: Database
    page: Page
    errors: list[str]

    def disable(self, name: str) -> None:
        self.database.transaction(lambda connection: accounts.change(connection, name, 1, is_disabled=1))

    def type_in(self, name: str, password: str = PASSWORD) -> None:
        """By keyboard alone: the first field has the focus already."""
        keyboard = self.page.keyboard
        expect(self.page.get_by_test_id("sign-in-name")).to_be_focused()
        keyboard.type(name)
        keyboard.press("Tab")
        keyboard.type(password)
        keyboard.press("Enter")


@contextmanager
def served(browser: Browser, database: Database, make: Callable[[], Awaitable[FastAPI]]) -> Iterator[House]:
    """Serves what `make` builds, in a thread with a loop of its own, and opens a page."""
    config = ApiConfig(listen=f"127.0.0.1:{free_port()}")
    started, stopping = threading.Event(), []

    async def serve() -> None:
        app = await make()
        running = asyncio.ensure_future(ApiServer(app, config, listen(config), Doorway(Counters())).run())
        looking = asyncio.ensure_future(app.state.access.sign_ins.run())
        stopping.append((asyncio.get_running_loop(), running))
        started.set()
        await asyncio.wait([running])
        looking.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(10)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    yield House(f"http://{config.listen}", database, page, errors)
    page.close()
    loop, running = stopping[0]
    loop.call_soon_threadsafe(running.cancel)
    thread.join(10)

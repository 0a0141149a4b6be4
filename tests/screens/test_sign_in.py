"""Signing in as a person does it: by keyboard, in both languages, back to the screen they came from, and out again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.hasty import Doorway
from cloud.api.server import ApiServer, listen
from cloud.config import ApiConfig
from cloud.counters import Counters
from cloud.passwords import hash_password
from cloud.store import accounts
from cloud.store.database import Database
from tests.cloud.api.apps import PASSWORD, build, person
from vitalwire.stage import free_port
from wire.clock import SystemClock

pytestmark = pytest.mark.timeout(60)


@dataclass
class House:
    """A served cloud without a broker, and a browser before its door."""

    url: str
    database: Database
    page: Page
    errors: list[str]

    def disable(self, name: str) -> None:
        self.database.transaction(lambda connection: accounts.change(connection, name, 1, is_disabled=1))

    def type_in(self, name: str, password: str) -> None:
        """By keyboard alone: the first field has the focus already."""
        keyboard = self.page.keyboard
        expect(self.page.get_by_test_id("sign-in-name")).to_be_focused()
        keyboard.type(name)
        keyboard.press("Tab")
        keyboard.type(password)
        keyboard.press("Enter")


@pytest.fixture
def house(browser: Browser, tmp_path: Path) -> Iterator[House]:
    database, hashed = Database(tmp_path / "store.sqlite"), hash_password(PASSWORD)
    for account in (person("wang", "er_clinician", "H1", hashed), person("ops", "operator", "", hashed)):
        database.transaction(lambda connection, account=account: accounts.add(connection, account))
    database.transaction(lambda connection: accounts.add(connection, person("crew", "crew", "", hashed)))
    config = ApiConfig(listen=f"127.0.0.1:{free_port()}")
    started, stopping = threading.Event(), []

    async def serve() -> None:
        app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=SystemClock())  # type: ignore[arg-type]
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
    database.close()


def test_who_is_not_signed_in_is_sent_to_sign_in_and_comes_back(house: House) -> None:
    page = house.page
    page.goto(f"{house.url}/er?lang=en&view=wall")
    page.wait_for_url("**/sign-in?next=**")
    house.type_in("wang", PASSWORD)
    page.wait_for_url("**/er?lang=en&view=wall")
    expect(page.get_by_test_id("signed-in")).to_have_text("Wang")
    expect(page.get_by_test_id("auto-sign-in")).to_be_hidden()
    page.get_by_test_id("sign-out").click()
    page.wait_for_url("**/sign-in?next=**")
    page.goto(f"{house.url}/er")
    page.wait_for_url("**/sign-in?next=**")
    assert house.errors == []


def test_what_is_wrong_is_said_in_words_in_both_languages(house: House) -> None:
    page, problem = house.page, house.page.get_by_test_id("sign-in-problem")
    page.goto(f"{house.url}/sign-in?lang=en")
    house.type_in("wang", "not the password")
    expect(problem).to_have_text("Name or password is wrong.")
    expect(problem).to_have_attribute("role", "alert")
    expect(page.get_by_test_id("sign-in-password")).to_be_focused()
    expect(page.get_by_test_id("sign-in-name")).to_have_value("wang")
    page.get_by_test_id("language-switch").click()
    expect(problem).to_have_text("用户名或密码错误。")
    expect(page.get_by_label("密码")).to_be_visible()
    limited = {"status": 429, "headers": {"Retry-After": "64"}, "json": {"error": "too many attempts"}}
    page.route("**/api/v1/sign-in", lambda route: route.fulfill(**limited))
    page.get_by_test_id("sign-in-password").fill("not the password")
    page.keyboard.press("Enter")
    expect(problem).to_have_text("尝试次数过多:请在 64 秒后重试。")


def test_an_address_made_by_a_stranger_leads_nowhere_else(house: House) -> None:
    for asked in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/sign-in"):
        house.page.context.clear_cookies()
        house.page.goto(f"{house.url}/sign-in?lang=en&next={asked}")
        house.type_in("ops", PASSWORD)
        house.page.wait_for_url("**/fleet")
    expect(house.page.get_by_test_id("signed-in")).to_have_text("Ops")


def test_a_role_without_a_screen_is_told_and_may_leave(house: House) -> None:
    house.page.goto(f"{house.url}/sign-in?lang=en")
    house.type_in("crew", PASSWORD)
    expect(house.page.get_by_role("main")).to_contain_text("your role has no screen here yet")
    house.page.get_by_test_id("sign-out").click()
    expect(house.page.get_by_test_id("sign-in-name")).to_be_focused()


def test_an_open_screen_goes_dark_when_its_account_is_disabled(house: House) -> None:
    house.page.goto(f"{house.url}/er?lang=en")
    house.page.wait_for_url("**/sign-in?next=**")
    house.type_in("wang", PASSWORD)
    expect(house.page.get_by_test_id("signed-in")).to_have_text("Wang")
    house.disable("wang")
    house.page.wait_for_url("**/sign-in?next=**")


def test_the_page_looks_as_it_should(house: House, tmp_path: Path) -> None:
    house.page.goto(f"{house.url}/sign-in?lang=zh")
    house.type_in("wang", "not the password")
    expect(house.page.get_by_test_id("sign-in-problem")).not_to_be_empty()
    assert len(house.page.screenshot(path=tmp_path / "sign_in.png")) > 10_000
    assert house.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    house.page.set_viewport_size({"width": 320, "height": 640})
    assert house.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

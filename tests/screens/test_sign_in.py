"""Signing in as a person does it: by keyboard, in both languages, back to the screen they came from, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from cloud.access_config import AccessConfig, AccessMode
from cloud.passwords import hash_password
from cloud.store import accounts
from cloud.store.database import Database
from tests.cloud.api.apps import PASSWORD, build, person
from tests.screens.served import House, served
from wire.clock import SystemClock

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def house(browser: Browser, tmp_path: Path) -> Iterator[House]:
    database, hashed = Database(tmp_path / "store.sqlite"), hash_password(PASSWORD)
    for account in (person("wang", "er_clinician", "H1", hashed), person("ops", "operator", "", hashed)):
        database.transaction(lambda connection, account=account: accounts.add(connection, account))
    database.transaction(lambda connection: accounts.add(connection, person("crew", "crew", "", hashed)))

    async def make() -> FastAPI:
        return build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=SystemClock())  # type: ignore[arg-type]

    with served(browser, database, make) as house:
        yield house
    database.close()


def test_who_is_not_signed_in_is_sent_to_sign_in_and_comes_back(house: House) -> None:
    page = house.page
    page.goto(f"{house.url}/er?lang=en&view=wall")
    page.wait_for_url("**/sign-in?next=**")
    house.type_in("wang", PASSWORD)
    page.wait_for_url("**/er?lang=en&view=wall")
    expect(page.get_by_test_id("signed-in")).to_have_text("Wang")
    expect(page.get_by_text("No patient is routed to H1")).to_be_visible()
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


def test_a_server_that_does_not_know_yet_who_is_here_is_asked_again(house: House) -> None:
    page, problem = house.page, house.page.get_by_test_id("sign-in-problem")
    page.route("**/api/v1/me", lambda route: route.fulfill(status=503, json={"error": "the store does not answer"}))
    page.goto(f"{house.url}/sign-in?lang=zh&next=/er")
    expect(problem).to_have_text("服务器无响应,正在重试…")
    page.unroute("**/api/v1/me")
    expect(problem).to_be_empty()
    house.type_in("wang", PASSWORD)
    page.wait_for_url("**/er")
    assert house.errors == []


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


def test_a_role_that_may_see_no_patient_is_told_so_and_where_to_go(house: House, tmp_path: Path) -> None:
    page, said = house.page, house.page.get_by_test_id("refusal")
    joins: list[str] = []
    page.on("websocket", lambda socket: joins.append(socket.url) if socket.url.endswith("/api/v1/live") else None)
    page.goto(f"{house.url}/sign-in?lang=zh&next=/er")
    house.type_in("ops", PASSWORD)
    expect(said).to_contain_text("您的角色无权查看患者 / Your role may not see patients")
    expect(said).to_contain_text("当前登录:Ops(运维)。")
    expect(page.get_by_test_id("alarm-band")).to_have_count(0)  # nothing that could be read as "no alarm"
    page.get_by_test_id("language-switch").click()
    expect(said).to_contain_text("You are signed in as Ops (operator).")
    assert len(page.screenshot(path=tmp_path / "refusal.png")) > 10_000
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 800})
    before = len(joins)
    page.evaluate("window.dispatchEvent(new Event('online'))")
    page.get_by_test_id("own-screen").click()
    page.wait_for_url("**/fleet")
    assert len(joins) == before > 0
    page.goto(f"{house.url}/er?lang=en")
    page.get_by_test_id("other-account").click()
    page.wait_for_url("**/sign-in?next=**")
    house.type_in("crew", PASSWORD)
    expect(said).to_contain_text("You are signed in as Crew (crew).")
    expect(page.get_by_test_id("own-screen")).to_have_count(0)
    assert house.errors == []


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

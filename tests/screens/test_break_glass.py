"""Break-glass as a clinician meets it: by keyboard, refused in words, marked while it lasts."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.cloud.api.apps import audited
from tests.screens.conftest import Room
from tests.screens.ward import MINUTE_US, Ward, ward

__all__ = ["ward"]
pytestmark = pytest.mark.timeout(60)

REASON = "arrest in the lobby, crew called"
CODES = (
    (401, "Your sign-in has ended: sign in again.", "登录已失效,请重新登录。"),
    (403, "Only an ER clinician who has signed in by name may do this.", "仅限以本人账号登录的急诊医护人员。"),
    (409, "It has changed meanwhile: close this, look again.", "情况已变化,请关闭后重新查看。"),
    (422, "The server did not accept what was written", "服务器未接受所填内容"),
    (503, "The server cannot store it just now: nothing was done.", "服务器暂时无法保存,操作未执行。"),
    (0, "No answer from the server", "服务器无响应"),
)


def test_a_patient_routed_elsewhere_is_opened_by_keyboard_and_marked_while_it_lasts(ward: Ward) -> None:
    page = ward.house.page
    ward.enter("wang")
    cards = ward.see("patient-card")
    expect(cards).to_have_count(1)
    ward.see("break-glass").focus()
    ward.press("Enter")
    options = ward.see("break-glass-dialog").get_by_role("radio")
    expect(options.first).to_be_focused()
    ward.press("Escape")
    expect(ward.see("break-glass-dialog")).to_have_count(0)
    expect(ward.see("break-glass")).to_be_focused()
    ward.press("Enter")
    expect(options).to_have_count(2)
    expect(ward.see("break-glass-dialog")).not_to_contain_text("Li")
    expect(ward.see("break-glass-dialog")).to_contain_text("label withheld")
    expect(ward.see("break-glass-warning")).to_contain_text("another person will review it. It ends after 60 minutes.")
    ward.press("Enter")
    expect(ward.see("break-glass-problem")).to_have_text("Choose a patient.")
    page.get_by_role("radio", name="AMB-02").focus()
    ward.press("Space", "Tab")
    page.keyboard.type("1 arrest")
    expect(ward.see("break-glass-reason-count")).to_have_text("2 more characters needed")
    ward.press("Tab", "Tab", "Enter")
    expect(ward.see("break-glass-problem")).to_have_text("Write at least 10 characters.")
    expect(ward.see("break-glass-reason")).to_be_focused()
    ward.press("End")
    page.keyboard.type(" in the lobby")
    ward.press("Tab", "Tab", "Enter")
    expect(ward.see("break-glass-dialog")).to_have_count(0)
    expect(ward.see("break-glass")).to_be_focused()
    expect(cards).to_have_count(2)
    panel = page.locator("[data-testid=patient-panel][data-session=s2]")
    expect(panel.get_by_test_id("panel-glass")).to_contain_text("Break-glass until ")
    (mark,) = [card for card in ward.see("card-glass").all() if card.is_visible()]
    expect(mark).to_have_text(panel.get_by_test_id("panel-glass").inner_text())
    page.reload()
    expect(page.locator("[data-session=s2]").get_by_test_id("card-glass")).to_contain_text("Break-glass until ")
    ward.clock.shift_us = 61 * MINUTE_US
    page.reload()
    expect(cards).to_have_count(1)
    expect(ward.see("card-glass")).to_be_hidden()
    acts = [row[1] for row in audited(ward.house.database) if row[0] == "wang"]
    assert acts.count("list sessions elsewhere") == 2
    assert "break glass" in acts
    assert ward.house.errors == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_why_the_glass_was_not_broken_is_said_in_words(ward: Ward, language: str) -> None:
    ward.enter("wang", query=f"?lang={language}")
    ward.see("break-glass").click()
    ward.see("break-glass-dialog").get_by_role("radio").first.check()
    ward.see("break-glass-reason").fill(REASON)
    for status, *words in CODES:
        ward.answers("**/break-glass", status, method="POST")
        ward.see("break-glass-send").click()
        expect(ward.see("break-glass-problem")).to_contain_text(words[language == "zh"])
        expect(ward.see("break-glass-reason")).to_have_value(REASON)
    ward.see("break-glass-cancel").click()
    ward.answers("**/api/v1/elsewhere", 503, method="GET")
    ward.see("break-glass").click()
    expect(ward.see("break-glass-dialog")).to_contain_text(
        "列表加载失败" if language == "zh" else "could not be loaded"
    )
    expect(ward.see("break-glass-again")).to_be_focused()
    ward.house.page.unroute("**/api/v1/elsewhere")
    ward.press("Enter")
    expect(ward.see("break-glass-dialog").get_by_role("radio").first).to_be_focused()


def test_who_is_no_person_has_no_such_button(room: Room) -> None:
    room.open()
    expect(room.page.get_by_test_id("auto-sign-in")).to_be_visible()
    expect(room.page.get_by_test_id("break-glass")).to_be_hidden()

"""The review of break-glass as an auditor meets it: what waits, their own, somebody quicker, nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from cloud.store import break_glass
from tests.screens.ward import Ward, ward

__all__ = ["ward"]
pytestmark = pytest.mark.timeout(60)

REASON = "arrest in the lobby, crew called"
NOTE = "the crew confirms the call"


def test_an_auditor_lands_on_the_review_and_records_it_once(ward: Ward) -> None:
    page = ward.house.page
    ward.grant("g1", "wang", "s2", REASON)
    ward.grant("g2", "wang", "s3", "<b>an old man fell</b>")
    ward.grant("g3", "audi", "s1", REASON)
    ward.enter("audi")
    page.wait_for_url("**/review")
    expect(ward.see("signed-in")).to_have_text("Audi")
    expect(ward.see("review-counts")).to_contain_text("3 waiting · 0 reviewed")
    first = page.locator("[data-id=g1]")
    for words in ("Wang (wang)", "H1", "AMB-02 · Ambulance", "still open", REASON):
        expect(first).to_contain_text(words)
    home = page.locator("[data-id=g2]")
    expect(home).to_contain_text("label withheld · Home")
    expect(home).to_contain_text("<b>an old man fell</b>")
    expect(page.locator("[data-id=g3]").get_by_test_id("review-own")).to_be_visible()
    expect(ward.see("review-note")).to_have_count(2)
    first.get_by_test_id("review-note").fill("looks ok")
    first.get_by_test_id("review-send").click()
    expect(first.get_by_test_id("review-problem")).to_have_text("Write at least 10 characters.")
    expect(first.get_by_test_id("review-note")).to_be_focused()
    ward.see("language-switch").click()
    expect(first.get_by_test_id("review-note")).to_have_value("looks ok")
    ward.see("language-switch").click()
    first.get_by_test_id("review-note").fill(NOTE)
    for status, words in ((403, "never their own"), (503, "cannot store it"), (0, "No answer from the server")):
        ward.answers("**/review", status, method="POST")
        first.get_by_test_id("review-send").click()
        expect(first.get_by_test_id("review-problem")).to_contain_text(words)
    page.unroute("**/review")
    first.get_by_test_id("review-send").click()
    expect(ward.see("review-notice")).to_have_text("The review is recorded.")
    expect(ward.see("review-notice")).to_be_focused()
    expect(ward.see("review-counts")).to_contain_text("2 waiting · 1 reviewed")
    expect(ward.see("grant").last).to_contain_text(NOTE)
    ward.house.database.transaction(lambda connection: break_glass.review(connection, "g2", "other", NOTE, 1))
    home.get_by_test_id("review-note").fill(NOTE)
    home.get_by_test_id("review-send").click()
    expect(ward.see("review-notice")).to_have_text("Somebody has reviewed it already: the list is refreshed.")
    expect(ward.see("review-note")).to_have_count(0)
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ward.see("sign-out").click()
    page.wait_for_url("**/sign-in?next=**")
    assert ward.house.errors == []


def test_the_review_says_why_it_shows_nothing(ward: Ward) -> None:
    ward.house.page.goto(f"{ward.house.url}/review?lang=zh")
    ward.house.page.wait_for_url("**/sign-in?next=**")
    ward.house.type_in("wang")
    expect(ward.see("review-trouble")).to_have_text("无权限:请以审核员身份登录。")
    ward.see("sign-out").click()
    ward.house.page.wait_for_url("**/sign-in?next=**")
    ward.house.type_in("audi")
    expect(ward.see("review-none")).to_have_text("没有紧急调阅记录,无需审核。")
    ward.answers("**/api/v1/break-glass", 0, method="GET")
    ward.see("review-refresh").click()
    expect(ward.see("review-trouble")).to_have_text("列表加载失败,所示内容可能已过时。")

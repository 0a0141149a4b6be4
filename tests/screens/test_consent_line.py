"""Consent in the patient's panel: nothing is consent until somebody records it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.screens.ward import Ward, ward

__all__ = ["ward"]
pytestmark = pytest.mark.timeout(60)


def test_consent_is_none_until_somebody_records_it_with_its_reason(ward: Ward) -> None:
    page = ward.house.page
    ward.enter("wang")
    for purpose in ("care", "history"):
        expect(ward.see(f"consent-{purpose}")).to_have_text("none recorded")
    ward.see("consent-record").focus()
    ward.press("Enter")
    expect(page.get_by_role("radio", name="emergency, not asked")).to_be_focused()
    ward.press("Enter")
    expect(ward.see("consent-problem")).to_have_text("Choose what was said or done.")
    ward.press("Space", "Tab")
    page.keyboard.type("arrest")
    ward.see("consent-send").click()
    expect(ward.see("consent-problem")).to_have_text("Write at least 10 characters.")
    expect(ward.see("consent-note")).to_be_focused()
    page.keyboard.type(", no relative here")
    ward.answers("**/consent", 404, method="POST")
    ward.see("consent-send").click()
    expect(ward.see("consent-problem")).to_contain_text("The server has not stored this session yet")
    page.unroute("**/consent")
    ward.see("consent-send").click()
    expect(ward.see("consent-dialog")).to_have_count(0)
    expect(ward.see("consent-care")).to_contain_text("emergency, not asked · ")
    expect(ward.see("consent-history")).to_have_text("none recorded")
    ward.answers("**/consent", 0, method="GET")
    ward.see("language-switch").click()
    expect(ward.see("consent-care")).to_have_text("未知:服务器未告知")

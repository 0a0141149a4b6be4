"""The whole demo in a real browser: half a minute that buys "the emergency room sees what happens"."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from bench.screen import CHROMIUM_FLAGS, chromium_path
from tests.system.kills import play
from vitalwire.stage import Stage
from wire.vocabulary import TWELVE_LEADS

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

_GATEWAY = "amb-07"
_PATIENCE_MS = 30_000
_ALIVE_BUT_DEAF = [sys.executable, "-c", "import time; time.sleep(120)"]
# A second's worth of samples more than `before` on every lead of the one patient on the stage.
_DRAWN = "() => Object.values(window.vitalwire.stats().sessions)[0] ?? {}"
_ALL_MOVE = f"""
  ({{ before, leads }}) => leads.every((lead) =>
    (({_DRAWN})()[lead]?.samples ?? 0) > (before[lead]?.samples ?? 0) + 500)
"""


async def _every_lead_moves(page: Page) -> None:
    arguments = {"before": await page.evaluate(_DRAWN), "leads": list(TWELVE_LEADS)}
    await page.wait_for_function(_ALL_MOVE, arg=arguments, polling=100)


async def _watch(page: Page, stage: Stage) -> None:
    """What a person at the screen sees, in the order of the scene."""
    await page.goto(f"{stage.url}/er?lang=en")
    card = page.get_by_test_id("patient-card").filter(has_text="AMB-07")
    await card.click()
    panel = page.get_by_test_id("patient-panel")
    for lead in TWELVE_LEADS:
        await expect(panel.locator(f'[data-testid=lead-canvas][data-lead="{lead}"]')).to_be_visible()
    await _every_lead_moves(page)
    await expect(page.get_by_test_id("demo-watermark").first).to_be_visible()
    await expect(page.get_by_test_id("alarm-banner").first).to_be_visible()

    await page.get_by_test_id("language-switch").click()
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(page.get_by_test_id("numeric").first).to_contain_text("心率")

    box = stage.parts[_GATEWAY]
    command, box.command = box.command, _ALIVE_BUT_DEAF
    box.kill()
    await expect(page.locator(".stream [data-testid=no-data]").first).to_be_visible()
    box.command = command
    box.kill()
    await expect(page.locator(".stream [data-testid=no-data]").first).to_be_hidden()
    await _every_lead_moves(page)


def test_the_er_sees_leads_alarm_language_and_a_killed_box(tmp_path: Path) -> None:
    executable = chromium_path()
    if executable is None:
        pytest.skip("no browser: apt-get install chromium, or set VITALWIRE_CHROMIUM")
    complaints: list[str] = []
    seen: list[str] = []

    async def look(stage: Stage) -> None:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(_PATIENCE_MS)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            expect.set_options(timeout=_PATIENCE_MS)
            try:
                await _watch(page, stage)
                seen.append("everything")
            finally:
                await page.screenshot(path=str(tmp_path / "er.png"))
                await browser.close()

    report = play(tmp_path, 45, [(0.0, look)])
    assert (seen, complaints) == (["everything"], [])
    assert (report["lost"], report["duplicates"]) == (0, 0), report["findings"]

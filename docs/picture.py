"""Makes docs/er.png: starts a demo, waits for its alarm, and takes the picture of the ER screen.

`python docs/picture.py [--lang zh] [OUT.png]`
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from vitalwire import demo
from vitalwire.stage import on_stage

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_ALARM_MS = 60_000


async def take(out: Path, lang: str, folder: Path) -> None:
    """Plays the demo until its limit alarm shows, then photographs it."""
    stage = demo.prepare(demo.Plan(port=0, state=folder / "demo"))

    async def act() -> None:
        await stage.start_simulator(record=None, for_s=None)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*_FLAGS])
            page = await browser.new_page(viewport={"width": 1280, "height": 800})
            await page.goto(f"{stage.url}/er?lang={lang}")
            await page.get_by_test_id("patient-card").filter(has_text="AMB-07").first.click()
            await page.get_by_test_id("alarm-banner").first.wait_for(timeout=_ALARM_MS)
            await page.wait_for_timeout(6_000)  # a sweep full of the patient as she is now
            await page.screenshot(path=str(out))
            await browser.close()

    await on_stage(stage, act)


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description="Make the picture of the ER screen.")
    parser.add_argument("out", nargs="?", type=Path, default=Path(__file__).with_name("er.png"))
    parser.add_argument("--lang", default="en", choices=("en", "zh"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(take(arguments.out, arguments.lang, Path(folder)))


if __name__ == "__main__":
    main()

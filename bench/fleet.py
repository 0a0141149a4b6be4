"""How the fleet screen keeps up with hundreds of boxes, fed by a small live server of its own (docs/live.md).

Every box sends a heartbeat each 5 s, as real ones do; the tests of the screen use the feed too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

import screens
from bench.screen import CHROMIUM_FLAGS, STRICT, LiveFeed, Message, chromium_path
from wire.clock import MICROSECONDS, Clock, SystemClock

HEARTBEAT_S = 5


def box(gateway_id: str, now_us: int, **changes: Any) -> Message:
    """A box's row as docs/live.md says, in good health but for what `changes` say; `gauges` are merged."""
    gauges = {
        "backlog_records": 0,
        "backlog_urgent": 0,
        "backlog_routine": 0,
        "backlog_bulk": 0,
        "spool_mib": 412.0,
        "disk_free_mib": 20_480.0,
        "disk_total_mib": 30_000.0,
        "disk_failing": 0,
        "clock_synchronised": 1,
        "clock_uncertainty_ms": 12.0,
        "uptime_s": 300_000.0,
        "boot_uptime_s": 900_000.0,
        "quarantined_segments": 0,
        "uplink_connected": 1,
        "receipt_age_s": 0.4,
        "devices": 2,
        "devices_connected": 2,
        **changes.pop("gauges", {}),
    }
    row: Message = {
        "gateway_id": gateway_id,
        "label": "",
        "state": "online",
        "since_us": now_us - 3 * 3600 * MICROSECONDS,
        "last_seen_us": now_us,
        "version": "0.1.0",
        "status_us": now_us,
        "status_received_us": now_us,
        "clock_offset_us": 40_000,
        "skipped": 0,
        "link_lost": 0,
        "driver_failed": 0,
        "skipped_10min": 0,
        "last_receipt_us": now_us,
        "gaps": 0,
        "lost_records": 0,
        "last_gap_us": None,
        "starts_24h": 0,
    }
    return {**row, "gauges": gauges, **changes}


def never_seen(gateway_id: str) -> Message:
    """The row of a box that is configured and was never heard."""
    nothing = dict.fromkeys(("status_us", "status_received_us", "clock_offset_us", "last_receipt_us"))
    return {
        **box(gateway_id, 0),
        "state": "never",
        "since_us": 0,
        "last_seen_us": 0,
        "version": "",
        "gauges": {},
        **nothing,
    }


class FleetFeed(LiveFeed):
    """The live channel about boxes, and the two routes beside it."""

    page = "/fleet"

    def __init__(self, rows: list[Message], clock: Clock) -> None:
        self.rows = {row["gateway_id"]: row for row in rows}
        self.devices: dict[str, list[Message]] = {}
        self.counters: dict[str, dict[str, int]] = {}
        self.backlogs: dict[str, list[list[float]]] = {}
        self.fails = False
        super().__init__([], clock, {"role": "operator"})

    def change(self, *rows: Message) -> None:
        """Rows as they are from now on, told to every screen."""
        self.rows.update({row["gateway_id"]: row for row in rows})
        self.say({"type": "fleet", "gateways": list(rows)})

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/fleet", lambda _: FileResponse(screens.ROOT / "fleet" / "index.html", headers=STRICT)),
            Route("/api/v1/fleet", self._fleet),
            Route("/api/v1/fleet/{gateway_id}", self._gateway),
            WebSocketRoute("/api/v1/fleet/live", self._live),
        ]

    async def _greet(self, socket: WebSocket) -> None:
        rows = list(self.rows.values())
        for first in range(0, len(rows), 100):
            await socket.send_text(json.dumps({"type": "fleet", "gateways": rows[first : first + 100]}))

    async def _fleet(self, _: Request) -> Response:
        if self.refuses:
            return JSONResponse({"error": "not allowed"}, status_code=403)
        return JSONResponse({"server_us": self.clock.now_us(), "gateways": list(self.rows.values())})

    async def _gateway(self, request: Request) -> Response:
        gateway_id = request.path_params["gateway_id"]
        if self.fails:
            return JSONResponse({"error": "the store does not answer"}, status_code=503)
        details = {"devices": self.devices.get(gateway_id, []), "counters": self.counters.get(gateway_id, {})}
        return JSONResponse(
            {
                "server_us": self.clock.now_us(),
                "gateway": {**self.rows[gateway_id], **details},
                "backlog": self.backlogs.get(gateway_id, []),
            }
        )


def fleet_of(count: int, now_us: int, seed: int = 1) -> list[Message]:
    """Boxes as an operator may find them: most are well, some are not, each kind of trouble is there."""
    chance = random.Random(seed)
    ago = now_us - 700 * MICROSECONDS
    kinds: list[Message] = [
        {"state": "offline", "since_us": ago, "last_seen_us": ago, "gauges": {"backlog_records": 4210}},
        {"state": "silent", "since_us": ago, "last_seen_us": ago},
        {
            "gauges": {
                "backlog_records": 81_204,
                "backlog_urgent": 3,
                "backlog_routine": 1201,
                "backlog_bulk": 80_000,
                "oldest_urgent_s": 95.0,
                "oldest_routine_s": 1800.0,
                "oldest_bulk_s": 5400.0,
            }
        },
        {"status_us": 90 * MICROSECONDS, "gauges": {"clock_synchronised": 0}, "clock_offset_us": -now_us},
        {"clock_offset_us": 7_400_000},
        {"gauges": {"clock_synchronised": 0}},
        {"gauges": {"disk_free_mib": 61.0, "spool_mib": 4096.0}},
        {"gauges": {"disk_failing": 1}},
        {"gaps": 3, "lost_records": 12_040, "last_gap_us": ago},
        {"skipped": 3000, "skipped_10min": 240, "starts_24h": 9, "gauges": {"uptime_s": 30.0}},
        {"gauges": {"devices_connected": 1}, "last_receipt_us": now_us - 130 * MICROSECONDS},
    ]
    rows = []
    for number in range(1, count + 1):
        name = f"gw-{number:03d}"
        if chance.random() < 0.03:
            rows.append(never_seen(name))
        else:
            changes = dict(chance.choice(kinds)) if chance.random() < 0.2 else {}
            rows.append(box(name, now_us, **{"label": f"A-{number:03d}", **changes}))
    return rows


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Five hundred boxes on a 1920x1080 screen: how long a refresh takes, and a key until the screen has drawn it."""
    from playwright.sync_api import sync_playwright

    browser_path = chromium_path()
    if browser_path is None:
        return {"error": "no chromium: apt-get install chromium, or set VITALWIRE_CHROMIUM"}
    count = getattr(arguments, "patients", None) or 500
    seconds = getattr(arguments, "seconds", None) or 10
    clock = SystemClock()
    feed = FleetFeed(fleet_of(count, clock.now_us()), clock)
    with feed, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"{feed.url}?lang=en")
        page.wait_for_function("(n) => window.vitalwire?.stats().boxes === n", arg=count, timeout=60_000)
        page.wait_for_timeout(2000)
        page.evaluate("window.vitalwire.resetStats()")
        page.locator("[data-testid=box]").first.locator("button").focus()
        keys_ms = []
        for second in range(seconds):
            heard = list(feed.rows.values())[second % HEARTBEAT_S :: HEARTBEAT_S]
            feed.change(*(_heartbeat(row, clock.now_us()) for row in heard if row["state"] == "online"))
            keys_ms.append(float(page.evaluate(_KEY_TO_FRAME)))
            page.wait_for_timeout(1000)
        stats = page.evaluate("window.vitalwire.stats()")
        browser.close()
    return {
        "boxes": count,
        "refreshes": stats["refreshes"],
        "worst_refresh_ms": round(stats["worstMs"], 1),
        "last_refresh_ms": round(stats["lastMs"], 1),
        "key_p50_ms": round(sorted(keys_ms)[len(keys_ms) // 2], 1),
        "key_worst_ms": round(max(keys_ms), 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


# From a key that moves the choice to the second frame after it, when the first has surely been drawn.
_KEY_TO_FRAME = """() => new Promise((done) => {
  const startMs = performance.now();
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - startMs)));
})"""


def _heartbeat(row: Message, now_us: int) -> Message:
    moved = dict.fromkeys(("last_seen_us", "status_received_us", "last_receipt_us"), now_us)
    return {**row, **moved, "gauges": {**row["gauges"], "backlog_records": random.randrange(3)}}

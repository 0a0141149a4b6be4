"""How many frames a second the ER screen really paints, fed by a small live server of its own (docs/live.md).

The browser runs headless with software rendering, the worst screen an emergency room will have. The feed is the
benchmark's own, so that neither broker nor store is measured along; the tests of the screens use it too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

import screens
from cloud.words import vocabulary_json
from wire.clock import Clock, SystemClock
from wire.readings import SampleBlock
from wire.vocabulary import TWELVE_LEADS
from wire.waveform import encode

Message = dict[str, Any]  # JSON of docs/live.md

BLOCK_S = 0.5
REPLAY_S = 10
PREPARE_S = 20
COUNT_MV = 0.0025
# Relative size of the QRS, T and P wave in each lead, roughly as in a healthy adult.
_LEAD_SHAPE = dict(
    zip(
        TWELVE_LEADS,
        (
            *((0.8, 0.2), (1.2, 0.3), (0.5, 0.1), (-0.9, -0.25), (0.3, 0.08), (0.8, 0.2)),
            *((-0.6, -0.1), (-0.9, 0.35), (0.7, 0.45), (1.3, 0.4), (1.4, 0.35), (1.1, 0.25)),
        ),
        strict=True,
    )
)
CHROMIUM_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def chromium_path() -> str | None:
    """The browser to measure and test with, or None when there is none on this machine."""
    return os.environ.get("VITALWIRE_CHROMIUM") or shutil.which("chromium")


def ecg_mv(index: NDArray[np.int64], rate_hz: float, lead: str, heart_rate: float) -> NDArray[np.float64]:
    """A clean synthetic lead: index int64, shape (n,) -> mV, shape (n,)."""
    qrs, t_wave = _LEAD_SHAPE.get(lead, (1.0, 0.25))
    beat = 60 / heart_rate
    phase = np.mod(index / rate_hz, beat)
    at = 0.3 * beat

    def bump(centre_s: float, width_s: float, height_mv: float) -> NDArray[np.float64]:
        return np.asarray(height_mv * np.exp(-(((phase - centre_s) / width_s) ** 2)))

    waves = bump(at - 0.16, 0.025, 0.12 * np.sign(qrs)) + bump(at - 0.025, 0.009, -0.12 * qrs)
    waves += bump(at, 0.011, qrs) + bump(at + 0.028, 0.010, -0.22 * qrs) + bump(at + 0.26, 0.05, t_wave)
    return np.asarray(waves + 0.008 * np.sin(index * 0.7 + len(lead)))


@lru_cache(maxsize=4096)
def _encoded(
    leads: tuple[str, ...], rate_hz: float, heart_rate: float, first_index: int, count: int, stream: str, epoch_us: int
) -> bytes:
    index = np.arange(first_index, first_index + count, dtype=np.int64)
    millivolts = np.stack([ecg_mv(index, rate_hz, lead, heart_rate) for lead in leads], axis=1)
    return encode(
        SampleBlock(
            stream=stream,
            leads=leads,
            samples=np.round(millivolts / COUNT_MV).astype(np.int32),
            sample_rate_hz=rate_hz,
            scale=(COUNT_MV,) * len(leads),
            offset=(0.0,) * len(leads),
            first_index=first_index,
            start_us=epoch_us + round(first_index / rate_hz * 1e6),
        )
    )


@dataclass
class FeedPatient:
    """A synthetic patient as the live channel shows it; tests change it while it runs."""

    number: int
    label: str
    clock: Clock
    leads: tuple[str, ...] = TWELVE_LEADS
    rate_hz: float = 500
    kind: str = "mission"
    origin: int = 2
    heart_rate: float = 72
    flows: bool = True
    next_index: int = 0
    epoch_us: int = 0
    numerics: dict[str, list[list[Any]]] = field(default_factory=dict)
    alerts: list[Message] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)
    gateway: Message = field(default_factory=dict)
    history: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Starts its sample count ten seconds ago."""
        self.epoch_us = self.epoch_us or self.clock.now_us() - REPLAY_S * 1_000_000
        self.gateway = {
            "gateway_id": f"gw-{self.number}",
            "online": True,
            "last_seen_us": self.epoch_us,
            "version": "0.1.0",
            "clock_synchronised": True,
            "backlog_records": 0,
            "counters": {},
        }

    @property
    def session_id(self) -> str:
        """ASCII, as docs/live.md asks."""
        return f"s-{self.number}"

    def session(self) -> Message:
        """The session object of docs/live.md."""
        return {
            "session_id": self.session_id,
            "gateway_id": self.gateway["gateway_id"],
            "kind": self.kind,
            "label": self.label,
            "origin": self.origin,
            "opened_us": self.epoch_us,
            "closed_us": None,
            "stored_us": 0,
        }

    def snapshot(self) -> Message:
        """The snapshot object of docs/live.md."""
        return {
            "type": "snapshot",
            "session": self.session(),
            "numerics": self.numerics,
            "alerts": self.alerts,
            "events": self.events,
            "gateway": self.gateway,
            "dropped": 0,
        }

    def block_bytes(self, first_index: int, count: int, stream: str = "ecg") -> bytes:
        """One binary frame of docs/live.md with `count` samples from `first_index` on."""
        block = _encoded(self.leads, self.rate_hz, self.heart_rate, first_index, count, stream, self.epoch_us)
        return frame(self.session_id, stream, 0, block)

    def prepare(self, seconds: float) -> None:
        """Encodes this far ahead, so that the encoder is not measured along with the screen."""
        size = round(BLOCK_S * self.rate_hz)
        for first_index in range(0, round((REPLAY_S + seconds) * self.rate_hz), size):
            self.block_bytes(first_index, size)

    def due_blocks(self) -> list[bytes]:
        """Every whole block between the last one made and now; none while it does not flow."""
        size = round(BLOCK_S * self.rate_hz)
        now_index = int((self.clock.now_us() - self.epoch_us) / 1e6 * self.rate_hz)
        frames = []
        while self.next_index + size <= now_index:
            if self.flows:
                frames.append(self.block_bytes(self.next_index, size))
            self.next_index += size
        self.history = (self.history + frames)[-round(REPLAY_S / BLOCK_S) :]
        return frames


def frame(session_id: str, stream: str, quality: int, block: bytes) -> bytes:
    """Binary frame of docs/live.md."""
    session, name = session_id.encode("ascii"), stream.encode()
    return bytes([1, len(session)]) + session + bytes([len(name)]) + name + bytes([quality]) + block


class LiveFeed:
    """The live channel in a thread of its own: real HTTP, real WebSocket; says what it is told, ticks by itself."""

    page = "/er"

    def __init__(self, patients: list[FeedPatient], clock: Clock, hello: Message | None = None) -> None:
        self.patients = patients
        self.clock = clock
        self.hello = {"principal": "demo", "role": "er_clinician", "auto_sign_in": True, "demo": True, **(hello or {})}
        self.refuses = False
        self.ticks = True
        self._sockets: set[WebSocket] = set()
        self._loop = asyncio.new_event_loop()
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._serve, name="live-feed", daemon=True)

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops it."""
        self.stop()

    def start(self) -> None:
        """Returns once the port answers; does nothing when it already does."""
        if self._thread.is_alive():
            return
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the feed did not start")
            threading.Event().wait(0.01)

    def stop(self) -> None:
        """Stops the server and its thread."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def url(self) -> str:
        """Where the screen is."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{self.page}"

    def say(self, *messages: Message | bytes) -> None:
        """Sends to every screen, from any thread; returns when it is sent."""
        asyncio.run_coroutine_threadsafe(self._broadcast(list(messages)), self._loop).result(timeout=5)

    def hang_up(self) -> None:
        """Closes every screen's socket."""
        asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(timeout=5)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve())

    def _app(self) -> Starlette:
        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._feed(), name="feed"), group.create_task(self._tick(), name="tick")]
                yield
                for task in tasks:
                    task.cancel()

        routes = [*self._routes(), Mount("/screens", StaticFiles(directory=screens.ROOT))]
        return Starlette(routes=routes, lifespan=lifespan)

    def _routes(self) -> list[BaseRoute]:
        """What this screen asks for, beside its files."""
        return [
            Route("/er", lambda _: FileResponse(screens.ROOT / "er" / "index.html", headers=STRICT)),
            Route("/api/v1/vocabulary", lambda _: JSONResponse(vocabulary_json())),
            Route("/api/v1/sessions/{session_id}/consent", lambda _: JSONResponse(NO_CONSENT)),
            WebSocketRoute("/api/v1/live", self._live),
        ]

    async def _greet(self, socket: WebSocket) -> None:
        """What a screen is told first, after the hello."""
        for patient in self.patients:
            await socket.send_text(json.dumps(patient.snapshot()))
            for replayed in patient.history:
                await socket.send_bytes(replayed)

    async def _live(self, socket: WebSocket) -> None:
        if self.refuses:
            await socket.close(1013)
            return
        await socket.accept()
        await socket.send_text(json.dumps({"type": "hello", "server_us": self.clock.now_us(), **self.hello}))
        await self._greet(socket)
        self._sockets.add(socket)
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            self._sockets.discard(socket)

    async def _feed(self) -> None:
        while True:
            for patient in self.patients:
                await self._broadcast(list(await asyncio.to_thread(patient.due_blocks)))
            await asyncio.sleep(BLOCK_S / 5)

    async def _tick(self) -> None:
        while True:
            if self.ticks:
                await self._broadcast([{"type": "tick", "server_us": self.clock.now_us()}])
            await asyncio.sleep(1)

    async def _broadcast(self, messages: list[Message | bytes]) -> None:
        for message in messages:
            for socket in list(self._sockets):
                try:
                    if isinstance(message, bytes):
                        await socket.send_bytes(message)
                    else:
                        await socket.send_text(json.dumps(message))
                except (WebSocketDisconnect, RuntimeError):
                    self._sockets.discard(socket)

    async def _close_all(self) -> None:
        for socket in list(self._sockets):
            self._sockets.discard(socket)
            await socket.close(1012)


NO_CONSENT = {"standing": {"care": None, "history": None}, "history": []}
# What a careful server sends: the screens must live with it.
STRICT = {"Content-Security-Policy": "default-src 'self'; connect-src 'self'; base-uri 'none'; object-src 'none'"}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Six 12-lead 500 Hz patients side by side on a 1920x1080 wall, counted by the page itself."""
    from playwright.sync_api import sync_playwright

    browser_path = chromium_path()
    if browser_path is None:
        return {"error": "no chromium: apt-get install chromium, or set VITALWIRE_CHROMIUM"}
    patients = getattr(arguments, "patients", None) or 6
    seconds = getattr(arguments, "seconds", None) or 10
    clock = SystemClock()
    # The same heart for all: one encoded tape serves six, and decoding and drawing are what is measured.
    epoch_us = clock.now_us()
    riders = [FeedPatient(k, f"A-{k + 1:02d}", clock, epoch_us=epoch_us) for k in range(patients)]
    riders[0].prepare(seconds + 2 * PREPARE_S)
    feed = LiveFeed(riders, clock)
    with feed, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(f"{feed.url}?view=wall&lang=en")
        ready = "(n) => Object.keys(window.vitalwire?.stats().sessions ?? {}).length === n"
        page.wait_for_function(ready, arg=patients, polling=200, timeout=60_000)
        page.wait_for_timeout(2000)
        page.evaluate("window.vitalwire.resetStats()")
        page.wait_for_timeout(seconds * 1000)
        stats = page.evaluate("window.vitalwire.stats()")
        browser.close()
    drawn = [lead["samples"] for leads in stats["sessions"].values() for lead in leads.values()]
    return {
        "patients": patients,
        "fps": round(stats["meanFps"], 1),
        "worst_frame_ms": round(stats["worstFrameMs"], 1),
        "script_ms_per_frame": round(stats["scriptMsPerFrame"], 2),
        "seconds": round(stats["seconds"], 1),
        "leads_painted": len(drawn),
        "least_samples_of_a_lead": min(drawn, default=0),
        "load_average": round(os.getloadavg()[0], 1),
    }

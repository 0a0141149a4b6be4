"""The HTTP routes: screens, vocabulary, what is stored, and how the process does. No person's id is in any URL."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

import screens
from cloud.api.auth import Requires
from cloud.api.permissions import Permission, Principal
from cloud.api.reach import Reach
from cloud.api.unseen import UnseenAlerts
from cloud.counters import Counters
from cloud.feed import CLEARED_SHOWN_US, Feed
from cloud.store.reader import StoreReader
from cloud.store.routed import Seen
from cloud.window import pack_wave
from cloud.words import alert_json, numeric_json, session_json, vocabulary_json
from wire.clock import Clock
from wire.vocabulary import Metric

router = APIRouter()
_files = StaticFiles(directory=screens.ROOT)
_SCREEN_FILES = (".html", ".js", ".mjs", ".css", ".svg", ".png", ".woff2", ".json", ".map", ".mp3", ".wav", ".ico")

# One answer stays within some MB; a reader asks again from where it ended.
_MOST_SESSIONS = 200
_MOST_NUMERICS = 20_000
_MOST_BLOCKS = 500
_MOST_ALERTS = 500
_ANY_TIME_US = (0, 1 << 60)


class Json(Response):
    """JSON by orjson; patient data is never cached."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200) -> None:  # Any: JSON
        super().__init__(orjson.dumps(content), status_code, headers={"Cache-Control": "no-store"})


@router.get("/", dependencies=[Depends(Requires(Permission.OPEN))])
async def front_door() -> Response:
    """Whoever types the host alone gets the ER screen, which sends on who belongs elsewhere."""
    return RedirectResponse("/er", status_code=307)


@router.get("/er", dependencies=[Depends(Requires(Permission.OPEN, "open screen er"))])
async def er_screen() -> Response:
    """The emergency room's screen."""
    return FileResponse(screens.ROOT / "er" / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/screens/{path:path}", dependencies=[Depends(Requires(Permission.OPEN))])
async def screen_file(path: str, request: Request) -> Response:
    """A file of the screens, and nothing else that may lie beside them."""
    if not path.endswith(_SCREEN_FILES):
        return Response(status_code=404)
    response = await _files.get_response(path, request.scope)
    response.headers["Cache-Control"] = "no-cache"
    return response


@router.get("/api/v1/vocabulary", dependencies=[Depends(Requires(Permission.OPEN))])
async def vocabulary() -> Response:
    """Titles, units and decimals."""
    return Json(vocabulary_json())


@router.get("/api/v1/sessions")
async def sessions(
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.VIEW_RECORD, "list sessions"))],
    most: Annotated[int, Query(ge=1, le=_MOST_SESSIONS)] = _MOST_SESSIONS,
) -> Response:
    """The sessions one may see, newest first."""
    found = await asyncio.to_thread(_reader(request).sessions, most=most, seen=_seen(request, principal))
    return Json({"sessions": [session_json(session) for session in found]})


@router.get(
    "/api/v1/sessions/{session_id}/numerics",
    dependencies=[Depends(Requires(Permission.VIEW_RECORD, "view numerics"))],
)
async def numerics(
    request: Request,
    session_id: str,
    metric: Metric | None = None,
    from_us: Annotated[int, Query(ge=0, le=1 << 60)] = _ANY_TIME_US[0],
    to_us: Annotated[int, Query(ge=0, le=1 << 60)] = _ANY_TIME_US[1],
    most: Annotated[int, Query(ge=1, le=_MOST_NUMERICS)] = _MOST_NUMERICS,
) -> Response:
    """The newest stored values in a time range, oldest first; `truncated` when there are more before them."""
    reader, name = _reader(request), metric.value if metric else ""
    session = await asyncio.to_thread(reader.session, session_id)
    found = await asyncio.to_thread(
        lambda: reader.numerics(session_id, metric=name, from_us=from_us, to_us=to_us, most=most + 1)
    )
    shown = found[-most:]
    return Json(
        {
            "session": session_json(session),
            "truncated": len(found) > most,
            "numerics": [numeric_json(each) for each in shown],
        }
    )


@router.get(
    "/api/v1/sessions/{session_id}/waveforms",
    dependencies=[Depends(Requires(Permission.VIEW_RECORD, "view waveforms"))],
)
async def waveforms(
    request: Request,
    session_id: str,
    stream: Annotated[str, Query(max_length=200)] = "",
    from_index: Annotated[int, Query(ge=0, le=1 << 60)] = 0,
    most: Annotated[int, Query(ge=1, le=_MOST_BLOCKS)] = _MOST_BLOCKS,
    index: bool = False,
) -> Response:
    """Without `stream` their names; with it blocks, each a u32 big-endian length and a live frame, or their index."""
    reader = _reader(request)
    session = await asyncio.to_thread(reader.session, session_id)
    if not stream:
        names = await asyncio.to_thread(reader.streams, session_id)
        return Json({"session": session_json(session), "streams": names})
    blocks = await asyncio.to_thread(
        lambda: list(islice(reader.blocks(session_id, stream, from_index=from_index, most=most), most))
    )
    if index:
        keys = ("first_index", "sample_count", "start_us", "quality")
        return Json({"stream": stream, "blocks": [{key: getattr(block, key) for key in keys} for block in blocks]})
    frames = [pack_wave(session_id, stream, block.quality, block.data) for block in blocks]
    content = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)
    return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})


@router.get("/api/v1/alerts")
async def alerts(
    request: Request,
    principal: Annotated[Principal, Depends(Requires(Permission.VIEW_RECORD, "list alerts"))],
    session_id: Annotated[str, Query(max_length=200)] = "",
    most: Annotated[int, Query(ge=1, le=_MOST_ALERTS)] = _MOST_ALERTS,
) -> Response:
    """Alerts one may see that stand or were cleared in the last ten minutes, newest onset first."""
    seen = _seen(request, principal)
    clock: Clock = request.app.state.clock
    since_us = clock.now_us() - CLEARED_SHOWN_US
    found = await asyncio.to_thread(
        lambda: _reader(request).alerts(session_id=session_id, cleared_since_us=since_us, most=most, seen=seen)
    )
    return Json({"alerts": [{"session_id": each.session_id, "alert": alert_json(each)} for each in found]})


@router.get("/healthz", dependencies=[Depends(Requires(Permission.OPEN))])
async def healthz(request: Request) -> Response:
    """Whether the store answers."""
    await asyncio.to_thread(_reader(request).sessions, most=1)
    return Json({"status": "ok"})


@router.get("/metrics", dependencies=[Depends(Requires(Permission.VIEW_METRICS))])
async def metrics(request: Request) -> Response:
    """Counters of the process and rows of the store, as Prometheus reads them; no patient values."""
    counters: Counters = request.app.state.counters
    feed: Feed = request.app.state.feed
    rows = await asyncio.to_thread(_reader(request).counts)
    lines = [*_exposition("counter", "vitalwire_", "_total", counters.snapshot())]
    lines += _exposition("gauge", "vitalwire_stored_", "_rows", rows)
    unseen: UnseenAlerts = request.app.state.unseen
    gauges = {
        "live_screens": feed.screens,
        "fleet_screens": feed.fleet.screens,
        "unseen_alerts": sum(each.open_alerts for each in await unseen.look()),
    }
    lines += _exposition("gauge", "vitalwire_", "", gauges)
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _exposition(kind: str, prefix: str, suffix: str, values: Mapping[str, int]) -> list[str]:
    lines: list[str] = []
    for name, value in sorted(values.items()):
        full = f"{prefix}{name}{suffix}"
        lines += [f"# TYPE {full} {kind}", f"{full} {value}"]
    return lines


def _seen(request: Request, principal: Principal) -> Seen | None:
    reach: Reach = request.app.state.reach
    return reach.seen_by(principal)


def _reader(request: Request) -> StoreReader:
    reader = request.app.state.reader
    assert isinstance(reader, StoreReader)
    return reader

"""The routes of those who run the boxes: the fleet screen, every box, one box in detail. Nothing of patients."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response, WebSocket
from fastapi.responses import FileResponse

import screens
from cloud.api.auth import Requires
from cloud.api.live import speak
from cloud.api.permissions import Permission, Principal
from cloud.api.routes import Json
from cloud.feed import Feed
from cloud.store.fleet import FleetReader
from wire.clock import Clock

router = APIRouter()

# An hour of heartbeats at one every 5 s.
_MOST_BACKLOGS = 720


@router.get("/fleet", dependencies=[Depends(Requires(Permission.OPEN, "open screen fleet"))])
async def fleet_screen() -> Response:
    """The fleet screen."""
    return FileResponse(screens.ROOT / "fleet" / "index.html", headers={"Cache-Control": "no-cache"})


@router.get("/api/v1/fleet", dependencies=[Depends(Requires(Permission.VIEW_FLEET, "list fleet"))])
async def fleet(request: Request) -> Response:
    """Every box, configured or heard, as docs/live.md says."""
    feed: Feed = request.app.state.feed
    clock: Clock = request.app.state.clock
    return Json({"server_us": clock.now_us(), "gateways": feed.fleet.rows()})


@router.websocket("/api/v1/fleet/live")
async def fleet_live(
    socket: WebSocket, principal: Annotated[Principal, Depends(Requires(Permission.VIEW_FLEET, "join fleet"))]
) -> None:
    """The live channel about boxes alone."""
    feed: Feed = socket.app.state.feed
    await speak(socket, principal, feed.fleet)


@router.get("/api/v1/fleet/{gateway_id}", dependencies=[Depends(Requires(Permission.VIEW_FLEET, "view gateway"))])
async def gateway(request: Request, gateway_id: Annotated[str, Path(max_length=63)]) -> Response:
    """One box with its counters and devices, and what waited on it at its heartbeats of the last hour."""
    feed: Feed = request.app.state.feed
    clock: Clock = request.app.state.clock
    reader: FleetReader = request.app.state.fleet_reader
    state = feed.fleet.known(gateway_id)
    backlogs = await asyncio.to_thread(reader.backlogs, gateway_id, state.session_id, _MOST_BACKLOGS)
    return Json(
        {
            "server_us": clock.now_us(),
            "gateway": state.details_json(clock.now_us()),
            "backlog": [tuple(backlog) for backlog in backlogs],
        }
    )

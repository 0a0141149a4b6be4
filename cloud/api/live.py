"""The live channel of docs/live.md: one WebSocket a screen, snapshot first, then what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Annotated, Protocol

import orjson
from fastapi import APIRouter, Depends, WebSocket, WebSocketDisconnect

from cloud.api.auth import SUBPROTOCOL, Access, Requires
from cloud.api.permissions import Permission, Principal
from cloud.api.reach import Reach
from cloud.feed import Feed
from cloud.live_screen import Frame, LiveScreen
from wire.clock import Clock

router = APIRouter()

# A send that takes longer than this goes to a dead peer, not to a slow one.
_SEND_S = 20.0
# Close codes from 4000 on are an application's own.
SIGNED_OUT = 4401
# The screen begins anew: with a snapshot of what it may see now, and without what it may no longer.
VIEW_CHANGED = 4205


class _SignedOut(Exception):
    """Whoever looks may no longer."""


class TellsScreens(Protocol):
    """The feed of patients or the fleet of boxes."""

    def join(self, screen: LiveScreen) -> None:
        """From now on the screen is told what happens."""
        ...

    def leave(self, screen: LiveScreen) -> None:
        """The screen is gone."""
        ...

    def make_good(self, session_id: str, screen: LiveScreen) -> list[Frame]:
        """What a screen needs that lost frames."""
        ...


@router.websocket("/api/v1/live")
async def live(
    socket: WebSocket, principal: Annotated[Principal, Depends(Requires(Permission.VIEW_LIVE, "join live"))]
) -> None:
    """Speaks until the screen goes away."""
    feed: Feed = socket.app.state.feed
    reach: Reach = socket.app.state.reach
    await speak(socket, principal, feed, reach)


async def speak(socket: WebSocket, principal: Principal, told_by: TellsScreens, reach: Reach | None = None) -> None:
    """Accepts the screen and passes on what it is told, of patients what `reach` allows, until it goes away."""
    access: Access = socket.app.state.access
    clock: Clock = socket.app.state.clock
    offered = [name for name in socket.scope.get("subprotocols", []) if name.startswith(SUBPROTOCOL)]
    await socket.accept(subprotocol=offered[0] if offered else None)
    hello = {
        "type": "hello",
        "server_us": clock.now_us(),
        "principal": principal.name,
        "title": principal.title or principal.name,
        "role": principal.role,
        # Whose patients are told; "" or "*" where that is no hospital's.
        "hospital": principal.hospital,
        "can_sign_out": principal.is_person,
        "auto_sign_in": access.is_demo,
        "demo": access.is_demo,
        # The sessions this person sees by break-glass alone, until when: the screen marks them.
        "break_glass": {} if reach is None else reach.grants_of(principal),
    }
    screen = LiveScreen() if reach is None else LiveScreen(sees=reach.live_view(principal))
    try:
        await _send(socket, orjson.dumps(hello).decode())
        # Watched before the first snapshot: what is routed right behind it would else be on no screen that is open.
        with nullcontext() if reach is None else reach.watching(principal) as until_changed:
            told_by.join(screen)
            await _talk(socket, principal, told_by, screen, until_changed)
    except* _SignedOut:
        await _close(socket, SIGNED_OUT)
    except* _ViewChanged:
        await _close(socket, VIEW_CHANGED)
    except* (WebSocketDisconnect, TimeoutError, OSError):
        pass  # the screen went away: its next connection begins with a snapshot
    finally:
        told_by.leave(screen)


async def _talk(
    socket: WebSocket,
    principal: Principal,
    told_by: TellsScreens,
    screen: LiveScreen,
    until_changed: Callable[[], Awaitable[None]] | None,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_notice_leaving(socket), name="live-receive")
        tasks.create_task(_serve(socket, told_by, screen), name="live-send")
        if principal.is_person:
            tasks.create_task(_until_signed_out(socket.app.state.access, principal), name="live-signed-in")
        if until_changed is not None:
            tasks.create_task(_until_view_changes(until_changed), name="live-view")


class _ViewChanged(Exception):
    """Whoever looks may see other sessions than before."""


async def _until_view_changes(until_changed: Callable[[], Awaitable[None]]) -> None:
    await until_changed()
    raise _ViewChanged


async def _until_signed_out(access: Access, principal: Principal) -> None:
    await access.sign_ins.until_ended(principal.sign_in)
    raise _SignedOut


async def _close(socket: WebSocket, code: int) -> None:
    with suppress(WebSocketDisconnect, TimeoutError, OSError, RuntimeError):  # it may have gone by itself just now
        async with asyncio.timeout(_SEND_S):
            await socket.close(code)


async def _serve(socket: WebSocket, told_by: TellsScreens, screen: LiveScreen) -> None:
    while True:
        frames = await screen.next()
        dropped = screen.take_dropped()
        for session_id, count in dropped.items():
            await _send(socket, orjson.dumps({"type": "dropped", "session_id": session_id, "frames": count}).decode())
            for frame in told_by.make_good(session_id, screen):
                await _send(socket, frame.payload)
        for frame in frames:
            if not frame.session_id or frame.session_id not in dropped:  # what was queued is made good
                await _send(socket, frame.payload)


async def _send(socket: WebSocket, payload: str | bytes) -> None:
    async with asyncio.timeout(_SEND_S):
        if isinstance(payload, str):
            await socket.send_text(payload)
        else:
            await socket.send_bytes(payload)


async def _notice_leaving(socket: WebSocket) -> None:
    """Screens say nothing; this returns by WebSocketDisconnect when they leave."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))

"""A screen's WebSocket straight into the application, on the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI


class Closed(Exception):
    """The application closed the socket, or refused it with an HTTP status."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class AsgiSocket:
    def __init__(self) -> None:
        self._said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def say(self, message: MutableMapping[str, Any]) -> None:
        self._said.put_nowait(message)

    async def next(self) -> str:
        """The next text, or a binary frame as latin-1. Raises Closed."""
        async with asyncio.timeout(5):
            while True:
                message = await self._said.get()
                if message["type"] == "websocket.close":
                    raise Closed(message["code"])
                if message["type"] == "websocket.http.response.start":
                    raise Closed(message["status"])
                if message["type"] == "websocket.send":
                    return str(message.get("text") or message["bytes"].decode("latin1"))

    async def until(self, text: str) -> str:
        """Everything said up to a text."""
        said = ""
        while text not in said:
            said += await self.next()
        return said


@asynccontextmanager
async def join(app: FastAPI, path: str, cookie: str = "") -> AsyncIterator[AsgiSocket]:
    socket = AsgiSocket()
    headers = [(b"host", b"127.0.0.1"), (b"cookie", f"vw_session={cookie}".encode())]
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("10.0.0.9", 1),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    socket.heard.put_nowait({"type": "websocket.connect"})
    speaking = asyncio.ensure_future(app(scope, socket.heard.get, socket.say))
    try:
        yield socket
    finally:
        socket.heard.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(5):
            await speaking

"""HTTP connections that get to the point: a request's head is whole within seconds, and half ones give way first."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cloud.api.rim import MOST_BODY_BYTES, SECURITY_HEADERS
from cloud.counters import Counters

# A head is one packet. Ten seconds let three of TCP's own resends pass (RFC 6298: 1 + 2 + 4 s).
_HEAD_S = 10.0
# Below the 1,024 descriptors that a process gets by default, with room for the store, the broker and files.
_MOST_CONNECTIONS = 800


class Doorway:
    """What the connections of one server share: who has not asked anything yet, the longest waiting first."""

    def __init__(
        self, counters: Counters, *, head_s: float = _HEAD_S, most_connections: int = _MOST_CONNECTIONS
    ) -> None:
        self.counters, self.head_s, self.most_connections = counters, head_s, most_connections
        self.half_open: dict[HastyProtocol, None] = {}


class HastyProtocol(H11Protocol):
    """One connection. Over the limit the oldest that has not asked anything is dropped, so that holding many half
    open shuts nobody out."""

    def __init__(
        self,
        doorway: Doorway,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: uvicorn's
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._doorway = doorway
        self._head_due: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self._doorway.most_connections:
            next(iter(self._doorway.half_open))._give_up("http_connections_crowded_out")

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stops waiting when the head is whole, and waits again for the next one on the same connection."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_answered_early():
            self._unread_bytes += len(data)
            if self._unread_bytes > MOST_BODY_BYTES:
                self._give_up("http_bodies_unread")
        elif self.conn.their_state is not h11.IDLE:
            self._have_head()
        elif self._head_due is None:
            self._await_head()

    def on_response_complete(self) -> None:
        """As uvicorn's; a body that nobody reads any more ends soon or is cut off, and is not read for ever."""
        super().on_response_complete()
        if self._is_answered_early() and not self.transport.is_closing():
            self._unread_bytes = 0
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, with our headers."""
        self._doorway.counters.add("http_malformed")
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close"), *SECURITY_HEADERS.items()]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_answered_early(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _await_head(self) -> None:
        self._have_head()
        self._doorway.half_open[self] = None
        self._head_due = self.loop.call_later(self._doorway.head_s, self._give_up, "http_heads_too_slow")

    def _have_head(self) -> None:
        self._doorway.half_open.pop(self, None)
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self, counter: str) -> None:
        self._doorway.counters.add(counter)
        self._have_head()
        self.transport.abort()

"""HTTP connections that get to the point: a request's head is whole within seconds, its answer is read, and what waits
longest gives way when there are too many."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cloud.api.rim import MOST_BODY_BYTES, SECURITY_HEADERS
from cloud.counters import Counters
from cloud.sign_in_limits import network_of

# A head is one packet. Ten seconds let three of TCP's own resends pass (RFC 6298: 1 + 2 + 4 s).
_HEAD_S = 10.0
# The buffer of a connection takes a second over 512 kbit/s; a reader slower than 26 kbit/s reads no answer.
_STALL_S, _LEAST_READ_BYTES = 10.0, 32 * 1024
# 200 of them for the listener of boxes, the others for the store, the broker and files.
_OTHER_DESCRIPTORS = 324
# 30 KB each: 300 MB, whatever the descriptors allow.
_MOST_CONNECTIONS = 10_000
# A hospital behind one address: 160 screens that are opened at once, six connections a browser.
_MOST_PER_SOURCE = 1000


class Doorway:
    """What the connections of one server share: who is connected, from where, and who has not asked anything yet."""

    def __init__(
        self,
        counters: Counters,
        *,
        head_s: float = _HEAD_S,
        stall_s: float = _STALL_S,
        most_connections: int | None = None,
    ) -> None:
        self.counters, self.head_s, self.stall_s = counters, head_s, stall_s
        self.most_connections = most_connections or _allowed_connections()
        # Half: one source cannot shut out the others. Open screens are not counted here, they are limited by sign-in.
        self.most_per_source = min(_MOST_PER_SOURCE, max(1, self.most_connections // 2))
        # The longest waiting first.
        self.half_open: dict[HastyProtocol, None] = {}
        self.by_source: dict[str, dict[HastyProtocol, None]] = {}

    def enter(self, newcomer: HastyProtocol, source: str, connections: int) -> None:
        """Makes room for one more: the oldest that has not asked anything gives way, else the oldest of the greediest.

        The newcomer itself only when no other can.
        """
        mine = self.by_source.setdefault(source, {})
        mine[newcomer] = None
        if len(mine) > self.most_per_source:
            self._drop_one((one for one in mine if one in self.half_open), mine, newcomer)
        elif connections > self.most_connections:
            greediest = max(self.by_source.values(), key=len)
            self._drop_one(self.half_open, greediest, newcomer)

    def leave(self, one: HastyProtocol, source: str) -> None:
        """It is closed, or a channel that stays open."""
        mine = self.by_source.get(source, {})
        mine.pop(one, None)
        if not mine:
            self.by_source.pop(source, None)

    def _drop_one(
        self, waiting: Iterable[HastyProtocol], rest: Iterable[HastyProtocol], newcomer: HastyProtocol
    ) -> None:
        for among in (waiting, rest):
            for one in among:
                if one is not newcomer:
                    one.give_up("http_connections_crowded_out")
                    return
        newcomer.give_up("http_connections_crowded_out")


def _allowed_connections() -> int:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, max(1, descriptors - _OTHER_DESCRIPTORS))


class HastyProtocol(H11Protocol):
    """One connection. Holding many of them half open, or their answers unread, shuts nobody out."""

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
        self._reader_due: asyncio.TimerHandle | None = None
        self._unwritten_bytes = 0
        self._source = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self._await_head()
        self._source = network_of(self.client[0]) if self.client else ""
        self._doorway.enter(self, self._source, len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stops waiting when the head is whole, and waits again for the next one on the same connection."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_answered_early():
            self._unread_bytes += len(data)
            if self._unread_bytes > MOST_BODY_BYTES:
                self.give_up("http_bodies_unread")
        elif self.conn.their_state is not h11.IDLE:
            self._have_head()
        elif self._head_due is None:
            self._await_head()

    def on_response_complete(self) -> None:
        """As uvicorn's; a body that nobody reads any more ends soon or is cut off, and is not read for ever."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()
        elif self._is_answered_early():
            self._unread_bytes = 0
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, with our headers."""
        self._doorway.counters.add("http_malformed")
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close"), *SECURITY_HEADERS.items()]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn's; what is closed still has to be read."""
        super().timeout_keep_alive_handler()
        self._await_reader()

    def pause_writing(self) -> None:
        """As uvicorn's; whoever does not read on is not waited for."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """As uvicorn's."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._have_reader()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """As uvicorn's; from here on the connection is no longer ours."""
        self._wait_no_more()
        super().handle_websocket_upgrade(event)

    def give_up(self, counter: str) -> None:
        """Drops the connection, and counts why."""
        self._doorway.counters.add(counter)
        self._wait_no_more()
        self.transport.abort()

    def _is_answered_early(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _await_head(self) -> None:
        self._have_head()
        self._doorway.half_open[self] = None
        self._head_due = self.loop.call_later(self._doorway.head_s, self.give_up, "http_heads_too_slow")

    def _have_head(self) -> None:
        self._doorway.half_open.pop(self, None)
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _await_reader(self) -> None:
        if self._reader_due is None:
            self._unwritten_bytes = self.transport.get_write_buffer_size()
            self._reader_due = self.loop.call_later(self._doorway.stall_s, self._look_at_reader)

    def _look_at_reader(self) -> None:
        self._reader_due = None
        left_bytes = self.transport.get_write_buffer_size()
        if left_bytes > self._unwritten_bytes - _LEAST_READ_BYTES:
            self.give_up("http_answers_unread")
        else:
            self._await_reader()

    def _have_reader(self) -> None:
        if self._reader_due is not None:
            self._reader_due.cancel()
            self._reader_due = None

    def _wait_no_more(self) -> None:
        self._have_head()
        self._have_reader()
        self._doorway.leave(self, self._source)

"""The outermost layer of the application: limits before anything is read or allocated, headers on every answer.

Every request and WebSocket passes here before its route is looked for, and every answer, errors too, on its way out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

import orjson
from fastapi.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.api.audit import Audit
from cloud.api.auth import VOUCH, offered_credentials, source_of
from cloud.api.rates import Rates
from cloud.counters import Counters
from cloud.store.database import StoreUnavailable

SECURITY_HEADERS = {
    # Everything a screen needs comes from here; a WebSocket of the same origin is part of 'self'.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "font-src 'self'; media-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A year, as hstspreload.org asks at least; only said by TLS, where browsers heed it.
_TLS_HEADERS = {"Strict-Transport-Security": "max-age=31536000"}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_RAW_TLS_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _TLS_HEADERS.items()]

# The longest of ours is an identity provider's way back, whose parts may have 5,200 characters.
MOST_URL_BYTES = 8 * 1024
MOST_HEADER_BYTES = 16 * 1024
# The longest of ours is a configuration for a box, 388 KiB when every character is escaped.
MOST_BODY_BYTES = 512 * 1024
# That, over a link of 512 kbit/s; what is slower holds a connection and no more.
BODY_S = 10.0
# Screens open on one sign-in or token at a time.
MOST_SOCKETS = 64


class BeyondLimit(Exception):
    """The request is refused, by this layer or by the route that was reading its body; a status and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Bounds:
    """Wraps an application in limits of size and time."""

    def __init__(self, app: ASGIApp, counters: Counters, *, body_s: float = BODY_S) -> None:
        self._app, self._counters, self._body_s = app, counters, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket."""
        assert scope["type"] in ("http", "websocket"), "the server is run without lifespan"
        answer = _Answer(scope, send)
        try:
            self._check_size(scope)
            await self._serve(scope, receive, answer)
        except BeyondLimit as refusal:
            self._counters.add(_counter(refusal))
            await answer.refuse(refusal.status, refusal.reason)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        bounded = _Body(receive, self._counters, self._body_s) if scope["type"] == "http" else receive
        await self._app(scope, bounded, answer.send)

    def _check_size(self, scope: Scope) -> None:
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_URL_BYTES:
            raise BeyondLimit(414, f"the address has more than {MOST_URL_BYTES} bytes")
        if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MOST_HEADER_BYTES:
            raise BeyondLimit(431, f"the headers have more than {MOST_HEADER_BYTES} bytes")
        for name, value in scope["headers"]:
            if name == b"content-length" and (len(value) > 12 or int(value) > MOST_BODY_BYTES):
                raise BeyondLimit(413, _TOO_LARGE)


class Rim(Bounds):
    """Wraps the API: rates and open screens are limited too."""

    def __init__(self, app: ASGIApp, rates: Rates, audit: Audit, counters: Counters, *, body_s: float = BODY_S) -> None:
        super().__init__(app, counters, body_s=body_s)
        self._rates, self._audit = rates, audit
        self._sockets: Counter[bytes] = Counter()

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        connection = HTTPConnection(scope)
        offered = offered_credentials(connection)
        scope[VOUCH] = self._rates.vouch
        await self._check_rate(source_of(connection), offered)
        if scope["type"] == "http":
            await super()._serve(scope, receive, answer)
        else:
            await self._serve_socket(scope, receive, answer, offered or [source_of(connection).encode()])

    async def _check_rate(self, source: str, offered: Iterable[bytes]) -> None:
        wait = self._rates.take(source, offered)
        if wait is None:
            return
        if wait.is_news:
            try:
                await self._audit.write("", "", "too many requests", "", source, "limited")
            except StoreUnavailable:
                self._counters.add("requests_limited_unwritten")  # nothing is shown: it is refused all the same
        raise BeyondLimit(429, "too many requests")

    async def _serve_socket(self, scope: Scope, receive: Receive, answer: _Answer, offered: list[bytes]) -> None:
        key, good = offered[0], set[bytes]()
        if self._sockets[key] >= MOST_SOCKETS:
            raise BeyondLimit(429, f"{MOST_SOCKETS} screens are open on this sign-in")

        def vouch(credential: bytes) -> None:
            good.add(credential)
            self._rates.vouch(credential)

        scope[VOUCH] = vouch
        self._sockets[key] += 1
        try:
            await super()._serve(scope, receive, answer)
        finally:
            for credential in good:  # a wall screen may ask nothing for a shift, and must be let in again
                self._rates.vouch(credential)
            self._sockets[key] -= 1
            if not self._sockets[key]:
                del self._sockets[key]


_TOO_LARGE = f"the body has more than {MOST_BODY_BYTES} bytes"


class _Answer:
    """What goes out, with our headers."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        is_tls = scope["scheme"] in ("https", "wss")
        self._headers = _RAW_HEADERS + _RAW_TLS_HEADERS if is_tls else _RAW_HEADERS

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            ours = {name for name, _ in self._headers}
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in ours]
            message = {**message, "headers": kept + self._headers}
        try:
            await self._send(message)
        except RuntimeError as error:
            if self._scope["type"] != "websocket":
                raise
            # uvicorn's word for a peer that closed during the handshake: to the route it is one that went away.
            raise OSError(str(error)) from error

    async def refuse(self, status: int, reason: str) -> None:
        if self._scope["type"] == "websocket":
            if "websocket.http.response" not in self._scope.get("extensions", {}):
                await self._send({"type": "websocket.close", "code": 1008})
                return
            kind = "websocket.http.response"
        else:
            kind = "http.response"
        content = orjson.dumps({"error": reason})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        # What was refused may not have been read: the connection cannot go on behind it.
        headers.append((b"retry-after", b"1") if status == 429 else (b"connection", b"close"))
        await self.send({"type": f"{kind}.start", "status": status, "headers": headers})
        await self.send({"type": f"{kind}.body", "body": content})


class _Body:
    """What comes in: no more and no longer than any honest body, whatever its header promised."""

    def __init__(self, receive: Receive, counters: Counters, body_s: float) -> None:
        self._body_s = body_s
        self._receive, self._counters = receive, counters
        self._read_bytes = 0
        self._is_whole = False
        self._ends_s: float | None = None

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()  # the end of the connection
        loop = asyncio.get_running_loop()
        if self._ends_s is None:
            self._ends_s = loop.time() + self._body_s
        try:
            async with asyncio.timeout_at(self._ends_s):
                message = await self._receive()
        except TimeoutError:
            raise self._refusal(408, f"the body took longer than {self._body_s:g} s") from None
        self._read_bytes += len(message.get("body", b""))
        if self._read_bytes > MOST_BODY_BYTES:
            raise self._refusal(413, _TOO_LARGE)
        self._is_whole = not message.get("more_body", False)
        return message

    def _refusal(self, status: int, reason: str) -> BeyondLimit:
        """For the route that reads: the application answers, so it is counted here."""
        refusal = BeyondLimit(status, reason)
        self._counters.add(_counter(refusal))
        return refusal


def _counter(refusal: BeyondLimit) -> str:
    return {408: "requests_too_slow", 429: "requests_limited"}.get(refusal.status, "requests_too_large")

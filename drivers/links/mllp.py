"""MLLP: HL7 messages over TCP. We listen and the monitor connects (DEVICES.md §6).

`MllpFramer` is pure: bytes in, messages out. `MllpLink` owns the listening socket and serves one monitor at a time.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from drivers.driver import LinkLost
from drivers.links.peers import Peers, parse_peers
from wire.clock import Clock
from wire.messages import DecodeError

_log = logging.getLogger(__name__)

DEFAULT_PORT = 2575  # IANA: hl7
# Half a second of twelve leads at 1000 Hz is about 50 KiB; a message a hundred times that is an attack or a fault.
MAX_MESSAGE_BYTES = 1024 * 1024
READ_BYTES = 64 * 1024
SILENCE_S = 60.0
# A message without framing ends with silence: monitors write one in a burst, and the next is a second away.
QUIET_S = 0.5
SEND_TIMEOUT_S = 10.0

_START = 0x0B
_BARE_START = b"MSH|"
_FRAMED_END = re.compile(rb"[\x0b\x1c]")
_BARE_END = re.compile(rb"[\x0b\x1c]|(?<=[\r\n])MSH\|")
# The longest end mark together with the byte before it, less one: what may straddle two reads.
_OVERLAP = len(_BARE_START)


class ListenError(OSError):
    """The address cannot be listened on; the message names it."""


class MllpFramer:
    """Cuts a byte stream into messages; the same bytes give the same messages however they are chunked.

    `faults` names what was dropped since it was last emptied. A framed message ends with 1C (the final 0D may be
    missing); one without framing ends at the next MSH line, or when `flush` says that the line is quiet.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.faults: list[str] = []
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._scanned = 0  # nothing before this place ends the message
        self._end: re.Pattern[bytes] | None = None  # what ends the open message; None between messages
        self._oversized = False
        self._in_garbage = False

    @property
    def is_bare_open(self) -> bool:
        """Whether a message without framing is open, so that silence means something."""
        return self._end is _BARE_END

    def feed(self, received: bytes) -> list[bytes]:
        """The messages completed by these bytes, without framing."""
        self._buffer += received
        messages: list[bytes] = []
        while self._open() and self._close(messages):
            pass
        return messages

    def flush(self, *, ended: bool) -> list[bytes]:
        """What silence completes. `ended`: the peer closed, so even a last line without its end is whole."""
        messages: list[bytes] = []
        if self.is_bare_open and (ended or self._buffer.endswith((b"\r", b"\n"))):
            self._finish(len(self._buffer), messages)
        elif ended and self._end is not None:
            self._abandon()
        return messages

    def _open(self) -> bool:
        """Finds the start of the next message, dropping what lies before it."""
        if self._end is not None:
            return True
        framed, bare = self._buffer.find(_START), self._buffer.find(_BARE_START)
        starts = [at for at in (framed, bare) if at >= 0]
        # Without a start, the last bytes may be the first half of one.
        at = min(starts) if starts else max(0, len(self._buffer) - len(_BARE_START) + 1)
        if self._buffer[:at].strip(b"\x1c\r\n\t \x00") and not self._in_garbage:
            self._in_garbage = True
            self.faults.append("mllp bytes outside a message")
        del self._buffer[:at]
        if not starts:
            return False
        self._in_garbage = False
        if at == framed:
            self._end = _FRAMED_END
            del self._buffer[:1]
            self._scanned = 0
        else:
            self._end = _BARE_END
            self._scanned = len(_BARE_START)
        return True

    def _close(self, messages: list[bytes]) -> bool:
        """Finds the end of the open message; False when more bytes are needed."""
        assert self._end is not None
        found = self._end.search(self._buffer, self._scanned)
        if found is None:
            if len(self._buffer) > self._max_bytes + _OVERLAP:
                self._oversized = True
            if self._oversized:
                del self._buffer[:-_OVERLAP]
            self._scanned = max(0, len(self._buffer) - _OVERLAP)
            return False
        if self._end is _FRAMED_END and self._buffer[found.start()] == _START:
            # A new message began before this one ended: half a message may hold half a number, so it is not read.
            del self._buffer[: found.start()]
            self._abandon()
            return True
        self._finish(found.start(), messages)
        return True

    def _finish(self, length: int, messages: list[bytes]) -> None:
        if self._oversized or length > self._max_bytes:
            self.faults.append("mllp message too large")
        elif message := bytes(self._buffer[:length]).strip(b"\r\n"):
            messages.append(message)
        del self._buffer[:length]
        self._end, self._scanned, self._oversized = None, 0, False

    def _abandon(self) -> None:
        self.faults.append("mllp message too large" if self._oversized else "mllp message cut short")
        self._end, self._scanned, self._oversized = None, 0, False


class _Connection:
    """One accepted monitor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.framer = MllpFramer()
        peer = writer.get_extra_info("peername") or ("unknown", 0)
        self.host = str(peer[0])
        self.name = f"{peer[0]}:{peer[1]}"


class MllpLink:
    """A listening socket and the one monitor that speaks through it now.

    A newer connection replaces the older, because the older is most often half open; one from an address that is not
    among the peers is dropped before it is read, and told as a DecodeError. After LinkLost the same link
    serves the next connection: a session that keeps it open never turns a waiting monitor away. Nothing is queued
    but the messages of one read; TCP holds the monitor back meanwhile.
    """

    def __init__(self, clock: Clock, silence_s: float, peers: Peers) -> None:
        self._clock = clock
        self._peers = peers
        self._strangers = 0  # turned away and not told yet
        self._has_warned = False
        self._silence_s = silence_s
        self._newest: _Connection | None = None
        self._active: _Connection | None = None
        self._arrived = asyncio.Event()
        self._messages: deque[bytes] = deque()
        self._faults: deque[str] = deque()
        self.address: tuple[str, int] = ("", 0)
        self.arrived_us = 0

    @property
    def peer(self) -> str:
        """The monitor's address for logs; empty while none is connected."""
        connection = self._active or self._newest
        return connection.name if connection else ""

    async def receive(self) -> bytes:
        """The next message without framing; `arrived_us` then says when its last bytes came.

        Waits without limit for a monitor to connect, and at most `silence_s` for one that is connected. Raises
        DecodeError for bytes that had to be dropped, and LinkLost when the monitor is gone.
        """
        while True:
            if self._messages:
                return self._messages.popleft()
            if self._faults:
                raise DecodeError(self._faults.popleft())
            if self._strangers:
                self._strangers -= 1
                raise DecodeError("mllp peer not allowed")
            # No time limit: a monitor that is switched off is no fault of the socket, and reopening would not help.
            connection = self._active or await self._next_connection()
            if connection is not None:
                await self._read(connection)

    async def send(self, message: bytes) -> None:
        """Sends one message, framed, to the monitor that was last received from. Raises LinkLost."""
        connection = self._active
        if connection is None or connection.writer.is_closing():
            raise self._lost("gone before the answer")
        try:
            connection.writer.write(b"\x0b" + message + b"\x1c\r")
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await connection.writer.drain()
        except TimeoutError:
            raise self._lost(f"took no answer for {SEND_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise self._lost(str(error)) from error

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A monitor connected: it takes the place of the one before."""
        connection = _Connection(reader, writer)
        if not self._peers.allows(connection.host):
            self._turn_away(connection)
            return
        if (older := self._newest) is not None and not older.writer.is_closing():
            _log.warning("monitor %s is replaced by %s", older.name, connection.name)
            older.writer.transport.abort()
        else:
            _log.info("monitor %s connected", connection.name)
        self._newest = connection
        self._arrived.set()

    def _turn_away(self, connection: _Connection) -> None:
        connection.writer.transport.abort()
        self._strangers += 1
        self._arrived.set()
        if not self._has_warned:  # the others are counted
            self._has_warned = True
            _log.warning("%s is not among the peers of this monitor's link and is turned away", connection.name)

    def close(self) -> None:
        """Drops every connection."""
        for connection in (self._active, self._newest):
            if connection is not None:
                connection.writer.transport.abort()
        self._active = self._newest = None

    async def _next_connection(self) -> _Connection | None:
        """The monitor that connects, or None when somebody else did."""
        while self._newest is None:
            if self._strangers:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        self._active = self._newest
        return self._active

    async def _read(self, connection: _Connection) -> None:
        """Reads once and keeps what it completed."""
        framer = connection.framer
        try:
            received = await self._read_some(connection)
        except TimeoutError:
            raise self._lost(f"silent for {self._silence_s:g} s") from None
        except OSError as error:
            raise self._lost(str(error)) from error
        if received is None:
            return
        if received:
            self.arrived_us = self._clock.now_us()
            self._keep(framer, framer.feed(received))
        else:
            # Only the monitor's own end makes a last line whole; a connection that we dropped may be cut anywhere.
            self._keep(framer, framer.flush(ended=not connection.writer.is_closing()))
            if not self._messages and not self._faults:
                connection.writer.close()  # it may still be reading our answers
                raise self._lost("closed the connection")

    async def _read_some(self, connection: _Connection) -> bytes | None:
        """The next bytes, b"" at the end, None when the line went quiet inside a message without framing."""
        waiting_s = self._silence_s
        if connection.framer.is_bare_open:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(QUIET_S, waiting_s)):
                    return await connection.reader.read(READ_BYTES)
            self._keep(connection.framer, connection.framer.flush(ended=False))
            if self._messages or self._faults:
                return None
            waiting_s = max(0.0, waiting_s - QUIET_S)
        async with asyncio.timeout(waiting_s):
            return await connection.reader.read(READ_BYTES)

    def _keep(self, framer: MllpFramer, messages: list[bytes]) -> None:
        self._messages.extend(messages)
        self._faults.extend(framer.faults)
        framer.faults.clear()

    def _lost(self, why: str) -> LinkLost:
        """Closes the active connection and says why."""
        connection, self._active = self._active, None
        self._messages.clear()
        self._faults.clear()
        if connection is None:
            return LinkLost(f"monitor: {why}")
        if not connection.writer.is_closing():
            connection.writer.transport.abort()
        if self._newest is connection:
            self._newest = None
        elif self._newest is not None:
            why = f"replaced by {self._newest.name}"
        return LinkLost(f"monitor {connection.name}: {why}")


def parse_listen(listen: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `:port` (every address) or `host` as host and port. Raises ValueError."""
    match = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]\s]*))(?::(?P<port>[0-9]{1,5}))?", listen)
    port = int(match["port"] or DEFAULT_PORT) if match else -1
    if match is None or not listen or not 0 <= port <= 65535:
        raise ValueError(f"listen {listen!r}: host:port is expected, such as 0.0.0.0:{DEFAULT_PORT}")
    return match["v6"] or match["host"] or "", port


@asynccontextmanager
async def open_mllp(
    listen: str, clock: Clock, *, silence_s: float = SILENCE_S, peers: Sequence[str] = ()
) -> AsyncIterator[MllpLink]:
    """Listens on `host:port` until left, to `peers` alone unless there are none.

    Raises ValueError for a bad address, ListenError when it cannot be had.
    """
    host, port = parse_listen(listen)
    link = MllpLink(clock, silence_s, parse_peers(peers))
    try:
        # `limit` bounds what asyncio reads ahead: beyond twice that it stops reading, and TCP slows the monitor.
        server = await asyncio.start_server(link.accept, host or None, port, limit=READ_BYTES)
    except OSError as error:
        raise ListenError(error.errno, f"cannot listen on {listen}: {error.strerror or error}") from error
    try:
        link.address = server.sockets[0].getsockname()[:2]
        _log.info("waiting for a monitor on %s:%d", *link.address)
        yield link
    finally:
        server.close()
        link.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await server.wait_closed()

"""A way to a broker that passes on bytes it cannot read: it can be slow in what a box says first, and be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SlowWay:
    """`async with slow_way(...)` opens it."""

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self.first_held_s = 0.0
        self._broker_port = broker_port
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends every connection at once, without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        both = {writer, to_broker}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass(reader, to_broker, self.first_held_s))
                tasks.create_task(_pass(from_broker, writer, 0.0))
        finally:
            self._writers -= both


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held_s: float) -> None:
    try:
        while piece := await reader.read(64 * 1024):
            await asyncio.sleep(held_s)
            held_s = 0.0
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def slow_way(broker_port: int) -> AsyncIterator[SlowWay]:
    """A way on a free port of its own."""
    way = SlowWay(broker_port)
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        way.cut()

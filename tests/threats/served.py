"""A running API: the application of a cloud on a real socket, asked byte by byte or as a client asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fastapi import FastAPI

from cloud.api.hasty import Doorway
from cloud.api.server import ApiServer, listen
from cloud.config import ApiConfig, TlsConfig
from cloud.counters import Counters
from vitalwire.stage import free_port


class Served(NamedTuple):
    """Where it listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def raw(self, request: bytes) -> bytes:
        """What comes back for these very bytes until the server closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def get(self, target: str, *headers: str) -> bytes:
        """One request whose target no client has tidied."""
        lines = [f"GET {target} HTTP/1.1", f"Host: {self.host}:{self.port}", "Connection: close", *headers, "", ""]
        return await self.raw("\r\n".join(lines).encode("latin-1"))


@asynccontextmanager
async def served(app: FastAPI, doorway: Doorway | None = None, tls: TlsConfig | None = None) -> AsyncIterator[Served]:
    """The server answers when this is entered and is gone when it is left."""
    port = free_port()
    config = ApiConfig(listen=f"127.0.0.1:{port}", tls=tls)
    running = asyncio.create_task(ApiServer(app, config, listen(config), doorway or Doorway(Counters())).run())
    try:
        yield Served("127.0.0.1", port)
    finally:
        running.cancel()
        await asyncio.wait([running])

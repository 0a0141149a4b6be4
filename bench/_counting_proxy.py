"""Stands between gateways and their broker and notes when each connection was asked for and when it was accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from vitalwire.stage import free_port

# MQTT 3.1.1 §3.2: CONNACK, its remaining length, flags, and the code 0 for an accepted connection.
_CONNACK = b"\x20\x02"
_ACCEPTED = 0
_PROBE_S = 0.02


class CountingProxy:
    """A TCP proxy on the loopback address; adds nothing to the bytes and keeps none.

    It listens only while the broker does: knocking in vain then looks to a gateway as it would without a proxy.
    """

    def __init__(self, broker_port: int) -> None:
        self.asked_s: list[float] = []
        self.accepted_s: list[float] = []
        self.port = free_port()
        self._broker_port = broker_port
        self._server: asyncio.Server | None = None

    async def run(self) -> None:
        """Listens whenever the broker does, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                if self._server is None and await self._has_broker():
                    # Every gateway may knock in the same instant: none must wait for a retry of its SYN.
                    self._server = await loop.create_server(
                        lambda: _Gateway(self), "127.0.0.1", self.port, backlog=4096
                    )
                await asyncio.sleep(_PROBE_S)
        finally:
            self.close()

    async def _has_broker(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:
            return False
        writer.close()
        return True

    def close(self) -> None:
        """Ends listening; connections end with their broker."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def connect(self, gateway: _Gateway) -> None:
        """Opens the way to the broker, or closes the gateway's when there is no broker."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Broker(self, gateway), "127.0.0.1", self._broker_port)
        except OSError:
            self.close()
            gateway.close()


class _Gateway(asyncio.Protocol):
    """The gateway's side; what it says before the broker is there waits (a CONNECT, at most)."""

    def __init__(self, proxy: CountingProxy) -> None:
        self._proxy = proxy
        self._broker: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._proxy.asked_s.append(time.monotonic())
        self._connecting = asyncio.ensure_future(self._proxy.connect(self))

    def data_received(self, data: bytes) -> None:
        if self._broker is None:
            self._early.append(data)
        else:
            self._broker.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._broker is not None:
            self._broker.close()

    def reached(self, broker: asyncio.Transport) -> None:
        """The broker took the connection."""
        self._broker = broker
        broker.writelines(self._early)
        self._early.clear()
        if self.transport is None or self.transport.is_closing():
            broker.close()

    def broker_lost(self) -> None:
        """The broker ended it, unless the gateway did: one lost so may be the first of all."""
        if self.transport is not None and not self.transport.is_closing():
            self._proxy.close()
        self.close()

    def close(self) -> None:
        """Ends the gateway's connection."""
        if self.transport is not None:
            self.transport.close()


class _Broker(asyncio.Protocol):
    """The broker's side."""

    def __init__(self, proxy: CountingProxy, gateway: _Gateway) -> None:
        self._proxy = proxy
        self._gateway = gateway
        self._has_spoken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._gateway.reached(transport)

    def data_received(self, data: bytes) -> None:
        if not self._has_spoken:
            self._has_spoken = True
            if data.startswith(_CONNACK) and data[3:4] == bytes((_ACCEPTED,)):
                self._proxy.accepted_s.append(time.monotonic())
        if self._gateway.transport is not None:
            self._gateway.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._gateway.broker_lost()


def peak_per_s(times_s: Sequence[float]) -> int:
    """The most of them in any one second; `times_s` ascending, monotonic."""
    most = first = 0
    for last, time_s in enumerate(times_s):
        while time_s - times_s[first] > 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most

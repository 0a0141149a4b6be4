"""A running broker of each kind, with the configuration of a cloud that uses it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import aiomqtt
import msgspec

from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.config import INGEST_USER, BrokerConfig, BrokerKind, CloudConfig, parse_address
from tests.cloud.cloud_frames import gateway_client
from vitalwire import mosquitto
from vitalwire.stage import Part

HAS_MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is not None
KINDS = ("nats-server", "mosquitto")


class Site(Protocol):
    """What a test of the cloud needs of its broker."""

    config: CloudConfig

    async def keep(self) -> None:
        """Starts the broker again whenever it dies."""

    def kill(self) -> None:
        """kill -9 of the broker."""


class NatsSite:
    def __init__(self, config: CloudConfig, broker: Broker) -> None:
        self.config, self._broker = config, broker

    async def keep(self) -> None:
        await self._broker.run()

    def kill(self) -> None:
        os.kill(int((self.config.state_path / "broker.pid").read_text()), signal.SIGKILL)


class MosquittoSite:
    def __init__(self, config: CloudConfig, part: Part) -> None:
        self.config, self._part = config, part

    async def keep(self) -> None:
        await self._part.keep()

    def kill(self) -> None:
        self._part.kill()


@asynccontextmanager
async def open_site(kind: str, config: CloudConfig, folder: Path, *, also: str = "") -> AsyncIterator[Site]:
    """The broker answers when this is entered and is gone when it is left; `also` is one more user of a Mosquitto."""
    if kind == "nats-server":
        async with Broker(config) as broker:
            yield NatsSite(config, broker)
        return
    port = parse_address(config.broker.mqtt_listen).port
    users = [gateway.id for gateway in config.gateways] + ([also] if also else [])
    mosquitto.write(folder, port, config.state_path, users)
    part = Part("mosquitto", mosquitto.command(folder), folder / "mosquitto.log")
    await part.start()
    try:
        broker = BrokerConfig(
            kind=BrokerKind.MQTT,
            endpoint=f"mqtt://127.0.0.1:{port}",
            user=INGEST_USER,
            password_file=str(password_path(config.state_path, INGEST_USER)),
        )
        site = MosquittoSite(msgspec.structs.replace(config, broker=broker), part)
        await answering(site)
        yield site
    finally:
        await part.stop()


async def answering(site: Site) -> None:
    """Waits until gateways can connect."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with gateway_client(site.config, "gw-2"):
                    return
            except aiomqtt.MqttError:
                await asyncio.sleep(0.02)

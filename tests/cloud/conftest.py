from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloud.access_config import AccessConfig, AccessMode
from cloud.bus.broker import Broker
from cloud.config import ApiConfig, BrokerConfig, CloudConfig, GatewayConfig
from cloud.store.location import StoreLocation
from tests.cloud.postgres_server import HOW_TO_INSTALL, PostgresServer, find_binaries
from tests.cloud.sites import HAS_MOSQUITTO, KINDS, Site, open_site


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path) -> CloudConfig:
    return CloudConfig(
        access=AccessConfig(mode=AccessMode.DEMO),
        state_dir=str(tmp_path / "state"),
        broker=BrokerConfig(
            mqtt_listen=f"127.0.0.1:{free_port()}",
            client_listen=f"127.0.0.1:{free_port()}",
            buffer_max_bytes=64 << 20,
        ),
        api=ApiConfig(listen=f"127.0.0.1:{free_port()}"),
        gateways=(GatewayConfig("gw-1"), GatewayConfig("gw-2")),
    )


@pytest.fixture
async def broker(config: CloudConfig) -> AsyncIterator[Broker]:
    async with Broker(config) as running:
        yield running


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest, config: CloudConfig, tmp_path: Path) -> AsyncIterator[Site]:
    """Each test over both kinds of broker."""
    if request.param == "mosquitto" and not HAS_MOSQUITTO:
        pytest.skip("no mosquitto here: apt-get install mosquitto")
    async with open_site(request.param, config, tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
async def mosquitto_site(config: CloudConfig, tmp_path: Path) -> AsyncIterator[Site]:
    """For what only a broker of the site does."""
    if not HAS_MOSQUITTO:
        pytest.skip("no mosquitto here: apt-get install mosquitto")
    async with open_site("mosquitto", config, tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(HOW_TO_INSTALL)
    server = PostgresServer(binaries, free_port())
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    """Where an empty store may lie: a test that takes this passes on every engine."""
    if request.param == "sqlite":
        return tmp_path / "store.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.empty_store()

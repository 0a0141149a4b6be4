"""A whole cloud with enrolment, the two commands as people call them, and an agent with what they gave it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.config import CloudConfig, parse_address
from cloud.store.database import Database
from tests.cloud.enrolment_site import with_enrolment
from tests.cloud.test_app import cloud
from tests.cloud.test_downlink import box
from vitalwire.__main__ import main


class EnrolledCloud:
    """It runs; its configuration and one box's lie in files beside."""

    def __init__(
        self,
        config: CloudConfig,
        folder: Path,
        url: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.config, self.folder, self.url = config, folder, url
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.cloud_toml, self.edge_toml = folder / "cloud.toml", folder / "edge.toml"
        assert config.enrolment is not None
        self.enrol_url = f"https://localhost:{parse_address(config.enrolment.listen).port}"
        broker, api = config.broker, config.api
        self.cloud_toml.write_text(
            f'state_dir = "{config.state_dir}"\n[access]\nmode = "demo"\n'
            f'[broker]\nmqtt_listen = "{broker.mqtt_listen}"\n'
            f'client_listen = "{broker.client_listen}"\n[api]\nlisten = "{api.listen}"\n'
            f'[enrolment]\nnames = ["localhost"]\nlisten = "{config.enrolment.listen}"\n'
            '[[gateways]]\nid = "gw-1"\n[[gateways]]\nid = "gw-2"\n'
        )
        self.edge_toml.write_text(self.edge_text())

    def edge_text(self, more: str = "", endpoint: str = "") -> str:
        port = parse_address(self.config.broker.mqtt_listen).port
        return (
            f'gateway = "gw-1"\nstate_dir = "{self.folder / "box"}"\n{more}'
            f'identity_dir = "{self.folder / "identity"}"\n'
            f'[uplink]\nendpoints = ["{endpoint or f"mqtts://localhost:{port}"}"]\nbackoff_cap_s = 0.5\n'
        )

    async def call(self, *arguments: str, say: str = "") -> tuple[int, str, str]:
        """The exit code, and what was printed."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(say + "\n"))
        code = await asyncio.to_thread(main, arguments)
        read = self._capsys.readouterr()
        return code, read.out, read.err

    async def code(self, gateway: str = "gw-1") -> tuple[str, str]:
        """A one-time code, and the authority's fingerprint."""
        exit_code, out, err = await self.call("enrolment", "-c", str(self.cloud_toml), "code", gateway)
        assert exit_code == 0, err
        code, fingerprint = (line.partition(": ")[2] for line in out.splitlines())
        return code, fingerprint

    async def enrol(self, code: str, *known: str) -> tuple[int, str, str]:
        """What the box answers to a code."""
        return await self.call("enrol", "-c", str(self.edge_toml), "--url", self.enrol_url, *known, say=code)

    async def enrolled(self) -> None:
        """The box is known from now on."""
        code, fingerprint = await self.code()
        exit_code, _, err = await self.enrol(code, "--ca-fingerprint", fingerprint)
        assert exit_code == 0, err

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[httpx.AsyncClient]:
        """The box runs, and a client asks the cloud about it."""
        async with httpx.AsyncClient(base_url=self.url) as client, box(self.edge_toml):
            yield client

    @contextmanager
    def store(self) -> Iterator[Database]:
        """What the cloud wrote down."""
        database = Database(self.config.state_path / "store.sqlite")
        try:
            yield database
        finally:
            database.close()


async def state_of(client: httpx.AsyncClient) -> Any:
    """What the fleet's screen says of the first box."""
    return (await client.get("/api/v1/fleet")).json()["gateways"][0]["state"]


@pytest.fixture
async def enrolled_cloud(
    config: CloudConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[EnrolledCloud]:
    config = with_enrolment(config)
    async with cloud(config) as url:
        yield EnrolledCloud(config, tmp_path, url, monkeypatch, capsys)

"""The server itself, over a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.hasty import Doorway
from cloud.api.server import ApiServer, listen
from cloud.config import ApiConfig
from cloud.counters import Counters
from cloud.store.database import Database
from tests.cloud.api.apps import audited, build
from tests.cloud.conftest import free_port

FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("proxies", "source"),
    [((), "127.0.0.1"), (("10.0.0.5",), "127.0.0.1"), (("10.0.0.5", "127.0.0.1"), "203.0.113.9")],
)
async def test_only_a_configured_proxy_says_who_asks(
    tmp_path: Path, proxies: tuple[str, ...], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    database = Database(tmp_path / "store.sqlite")
    config = ApiConfig(listen=f"127.0.0.1:{free_port()}", trusted_proxies=proxies)
    app = build(database, AccessConfig(mode=AccessMode.ACCOUNTS))
    serving = asyncio.ensure_future(ApiServer(app, config, listen(config), Doorway(Counters())).run())
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://{config.listen}/api/v1/sessions", headers=FORWARDED)).status_code == 401
    serving.cancel()
    await asyncio.wait([serving])
    assert [row[3] for row in audited(database)] == [source]
    database.close()

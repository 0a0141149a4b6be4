"""Commands the whole way: a real cloud, a real broker, a real box."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from cloud.bus.broker_config import password_path
from cloud.bus.jetstream import connect_bare
from cloud.config import CloudConfig
from cloud.store import account
from cloud.store.database import Database
from edge import agent
from tests.cloud.cloud_frames import gateway_client
from tests.cloud.test_app import cloud
from vitalwire.__main__ import main
from wire import topics
from wire.clock import SystemClock
from wire.commands import Command
from wire.messages import Presence, decode_frame, encode_frame

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]


@asynccontextmanager
async def box(path: Path) -> AsyncIterator[None]:
    """An agent in this process, as `vitalwire edge -c` runs it."""
    ready = asyncio.Event()
    running = asyncio.create_task(agent.keep(path, ready=ready.set))
    try:
        await asyncio.wait([running, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()


def edge_toml(config: CloudConfig, folder: Path, more: str = "", endpoint: str = "") -> str:
    return (
        f'gateway = "gw-1"\nstate_dir = "{folder / "box"}"\n{more}'
        f'[uplink]\nendpoints = ["{endpoint or f"mqtt://{config.broker.mqtt_listen}"}"]\n'
        f'password_file = "{password_path(config.state_path, "gw-1")}"\nbackoff_cap_s = 0.5\n'
    )


async def issue(client: httpx.AsyncClient, order: dict[str, object]) -> str:
    answer = await client.post("/api/v1/gateways/gw-1/commands", json={"order": order})
    return str(answer.json()["command"]["command_id"])


async def ended(client: httpx.AsyncClient, command_id: str) -> tuple[str, str]:
    while True:
        command = (await client.get(f"/api/v1/gateways/gw-1/commands/{command_id}")).json()["command"]
        if command["state"] != "pending":
            return command["state"], command["detail"]
        await asyncio.sleep(0.1)


async def next_command(client: object) -> tuple[bytes, Command]:
    async with asyncio.timeout(10):
        message = await anext(aiter(client.messages))  # type: ignore[attr-defined]
    return message.payload, decode_frame(message.payload, Command)


async def test_a_command_is_sent_until_answered_and_done_once_across_a_restart(
    config: CloudConfig, tmp_path: Path
) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(edge_toml(config, tmp_path))
    online = encode_frame(Presence(True, "t", SystemClock().now_us()))
    async with cloud(config) as url, httpx.AsyncClient(base_url=url) as client:
        command_id = await issue(client, {"kind": "replay"})  # the box is away: this one is lost
        async with gateway_client(config, "gw-1") as deaf:
            # A box that comes back and does not get to answering.
            await deaf.subscribe(topics.commands("gw-1"))
            for _ in range(2):
                await deaf.publish(topics.status("gw-1"), online, qos=1, retain=True)
                frame, command = await next_command(deaf)
                assert command.command_id.hex() == command_id
        async with box(path):
            assert await ended(client, command_id) == ("done", "")
        bare = await connect_bare(config.broker, password_path(config.state_path, "ingest").read_text().strip())
        async with box(path):
            # Sent again to the restarted box, followed by one that is answered: the queue is obeyed in order.
            assert await ended(client, await issue(client, {"kind": "replay", "lane": "bulk"})) == ("done", "")
            await bare.publish(topics.subject(topics.commands("gw-1")), frame)
            assert await ended(client, await issue(client, {"kind": "replay", "lane": "routine"})) == ("done", "")
        await bare.close()
    database = Database(config.state_path / "store.sqlite")
    answers = [outcome.command_id.hex() for outcome in account.outcomes(database)]
    assert (len(answers), answers.count(command_id)) == (3, 1)
    database.close()


@pytest.mark.parametrize("first", ["", "mqtt://127.0.0.1:1"], ids=["both ways up", "the first way down"])
async def test_a_command_comes_by_either_uplink_and_is_done_once(
    config: CloudConfig, tmp_path: Path, first: str
) -> None:
    path = tmp_path / "edge.toml"
    ways = edge_toml(config, tmp_path, endpoint=first)
    second = edge_toml(config, tmp_path).partition("[uplink]")[2]
    path.write_text(f"{ways}[second_uplink]{second}")
    async with cloud(config) as url, httpx.AsyncClient(base_url=url) as client, box(path):
        for _ in range(2):
            assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
    database = Database(config.state_path / "store.sqlite")
    assert len(account.outcomes(database)) == 2
    database.close()


async def test_a_configuration_is_applied_and_a_bad_one_refused(
    config: CloudConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, offered = tmp_path / "edge.toml", tmp_path / "offered.toml"
    path.write_text(edge_toml(config, tmp_path))
    async with cloud(config) as url, box(path), httpx.AsyncClient(base_url=url) as client:

        async def configure(text: str, wait_s: int = 20) -> tuple[int, str]:
            offered.write_text(text)
            order = ["configure", str(offered), "--deadline", "5", "--version", "v2"]
            call = ["command", "--url", url, "--wait", str(wait_s), "gw-1", *order]
            code = await asyncio.to_thread(main, call)
            return code, capsys.readouterr().out

        good = edge_toml(config, tmp_path, "heartbeat_s = 1.0\n")
        code, said = await configure(good)
        assert (code, said.split()[1]) == (0, "done")
        assert path.read_text() == good
        # Nobody signed it, so it cannot lead the box away: see enrolment/test_enrol.py for one that is signed.
        code, said = await configure(edge_toml(config, tmp_path, endpoint="mqtt://127.0.0.1:1"))
        assert (code, said.split()[1]) == (1, "refused")
        assert "uplink.endpoints: cannot be changed by command" in said
        assert path.read_text() == good
        code, said = await configure(good + "nonsense = 1\n")
        assert (code, said.split()[1]) == (1, "refused")
        assert "configuration v2: unknown key 'uplink.nonsense'" in said
        newest = (await client.get("/api/v1/gateways/gw-1/commands")).json()["commands"]
        assert [command["state"] for command in newest] == ["refused", "refused", "done"]

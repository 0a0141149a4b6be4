"""Configuration by command over the whole stage: a good one stays, one that cuts the box off goes back by itself."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.kills import kill_edge, play
from vitalwire.stage import Stage, free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

BOX = "amb-07"
COMMANDS = f"/api/v1/gateways/{BOX}/commands"


async def issue(client: httpx.AsyncClient, toml: str) -> str:
    order = {"kind": "apply_configuration", "toml": toml, "version": "by command", "deadline_s": 5}
    answer = await client.post(COMMANDS, json={"order": order})
    return str(answer.json()["command"]["command_id"])


async def ended(client: httpx.AsyncClient, command_id: str) -> dict[str, Any]:
    while True:
        command: dict[str, Any] = (await client.get(f"{COMMANDS}/{command_id}")).json()["command"]
        if command["state"] != "pending":
            return command
        await asyncio.sleep(0.1)


def test_good_configuration_stays_and_a_cut_off_box_goes_back_by_itself(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []

    async def configure(stage: Stage) -> None:
        path = stage.folder / f"{BOX}.toml"
        began = path.read_text()
        # A connection each: on a busy machine one may lie idle for longer than the server keeps it.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=stage.url, timeout=20, limits=limits) as client:
            good = f"heartbeat_s = 1.0\n{began}"
            answers.append(await ended(client, await issue(client, good)))
            assert path.read_text() == good
            endpoints = tomllib.loads(good)["uplink"]["endpoints"]
            dead = good.replace(endpoints[0], f"mqtt://127.0.0.1:{free_port()}")
            command_id = await issue(client, dead)
            while path.read_text() != dead:
                await asyncio.sleep(0.05)
            await kill_edge(stage)  # a kill -9 during the trial changes nothing
            answers.append(await ended(client, command_id))
            assert path.read_text() == good

    report = play(tmp_path, 14, [(1.0, configure)])
    assert [answer["state"] for answer in answers] == ["done", "rolled_back"]
    assert answers[1]["detail"] == "no receipt within 5 s"
    assert (report["lost"], report["duplicates"]) == (0, 0), report["findings"]
    assert report["truth_samples"] == report["stored_samples"] > 50_000
    assert report["gaps"] == []
    assert report["restarts"][BOX] == 1  # the kill's own: a configuration needs no new process
    assert report["simulator_exit"] == 0

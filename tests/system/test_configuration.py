"""Configuration by command over the whole stage: a good one stays, one that cuts the box off goes back by itself."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.kills import kill_edge, play
from vitalwire.stage import Stage

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

BOX = "amb-07"
_SENT_S = 1.0  # a command leaves the cloud the moment it is stored
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
            cut_off = f"# while the cloud stands still\n{good}"
            edge, cloud = stage.parts[BOX].process, stage.parts["cloud"].process
            assert edge is not None
            assert cloud is not None
            # The box gets the command from the broker when the cloud that is to answer it stands still already.
            edge.send_signal(signal.SIGSTOP)
            command_id = await issue(client, cut_off)
            await asyncio.sleep(_SENT_S)
            cloud.send_signal(signal.SIGSTOP)
            edge.send_signal(signal.SIGCONT)
            while path.read_text() != cut_off:
                await asyncio.sleep(0.05)
            await kill_edge(stage)  # a kill -9 during the trial changes nothing
            while path.read_text() != good:
                await asyncio.sleep(0.05)
            cloud.send_signal(signal.SIGCONT)
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

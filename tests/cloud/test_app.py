"""The whole cloud as a gateway and a screen see it: real broker, real sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from cloud.access_config import AccessConfig, AccessMode
from cloud.app import run
from cloud.config import STORE_FILE, CloudConfig
from cloud.store.audit.head import head_file
from tests.cloud.api.apps import PASSWORD
from tests.cloud.cloud_frames import frame, gateway_client, heart_rate, record, wave
from vitalwire.__main__ import main
from wire import topics
from wire.clock import SystemClock
from wire.messages import Lane, Presence, encode_frame
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    DeviceEvent,
    EventKind,
    Priority,
    SessionEvent,
    SessionKind,
    SessionPhase,
    Status,
)
from wire.waveform import peek


@asynccontextmanager
async def cloud(config: CloudConfig) -> AsyncIterator[str]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run(config, ready=ready.set_result))
    await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    try:
        yield await ready
    finally:
        running.cancel()
        await asyncio.wait([running])


class Screen:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def next(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(4):
            while True:
                message = await self._socket.recv()
                if isinstance(message, bytes):
                    if kind == "wave":
                        return {"frame": message}
                    continue
                decoded = orjson.loads(message)
                if decoded["type"] == kind:
                    return dict(decoded)


@asynccontextmanager
async def screen(url: str) -> AsyncIterator[Screen]:
    async with connect(url.replace("http", "ws") + "/api/v1/live") as socket:
        yield Screen(socket)


def opened(at_us: int) -> bytes:
    return record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, at_us, "Ambulance 1"))


def alert(phase: AlertPhase, at_us: int, onset_us: int) -> bytes:
    return record(Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.HIGH, phase, onset_us, at_us))


@pytest.mark.timeout(30)
async def test_from_the_gateway_to_the_screen_and_the_record(config: CloudConfig) -> None:
    now_us = SystemClock().now_us()
    async with cloud(config) as url, gateway_client(config, "gw-1") as gateway, screen(url) as first:
        hello = await first.next("hello")
        assert hello["principal"] == "demo"
        assert hello["auto_sign_in"] is True
        await gateway.publish(topics.status("gw-1"), encode_frame(Presence(True, "0.1", now_us)), qos=1, retain=True)
        assert (await first.next("gateway"))["gateway"]["online"] is True
        await gateway.publish(topics.up("gw-1", Lane.URGENT), frame([opened(now_us)], 1, lane=Lane.URGENT), qos=1)
        snapshot = await first.next("snapshot")
        assert snapshot["session"]["label"] == "Ambulance 1"
        assert snapshot["session"]["origin"] == 2

        event = record(DeviceEvent(EventKind.LEADS_OFF, now_us, leads=("V1",)))
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(61, now_us), event], 1), qos=1)
        numeric = await first.next("numeric")
        assert (numeric["metric"], numeric["value"], numeric["time_us"]) == ("heart_rate", 61, now_us)
        assert (await first.next("event"))["leads"] == ["V1"]
        bulk = frame([wave(0, now_us)], 1, lane=Lane.BULK)
        await gateway.publish(topics.up("gw-1", Lane.BULK), bulk, qos=1)
        packed = (await first.next("wave"))["frame"]
        assert packed[:5] == b"\x01\x02s1\x03"
        assert peek(packed[9:]).first_index == 0

        raised = frame([alert(AlertPhase.RAISED, now_us, now_us - 60_000_000)], 2, lane=Lane.URGENT)
        await gateway.publish(topics.up("gw-1", Lane.URGENT), raised, qos=1)
        shown = (await first.next("alert"))["alert"]
        assert (shown["phase"], shown["priority"], shown["delayed"]) == ("raised", 3, False)

        status = record(Status(now_us, "0.2", {"backlog_records": 7, "clock_synchronised": 1}, {"sent": 5}))
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), frame([status], 3), qos=1)
        box = (await first.next("gateway"))["gateway"]
        assert (box["backlog_records"], box["clock_synchronised"], box["counters"]) == (7, True, {"sent": 5})
        async with screen(url) as second:
            joined = await second.next("snapshot")
            assert joined["numerics"]["heart_rate"] == [[now_us, 61, 0]]
            assert [each["alert_id"] for each in joined["alerts"]] == ["a1"]
            assert (await second.next("wave"))["frame"] == packed

    # A restarted cloud shows what is stored.
    async with cloud(config) as url, screen(url) as again:
        joined = await again.next("snapshot")
        assert joined["numerics"]["heart_rate"] == [[now_us, 61, 0]]
        assert joined["events"][0]["kind"] == "leads_off"
        assert joined["gateway"]["online"] is False
        assert (await again.next("wave"))["frame"] == packed
        async with httpx.AsyncClient(base_url=url) as client:
            stored = (await client.get("/api/v1/sessions/s1/numerics")).json()
            assert [row["value"] for row in stored["numerics"]] == [61]
            assert (await client.get("/api/v1/alerts")).json()["alerts"][0]["session_id"] == "s1"


@pytest.mark.timeout(30)
async def test_a_late_backlog_fills_the_trend_without_being_told_as_current(config: CloudConfig) -> None:
    now_us = SystemClock().now_us()
    async with cloud(config) as url, gateway_client(config, "gw-1") as gateway, screen(url) as watching:
        await gateway.publish(topics.up("gw-1", Lane.URGENT), frame([opened(now_us)], 1, lane=Lane.URGENT), qos=1)
        await watching.next("snapshot")
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(80, now_us)], 2), qos=1)
        assert (await watching.next("numeric"))["value"] == 80
        late = frame([heart_rate(50, now_us - 60_000_000)], 1)
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), late, qos=1)
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), frame([heart_rate(81, now_us + 1)], 3), qos=1)
        assert (await watching.next("numeric"))["value"] == 81
        async with screen(url) as joining:
            trend = (await joining.next("snapshot"))["numerics"]["heart_rate"]
            assert [value for _, value, _ in trend] == [50, 80, 81]


@pytest.mark.timeout(30)
@pytest.mark.timeout(60)  # the first command of a run imports much
async def test_the_trail_of_a_running_cloud_verifies_and_its_head_is_noted(config: CloudConfig) -> None:
    store = config.state_path / "store.sqlite"
    async with cloud(config) as url, httpx.AsyncClient(base_url=url) as client:
        answers = await asyncio.gather(*(client.get("/api/v1/sessions") for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200}
        assert await asyncio.to_thread(main, ["audit", "verify", "--store", str(store)]) == 0
    (note,) = head_file(store, config.state_path).read()
    assert note.startswith("30:")
    assert await asyncio.to_thread(main, ["audit", "verify", "--store", str(store), "--noted", note]) == 0


async def test_a_foreign_page_cannot_join(config: CloudConfig) -> None:
    async with cloud(config) as url:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(url.replace("http", "ws") + "/api/v1/live", origin="http://elsewhere.example")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403


@pytest.mark.timeout(30)
async def test_an_api_port_in_use_is_named(config: CloudConfig) -> None:
    async with cloud(config):
        with pytest.raises(OSError, match=r"api\.listen = '127"):
            await run(config)


@pytest.mark.timeout(30)
async def test_a_screen_signs_in_by_subprotocol_and_the_cloud_ends_while_it_watches(
    config: CloudConfig, tmp_path: Path
) -> None:
    (tmp_path / "tokens").write_text(f"doctor er_clinician {hashlib.sha256(b'secret').hexdigest()}\n")
    access = AccessConfig(mode=AccessMode.TOKEN, tokens_file=str(tmp_path / "tokens"))
    async with cloud(msgspec.structs.replace(config, access=access)) as url:
        address = url.replace("http", "ws") + "/api/v1/live"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(address)
        assert refused.value.response.status_code == 401
        socket = await connect(address, subprotocols=[websockets.Subprotocol("vw.token.secret")])
        hello = await Screen(socket).next("hello")
        assert (hello["principal"], hello["demo"]) == ("doctor", False)
        began_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began_s < 8
    assert not (config.state_path / "broker.pid").exists()
    await socket.close()


@pytest.mark.timeout(60)
async def test_a_screen_is_dropped_when_its_account_is_disabled_on_the_command_line(
    config: CloudConfig, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    act = ["account", "--store", str(config.state_path / STORE_FILE)]
    async with cloud(msgspec.structs.replace(config, access=AccessConfig(mode=AccessMode.ACCOUNTS))) as url:
        add = [*act, "add", "wang", "--role", "er_clinician", "--hospital", "H1", "--password-file"]
        assert await asyncio.to_thread(main, [*add, str(tmp_path / "password")]) == 0
        async with httpx.AsyncClient(base_url=url, headers={"Origin": url}) as browser:
            body = {"name": "wang", "password": PASSWORD}
            assert (await browser.post("/api/v1/sign-in", json=body)).status_code == 200
            cookie = {"Cookie": f"vw_session={browser.cookies['vw_session']}"}
        address = url.replace("http", "ws") + "/api/v1/live"
        socket = await connect(address, additional_headers=cookie)
        assert (await Screen(socket).next("hello"))["principal"] == "wang"
        assert await asyncio.to_thread(main, [*act, "disable", "wang"]) == 0
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 4401
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(address, additional_headers=cookie)
        assert refused.value.response.status_code == 401


@pytest.mark.timeout(30)
@pytest.mark.parametrize("turns", [0, 1, 3, 10])
async def test_the_cloud_ends_however_early_it_is_told(config: CloudConfig, turns: int) -> None:
    """nats-py swallows a cancellation that comes while it flushes: the bus once lived on for ever."""
    async with asyncio.timeout(20):
        async with cloud(config):
            for _ in range(turns):
                await asyncio.sleep(0)
    assert not (config.state_path / "broker.pid").exists()

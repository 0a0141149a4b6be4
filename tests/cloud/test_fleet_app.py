"""The fleet as a box and an operator's screen see it: real broker, real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect

from cloud.config import CloudConfig
from tests.cloud.cloud_frames import frame, gateway_client, heart_rate, record
from tests.cloud.test_app import cloud
from wire import topics
from wire.clock import SystemClock
from wire.messages import Lane, Presence, encode_frame
from wire.readings import Status


async def row_when(socket: ClientConnection, gateway: str, state: str, **said: Any) -> dict[str, Any]:
    """The first row of a box told in a state with these fields."""
    async with asyncio.timeout(8):
        while True:
            message = orjson.loads(await socket.recv())
            assert message["type"] in ("hello", "tick", "fleet"), "an operator is told of no patient"
            for row in message.get("gateways", ()):
                if (row["gateway_id"], row["state"]) == (gateway, state) and said.items() <= row["gauges"].items():
                    return dict(row)


@pytest.mark.timeout(30)
async def test_from_the_heartbeat_to_the_operators_screen(config: CloudConfig) -> None:
    now_us = SystemClock().now_us()
    async with (
        cloud(config) as url,
        gateway_client(config, "gw-1") as gateway,
        connect(url.replace("http", "ws") + "/api/v1/fleet/live") as socket,
    ):
        await row_when(socket, "gw-2", "never")
        records = [heart_rate(61, now_us), record(Status(now_us, "0.2", {"backlog_records": 7, "devices": 1}, {}))]
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), frame(records, 1), qos=1)
        row = await row_when(socket, "gw-1", "online", backlog_records=7)
        assert (row["version"], row["starts_24h"], row["status_us"]) == ("0.2", 1, now_us)
        later = record(Status(now_us + 5_000_000, "0.2", {"backlog_records": 8}, {}), mono_us=99)
        await gateway.publish(topics.up("gw-1", Lane.ROUTINE), frame([later], 3), qos=1)
        row = await row_when(socket, "gw-1", "online", backlog_records=8)
        assert row["last_receipt_us"] >= now_us
        await gateway.publish(topics.status("gw-1"), encode_frame(Presence(False, "0.2", 0)), qos=1, retain=True)
        assert (await row_when(socket, "gw-1", "offline"))["last_seen_us"] >= now_us
        async with httpx.AsyncClient(base_url=url) as client:
            answer = (await client.get("/api/v1/fleet")).json()
            assert [row["state"] for row in answer["gateways"]] == ["offline", "never"]
            details = (await client.get("/api/v1/fleet/gw-1")).json()
            assert [point[0] for point in details["backlog"]] == [now_us, now_us + 5_000_000]

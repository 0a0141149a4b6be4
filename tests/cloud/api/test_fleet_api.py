"""The routes of those who run the boxes, without a broker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from cloud.access_config import AccessConfig, AccessMode
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.fleet import Fleet
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from tests.cloud.api.apps import audited, build, client_of
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, record
from wire.readings import DeviceState, Status

TOKENS = {"doctor": "er_clinician", "ops": "operator"}
STATUS = Status(
    NOW_US,
    "0.2",
    {"backlog_records": 12, "backlog_bulk": 12, "oldest_bulk_s": 3.5, "disk_free_mib": 100},
    {"batches_sent": 4, "monitor.bad checksum": 2},
    (DeviceState("monitor", "network.hl7_monitor", True, 0.2),),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def app(database: Database, tmp_path: Path) -> FastAPI:
    lines = [f"{name} {role} {hashlib.sha256(name.encode()).hexdigest()}" for name, role in TOKENS.items()]
    (tmp_path / "tokens").write_text("\n".join(lines))
    clock, counters = FakeClock(), Counters()
    feed = Feed(clock, counters, Fleet(clock, counters, ["gw-1", "gw-2"]))
    said = frame([record(STATUS)], 1)
    Appender(database, clock).append([Incoming("vw.1.gw-1.up.routine", said)])
    feed.hear("vw.1.gw-1.up.routine", said)
    access = AccessConfig(mode=AccessMode.TOKEN, tokens_file=str(tmp_path / "tokens"))
    return build(database, access, clock=clock, counters=counters, feed=feed, gateways=[])


def operator(app: FastAPI) -> httpx.AsyncClient:
    return client_of(app, Authorization="Bearer ops")


async def test_an_operator_sees_every_box_and_no_patient(app: FastAPI, database: Database) -> None:
    async with operator(app) as client:
        fleet = (await client.get("/api/v1/fleet")).json()
        assert (await client.get("/api/v1/sessions")).status_code == 403
    assert fleet["server_us"] == NOW_US
    assert [(row["gateway_id"], row["state"]) for row in fleet["gateways"]] == [("gw-1", "online"), ("gw-2", "never")]
    row = fleet["gateways"][0]
    assert (row["gauges"]["backlog_bulk"], row["gauges"]["oldest_bulk_s"], row["skipped"]) == (12, 3.5, 2)
    assert "heart_rate" not in str(fleet)
    assert audited(database)[0] == ("ops", "list fleet", "", "10.0.0.9", "allowed")


async def test_one_box_comes_with_its_devices_counters_and_backlog(app: FastAPI, database: Database) -> None:
    async with operator(app) as client:
        found = (await client.get("/api/v1/fleet/gw-1")).json()
        assert (await client.get("/api/v1/fleet/gw-9")).status_code == 404
        never = (await client.get("/api/v1/fleet/gw-2")).json()
    assert found["gateway"]["devices"] == [
        {"device_id": "monitor", "driver": "network.hl7_monitor", "connected": True, "silent_s": 0.2}
    ]
    assert found["gateway"]["counters"] == {"batches_sent": 4, "monitor.bad checksum": 2}
    assert found["backlog"] == [[NOW_US, 0, 0, 12, 3.5]]
    assert (never["gateway"]["state"], never["backlog"]) == ("never", [])
    assert audited(database)[0] == ("ops", "view gateway", "gw-1", "10.0.0.9", "allowed")


async def test_who_does_not_run_boxes_may_not_look(app: FastAPI) -> None:
    async with client_of(app) as nobody:
        assert (await nobody.get("/api/v1/fleet")).status_code == 401
    async with client_of(app, Authorization="Bearer doctor") as doctor:
        assert (await doctor.get("/api/v1/fleet")).status_code == 403
        assert (await doctor.get("/api/v1/fleet/gw-1")).status_code == 403


async def test_the_screen_is_there(app: FastAPI) -> None:
    async with operator(app) as client:
        page = await client.get("/fleet")
        assert page.status_code == 200
        assert "/screens/fleet/fleet.js" in page.text
        assert (await client.get("/screens/fleet/fleet.js")).status_code == 200

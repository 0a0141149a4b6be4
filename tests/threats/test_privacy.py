"""Nothing personal where care does not need it: names and numbers stay out of topics, URLs, logs, metrics and crashes.

The demo's monitor sends a name and a patient number with every message, as real ones do; people sign in and say why.
Each test knows the words it used, shows that they were there, and looks for them where they must not be.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import httpx
import pytest
from fastapi import FastAPI

from cloud.passwords import hash_password
from cloud.store import accounts
from cloud.store.database import Database
from drivers.driver import DriverContext, LinkLost, Transfer
from drivers.links.mllp import open_mllp
from drivers.network.hl7_monitor import MonitorOptions, stream
from firmware_sim.network.oru import compose
from tests.cloud.api.apps import ORIGIN, PASSWORD, client_of, person, signed_in
from tests.cloud.api.test_reach import app, clock, database, feed
from tests.system.kills import play
from vitalwire.log import PrivateFormatter
from vitalwire.stage import Stage
from wire.clock import SystemClock

__all__ = ["app", "clock", "database", "feed"]

PATIENT = ("SIMULATED^PATIENT", "SIM-AMB-07")
# What stands in MLLP, JSON or a URL may be written in several ways; each is the same person.
SPELLINGS = ("utf-8", "utf-16-le", "utf-16-be")


def found(haystack: bytes, *needles: str) -> list[str]:
    spelled = {needle: [needle.encode(codec) for codec in SPELLINGS] for needle in needles}
    for needle, ways in spelled.items():
        ways += [needle.encode().hex().encode(), needle.replace("^", " ").encode()]
    return [needle for needle, ways in spelled.items() if any(way in haystack for way in ways)]


def message(vehicle: str = "AMB-07") -> bytes:
    return compose("M1", now_us=0, vehicle=vehicle, utc_offset_minutes=0, numerics=[], blocks=[])


def test_the_search_finds_what_the_monitor_sends() -> None:
    for searched in (message(), message().decode().encode("utf-16-le"), message().hex().encode()):
        assert found(searched, *PATIENT) == list(PATIENT)


@pytest.mark.system
@pytest.mark.timeout(120)
def test_a_whole_demo_keeps_no_name_and_no_number(tmp_path: Path) -> None:
    """Half a minute that buys: spools, store, broker's disk, logs, crash reports and metrics hold no word of a PID."""
    answers: list[bytes] = []

    async def look(stage: Stage) -> None:
        async with httpx.AsyncClient(base_url=stage.url) as client:
            sessions = (await client.get("/api/v1/sessions")).json()["sessions"]
            paths = [f"/api/v1/sessions/{each['session_id']}/numerics" for each in sessions]
            for path in ("/metrics", "/api/v1/fleet", "/api/v1/alerts", *paths):
                answer = await client.get(path)
                assert answer.status_code == 200, path
                answers.append(answer.content + str(answer.url).encode() + str(answer.headers).encode())
        box = stage.parts["amb-07"].process
        assert box is not None
        box.send_signal(signal.SIGABRT)  # a crash, with whatever it says of itself

    report = play(tmp_path, 12, [(6.0, look)])
    assert report["restarts"]["amb-07"] == 1
    assert report["stored_samples"] > 0
    assert len(answers) >= 5
    kept = [path for path in (tmp_path / "demo").rglob("*") if path.is_file()]
    kinds = {path.relative_to(tmp_path / "demo").parts[0] for path in kept}
    assert {"logs", "cloud", "amb-07"} <= kinds
    assert {path.name: found(path.read_bytes(), *PATIENT) for path in kept if found(path.read_bytes(), *PATIENT)} == {}
    assert [answer for answer in answers if found(answer, *PATIENT)] == []


UNREADABLE = (
    lambda good: good.replace(b"ORU^R01^ORU_R01", b"ADT^A08"),
    lambda good: good.replace(b"MSH|^~\\&", b"MSX|^~\\&"),
    lambda good: good.replace(b"\rPID", b"PID"),
    lambda good: good.replace(b"UNICODE UTF-8", b"") + b"OBX|1|NM|150456^X^MDC|1|SIMULATED^PATIENT|\xff\xfe\r",
    lambda good: good[good.index(b"PID") :],
    lambda good: good[: good.index(b"PV1")] * 3000,
)


@pytest.mark.parametrize("spoil", UNREADABLE)
async def test_a_message_that_cannot_be_read_is_not_quoted(spoil: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert callable(spoil)
    bad = spoil(message())
    assert found(bad, *PATIENT)
    context = DriverContext(SystemClock(), MonitorOptions())
    said: list[str] = []

    async def read_all(transfers: AsyncGenerator[Transfer, None]) -> None:
        async with aclosing(transfers):
            async for transfer in transfers:
                said.append(repr(transfer))

    async with asyncio.timeout(10), open_mllp("127.0.0.1:0", context.clock, silence_s=3) as link:
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(b"\x0b" + bad + b"\x1c\r")
        writer.write_eof()
        with pytest.raises(LinkLost, match="closed"):
            await read_all(cast(AsyncGenerator[Transfer, None], stream(link, context)))
        answer = await reader.read()
        writer.close()
    logged = "\n".join(PrivateFormatter("%(message)s").format(record) for record in caplog.records)
    assert found("\n".join([*said, *context.counts, logged]).encode() + answer, *PATIENT) == []
    assert answer or context.counts  # it did arrive


async def test_who_signs_in_and_why_is_in_the_trail_alone(
    app: FastAPI, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Names of staff, passwords and the reasons they give: in the store, never in a log, a metric or a URL."""
    caplog.set_level(logging.DEBUG)
    name, title, reason = "wang.xiaoli", "王小丽 主任", "李四 of bed 12 collapsed in the lobby"
    doctor = person(name, "er_clinician", "H1", hash_password(PASSWORD))._replace(title=title)
    database.transaction(lambda connection: accounts.add(connection, doctor))
    client = client_of(app, **ORIGIN)
    urls: list[str] = []

    async def ask(method: str, path: str, body: object = None) -> httpx.Response:
        answer = await client.request(method, path, json=body)
        urls.append(f"{answer.url} {answer.headers.get('location', '')}")
        return answer

    typed = "zhangsan-my-old-password"
    assert (await ask("POST", "/api/v1/sign-in", {"name": typed, "password": typed})).status_code == 401
    assert (await ask("POST", "/api/v1/sign-in", {"name": name, "password": PASSWORD})).status_code == 200
    assert (await ask("GET", "/api/v1/me")).json()["title"] == title
    path = "/api/v1/sessions/s2"
    assert (await ask("POST", f"{path}/break-glass", {"reason": reason})).status_code == 201
    assert (await ask("POST", f"{path}/consent", {"basis": "emergency", "note": reason})).status_code == 201
    assert (await ask("POST", f"{path}/consent", {"basis": reason})).status_code == 422
    assert (await ask("GET", f"{path}/numerics")).status_code == 200
    operator = await signed_in(app, database, person("ops", "operator"))
    metrics = (await operator.get("/metrics")).text
    assert "vitalwire_sign_ins_total" in metrics
    logged = "\n".join(PrivateFormatter("%(message)s").format(record) for record in caplog.records)
    words = (name, title, reason, PASSWORD, typed, cast(str, client.cookies["vw_session"]))
    assert found("\n".join([logged, metrics, *urls]).encode(), *words) == []
    trail = database.read_now(
        lambda connection: connection.exec_driver_sql("SELECT principal, reason FROM audit").all()
    )
    assert (name, reason) in [tuple(row) for row in trail]
    assert all(typed not in str(row) for row in trail)

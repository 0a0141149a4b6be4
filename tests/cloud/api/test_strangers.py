"""A flood by nobody known: rows by the minute, not by the request, and nothing uncounted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.audit import Audit
from cloud.api.strangers import MANY, MORE, Strangers
from cloud.counters import Counters
from cloud.store import schema
from cloud.store.database import Database
from tests.cloud.api.apps import audited, build, client_of, person, signed_in
from tests.cloud.cloud_frames import FakeClock

MINUTE_US = 60_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(database: Database, clock: FakeClock) -> FastAPI:
    return build(database, AccessConfig(mode=AccessMode.ACCOUNTS), clock=clock)


async def test_what_a_stranger_is_refused_is_a_row_a_minute_and_a_number(
    app: FastAPI, database: Database, clock: FakeClock
) -> None:
    strangers: Strangers = app.state.strangers
    async with client_of(app) as client:
        for n in range(20):
            assert (await client.get(f"/api/v1/sessions/s{n}/numerics")).status_code == 401
        for _ in range(3):
            assert (await client.get("/er")).status_code == 200
    first = [("", "view numerics", "s0", "10.0.0.9", "refused"), ("", "open screen er", "", "10.0.0.9", "allowed")]
    await strangers.write_counts()
    assert audited(database) == first
    clock.us += MINUTE_US
    await strangers.write_counts()
    counted = [("", MORE, "19", "10.0.0.9", "refused"), ("", MORE, "2", "10.0.0.9", "allowed")]
    assert audited(database) == first + counted
    async with client_of(app) as client:
        await client.get("/api/v1/sessions/s99/numerics")
    assert audited(database)[4:] == [("", "view numerics", "s99", "10.0.0.9", "refused")]


async def test_who_is_known_is_written_down_each_time(app: FastAPI, database: Database) -> None:
    auditor = await signed_in(app, database, person("audi", "auditor"))
    for _ in range(3):
        assert (await auditor.get("/api/v1/sessions")).status_code == 403
    assert audited(database) == [("audi", "list sessions", "", "10.0.0.9", "refused")] * 3


async def test_sources_without_end_take_bounded_memory_and_rows(database: Database, clock: FakeClock) -> None:
    strangers = Strangers(Audit(database, clock), clock, Counters(), most_sources=3)
    sources = ["10.0.0.1", "fd00::1", "fd00::2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.1"]
    for source in sources:
        await strangers.write("try", "", source, "refused")
    running = asyncio.ensure_future(strangers.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    told = [(action, about, source) for _who, action, about, source, _result in audited(database)]
    assert told[:3] == [("try", "", "10.0.0.1"), ("try", "", "fd00::1"), ("try", "", "10.0.0.3")]
    assert told[3:] == [(MORE, "1", "10.0.0.1"), (MORE, "1", "fd00::/64"), (MORE, "2", MANY)]


async def test_what_the_store_does_not_take_is_counted_on(database: Database, clock: FakeClock) -> None:
    strangers = Strangers(Audit(database, clock), clock, Counters())
    for _ in range(3):
        await strangers.write("try", "", "10.0.0.1", "refused")
    refuse = sa.text("CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
    database.transaction(lambda connection: connection.execute(refuse))
    clock.us += MINUTE_US
    await strangers.write_counts()
    await strangers.write("try", "", "10.0.0.1", "refused")
    database.transaction(lambda connection: connection.execute(sa.text("DROP TRIGGER no_room")))
    clock.us += MINUTE_US
    await strangers.write_counts()
    objects = sa.select(schema.audit.c.object).where(schema.audit.c.action == MORE)
    assert database.read_now(lambda connection: list(connection.scalars(objects))) == ["3"]

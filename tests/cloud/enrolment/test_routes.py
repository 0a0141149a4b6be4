"""The listener for boxes itself: what is too slow, too large or gone is met as it is at the API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.audit import Audit
from cloud.api.auth import Access
from cloud.api.rim import MOST_BODY_BYTES, MOST_URL_BYTES
from cloud.api.strangers import Strangers
from cloud.api.tokens import Tokens
from cloud.counters import Counters
from cloud.enrolment.authority import Authority
from cloud.enrolment.keeper import EnrolmentKeeper
from cloud.enrolment.register import Register
from cloud.enrolment.routes import build_enrolment_app
from cloud.sign_ins import SignIns
from cloud.store.database import Database
from tests.conftest import FakeClock
from tests.threats.served import Served, served
from wire.enrolment import AUTHORITY_PATH, ENROL_PATH


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def app(tmp_path: Path, clock: FakeClock, counters: Counters) -> Iterator[FastAPI]:
    database = Database(tmp_path / "store.sqlite")
    authority = Authority(tmp_path / "authority", ["localhost"], clock)
    register, audit = Register(database, authority, clock, ["gw-1"], days=30, late_days=365), Audit(database, clock)
    access = AccessConfig(mode=AccessMode.ACCOUNTS)
    yield build_enrolment_app(
        access=Access(access, Tokens({}), SignIns(database, clock, counters, access)),
        audit=audit,
        strangers=Strangers(audit, clock, counters),
        register=register,
        authority=authority,
        keeper=EnrolmentKeeper(register, authority, lambda _: None, clock, lambda: None),
        counters=counters,
        clock=clock,
        body_s=0.1,
    )
    database.close()


@pytest.fixture
async def boxes(app: FastAPI) -> AsyncIterator[Served]:
    async with served(app) as running:
        yield running


def post(api: Served, length: int) -> bytes:
    lines = [f"POST {ENROL_PATH} HTTP/1.1", f"Host: {api.host}:{api.port}", f"Origin: {api.url}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", "{"]).encode()


async def test_a_body_without_end_is_waited_for_no_longer_than_any_honest_one(
    boxes: Served, counters: Counters
) -> None:
    answer = await boxes.raw(post(boxes, 100))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error":"the body took longer' in answer
    assert counters["requests_too_slow"] == 1


async def test_what_is_too_large_is_refused_by_its_size(boxes: Served) -> None:
    assert (await boxes.raw(post(boxes, MOST_BODY_BYTES + 1))).startswith(b"HTTP/1.1 413 ")
    assert (await boxes.get(AUTHORITY_PATH + "?" + "x" * MOST_URL_BYTES)).startswith(b"HTTP/1.1 414 ")
    answer = await boxes.get(AUTHORITY_PATH)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-content-type-options: nosniff" in answer


async def test_who_goes_away_in_the_middle_is_no_error_of_ours(boxes: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, writer = await asyncio.open_connection(boxes.host, boxes.port)
        writer.write(post(boxes, 100))
        await writer.drain()
        writer.close()
        assert (await boxes.get(AUTHORITY_PATH)).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.05)
    assert caplog.records == []

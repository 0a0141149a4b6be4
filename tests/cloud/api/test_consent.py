"""Consent is recorded by those who see the patient, never changed, and absent where nobody recorded it."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from cloud.store.database import Database
from tests.cloud.api.apps import audited, person, signed_in
from tests.cloud.api.test_reach import DISPATCHER, ONE, TWO, app, clock, database, feed
from tests.cloud.cloud_frames import NOW_US, FakeClock

__all__ = ["app", "clock", "database", "feed"]

PATH = "/api/v1/sessions/s1/consent"
EMERGENCY = {"basis": "emergency", "note": "unconscious, no relative there"}


async def standing(client: httpx.AsyncClient) -> dict[str, str | None]:
    answer = (await client.get(PATH)).json()["standing"]
    return {purpose: row and row["basis"] for purpose, row in answer.items()}


async def test_the_newest_stands_and_nothing_is_forgotten(app: FastAPI, database: Database, clock: FakeClock) -> None:
    one = await signed_in(app, database, ONE)
    assert await standing(one) == {"care": None, "history": None}
    assert (await one.post(PATH, json=EMERGENCY)).status_code == 201
    clock.us += 1_000_000
    assert (await one.post(PATH, json={"basis": "consent", "purpose": "history"})).status_code == 201
    assert (await one.post(PATH, json={"basis": "consent", "note": "by word, awake"})).status_code == 201
    assert await standing(one) == {"care": "consent", "history": "consent"}
    assert (await one.post(PATH, json={"basis": "withdrawn", "note": "said so at the door"})).status_code == 201
    assert await standing(one) == {"care": "withdrawn", "history": "consent"}
    history = (await one.get(PATH)).json()["history"]
    assert [(row["purpose"], row["basis"]) for row in history] == [
        ("care", "withdrawn"),
        ("care", "consent"),
        ("history", "consent"),
        ("care", "emergency"),
    ]
    assert {row["recorded_by"] for row in history} == {"one"}
    assert (history[-1]["note"], history[-1]["at_us"]) == (EMERGENCY["note"], NOW_US)
    assert ("one", "record consent", "s1", "10.0.0.9", "allowed") in audited(database)


async def test_only_who_sees_the_patient_records_it(app: FastAPI, database: Database) -> None:
    two, dispatcher = [await signed_in(app, database, account) for account in (TWO, DISPATCHER)]
    assert (await two.post(PATH, json=EMERGENCY)).status_code == 404
    assert (await two.get(PATH)).status_code == 404
    assert (await dispatcher.post(PATH, json=EMERGENCY)).status_code == 403
    crew = await signed_in(app, database, person("crew", "crew"))
    assert (await crew.post(PATH, json=EMERGENCY)).status_code == 403
    assert await standing(await signed_in(app, database, ONE)) == {"care": None, "history": None}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"basis": "presumed"},
        {"basis": "emergency"},
        {"basis": "refused", "note": "   no      "},
        {"basis": "consent", "purpose": "research"},
        {"basis": "consent", "note": "x" * 501},
        {"basis": "consent", "name": "somebody"},
    ],
)
async def test_what_is_no_ground_is_refused(app: FastAPI, database: Database, body: dict[str, str]) -> None:
    one = await signed_in(app, database, ONE)
    assert (await one.post(PATH, json=body)).status_code == 422
    assert await standing(one) == {"care": None, "history": None}

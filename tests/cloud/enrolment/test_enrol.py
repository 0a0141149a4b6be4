"""Enrolment the whole way: a real cloud under TLS, the commands on both ends, an agent with what they gave it."""

from __future__ import annotations

import asyncio
import stat

import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from cloud.api.auth import Requires
from cloud.enrolment.routes import router
from cloud.store import schema
from edge.identity import Identity
from tests.cloud.conftest import config
from tests.cloud.enrolled_cloud import EnrolledCloud, enrolled_cloud, state_of
from tests.cloud.enrolment_site import audited
from tests.cloud.test_downlink import ended, issue

__all__ = ["config", "enrolled_cloud"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]


async def test_a_box_enrols_obeys_signed_commands_and_is_cut_off_when_revoked(enrolled_cloud: EnrolledCloud) -> None:
    code, fingerprint = await enrolled_cloud.code()
    exit_code, out, err = await enrolled_cloud.enrol(code, "--ca-fingerprint", fingerprint)
    assert exit_code == 0, err
    assert "gw-1 is enrolled" in out
    for path in (enrolled_cloud.folder / "identity").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    async with enrolled_cloud.agent() as client:
        assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
        # A signed command may lead it elsewhere, on trial.
        order = {"kind": "apply_configuration", "version": "2", "deadline_s": 5}
        good = enrolled_cloud.edge_text("heartbeat_s = 1.0\n")
        assert await ended(client, await issue(client, order | {"toml": good})) == ("done", "")
        dead = enrolled_cloud.edge_text(endpoint="mqtts://localhost:1")
        answer = await ended(client, await issue(client, order | {"toml": dead}))
        assert answer == ("rolled_back", "no receipt within 5 s")
        assert enrolled_cloud.edge_toml.read_text() == good
        assert await state_of(client) == "online"
        arguments = ("enrolment", "-c", str(enrolled_cloud.cloud_toml), "revoke", "gw-1")
        assert (await enrolled_cloud.call(*arguments))[0] == 0
        async with asyncio.timeout(5):
            while await state_of(client) != "offline":
                await asyncio.sleep(0.05)
    with enrolled_cloud.store() as database:
        rows = audited(database)
    assert ("gw-1", "enrol", "gw-1", "allowed") in rows
    assert {"mint enrolment code", "revoke certificates"} <= {action for _who, action, _what, _result in rows}


async def test_a_box_whose_identity_is_spoilt_goes_on_measuring_and_delivers_once_it_is_enrolled(
    enrolled_cloud: EnrolledCloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.agent._IDENTITY_S", 0.1)
    enrolled_cloud.edge_toml.write_text(enrolled_cloud.edge_text("heartbeat_s = 0.2\n"))
    await enrolled_cloud.enrolled()
    (enrolled_cloud.folder / "identity" / "box.pem").write_text("spoilt by the disk")
    assert (await enrolled_cloud.call("check", str(enrolled_cloud.edge_toml)))[0] == 2
    async with enrolled_cloud.agent() as client:
        await asyncio.sleep(0.5)  # heartbeats are kept meanwhile
        assert "no uplink, nothing reaches the cloud: identity_dir" in caplog.text
        await enrolled_cloud.enrolled()
        async with asyncio.timeout(20):
            while await state_of(client) != "online":
                await asyncio.sleep(0.05)
        assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
    with enrolled_cloud.store() as database:
        epochs = database.read_now(lambda connection: connection.scalars(sa.select(schema.epoch.c.epoch)).all())
    assert len(epochs) == 2  # what it recorded meanwhile came too


async def test_an_enrolled_box_renews_with_a_new_key_and_comes_in_with_it(
    enrolled_cloud: EnrolledCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enrolled_cloud.enrolled()
    identity = Identity(enrolled_cloud.folder / "identity", "gw-1")
    first = identity.current.read_bytes()
    monkeypatch.setattr("edge.renewal.DUE_AT", 0.0)  # as if two thirds of its life were over
    async with enrolled_cloud.agent() as client:
        async with asyncio.timeout(15):
            while identity.current.read_bytes() == first or identity.is_next_waiting:
                await asyncio.sleep(0.05)
        assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
    assert b"PRIVATE KEY" in identity.current.read_bytes()
    assert not (enrolled_cloud.folder / "identity" / "next.key").exists()


def test_every_route_declares_exactly_one_permission() -> None:
    for route in router.routes:
        assert isinstance(route, APIRoute)
        assert len([each for each in route.dependant.dependencies if isinstance(each.call, Requires)]) == 1, route.path

"""What the doctor says of an enrolled box: its certificate, and whether the broker lets it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from cloud.enrolment.authority import Authority
from edge.identity import Identity, new_key, write_identity
from tests.cloud.conftest import config
from tests.cloud.enrolment_site import DAY_US, EnrolmentSite, MovableClock, enrolment_site
from vitalwire.doctor import Level, examine
from wire.enrolment import Enrolled

__all__ = ["config"]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def site(config: CloudConfig, tmp_path: Path) -> AsyncIterator[EnrolmentSite]:
    async with enrolment_site(config, tmp_path, MovableClock()) as running:
        yield running


def toml(folder: Path, identity: Path, port: int) -> Path:
    path = folder / "edge.toml"
    path.write_text(
        f'gateway = "gw-1"\nstate_dir = "{folder / "box"}"\nidentity_dir = "{identity}"\n'
        f'[uplink]\nendpoints = ["mqtts://localhost:{port}"]\n'
    )
    return path


async def said(path: Path, what: str) -> list[tuple[Level, str]]:
    findings = await asyncio.to_thread(examine, path)
    return [(finding.level, finding.why) for finding in findings if finding.what == what]


async def test_a_box_that_is_let_in_and_one_that_was_revoked(site: EnrolmentSite, tmp_path: Path) -> None:
    box = await site.enrol("gw-1")
    path = toml(tmp_path, box.current.parent, site.port)
    ((level, why),) = await said(path, "broker")
    assert (level, why) == (Level.OK, f"mqtts://localhost:{site.port} lets this box in")
    ((level, why),) = await said(path, "certificate")
    assert level is Level.OK
    assert why.endswith(", 30 days")
    await site.register.revoke("gw-1")
    async with asyncio.timeout(5):
        while await site.is_let_in(box.current):
            continue
    ((level, why),) = await said(path, "broker")
    assert (level, why.partition(" ")[2]) == (Level.BAD, "does not let this box in: revoked? Ask for a new code")


@pytest.mark.parametrize(
    ("age_days", "level", "words"),
    [
        (25, Level.WARN, "5 days left, its renewal is overdue"),
        (31, Level.BAD, "the agent renews it when it reaches the cloud; if that says no, enrol again with a new code"),
        (-1, Level.BAD, "is not good yet by this box's clock: set the clock"),
    ],
)
async def test_a_certificate_late_over_or_of_the_future_is_told(
    tmp_path: Path, age_days: int, level: Level, words: str
) -> None:
    clock, key = MovableClock(), new_key()
    clock.shift_us = -age_days * DAY_US
    authority = Authority(tmp_path / "authority", ["localhost"], clock)
    issued = authority.issue("gw-1", key.public_key(), days=30)
    enrolled = Enrolled("gw-1", issued.pem, authority.ca_pem, authority.command_key_pem)
    write_identity(tmp_path / "identity", "https://localhost", key, enrolled, "gw-1")
    box = Identity(tmp_path / "identity", "gw-1")
    found = await said(toml(tmp_path, box.current.parent, 1), "certificate")
    assert [one[0] for one in found] == [level]
    assert words in found[0][1]

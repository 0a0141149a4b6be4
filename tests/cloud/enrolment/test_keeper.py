"""Who is valid, from the register to the broker, over starts, restores and other processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from cloud.bus.broker_config import Certified
from cloud.enrolment.authority import Authority
from cloud.enrolment.keeper import EnrolmentKeeper
from cloud.enrolment.register import EnrolmentRefused, Register
from cloud.store.database import Database
from edge.identity import new_key, signing_request
from tests.cloud.enrolment.test_register import renewal
from tests.conftest import FakeClock
from wire.configuration import ConfigError
from wire.enrolment import EnrolmentRequest

DAY_S = 86_400


class Cloud:
    """One process of a cloud, as far as its keeper goes."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.database = Database(folder / "store.sqlite")
        self.authority = Authority(folder / "authority", ["localhost"], clock)
        self.register = Register(self.database, self.authority, clock, ["gw-1", "gw-2", "gw-3"], days=30, late_days=365)
        self.told: list[list[Certified]] = []
        self.renewed = 0
        self.keeper = EnrolmentKeeper(self.register, self.authority, self._certify, clock, self._renew)

    def _certify(self, certified: Iterable[Certified]) -> None:
        self.told.append(list(certified))

    def _renew(self) -> None:
        self.renewed += 1

    async def enrol(self, *gateways: str) -> None:
        for gateway in gateways:
            code = await self.register.mint_code(gateway)
            await self.register.enrol(EnrolmentRequest(code, signing_request(new_key(), gateway)))

    async def valid(self) -> list[str]:
        """Whom the broker lets in."""
        await self.keeper.look()
        return sorted({one.gateway for one in self.told[-1]})


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Iterator[Cloud]:
    running = Cloud(tmp_path, clock)
    yield running
    running.database.close()


async def test_the_broker_is_told_at_the_start_at_every_change_and_else_not(cloud: Cloud) -> None:
    await cloud.keeper.look()
    await cloud.enrol("gw-1")
    await cloud.keeper.look()
    await cloud.keeper.look()
    await cloud.register.revoke("gw-1")
    await cloud.keeper.look()
    assert [[one.gateway for one in told] for told in cloud.told] == [[], ["gw-1"], []]


async def test_what_another_process_did_is_seen(cloud: Cloud, tmp_path: Path, clock: FakeClock) -> None:
    await cloud.enrol("gw-1", "gw-2")
    assert await cloud.valid() == ["gw-1", "gw-2"]
    other = Cloud(tmp_path, clock)
    await other.register.revoke("gw-2")
    other.database.close()
    assert await cloud.valid() == ["gw-1"]


async def test_a_certificate_and_the_clouds_own_end_with_their_time(cloud: Cloud, clock: FakeClock) -> None:
    await cloud.enrol("gw-1")
    assert await cloud.valid() == ["gw-1"]
    clock.advance_s(31 * DAY_S)
    assert (await cloud.valid(), cloud.renewed) == ([], 0)
    clock.advance_s(30 * DAY_S)
    assert (await cloud.valid(), cloud.renewed) == ([], 1)


async def test_an_older_store_put_back_forgets_no_box_and_forgives_none(
    cloud: Cloud, tmp_path: Path, clock: FakeClock
) -> None:
    await cloud.enrol("gw-1", "gw-2")
    await cloud.keeper.look()
    backup = tmp_path / "backup.sqlite"
    cloud.database.close()
    shutil.copy(tmp_path / "store.sqlite", backup)
    later = Cloud(tmp_path, clock)
    await later.register.revoke("gw-2")
    await later.enrol("gw-3", "gw-1")  # gw-1 anew, as after a renewal
    valid = await later.register.valid()
    assert await later.valid() == ["gw-1", "gw-3"]
    later.database.close()
    shutil.copy(backup, tmp_path / "store.sqlite")
    restored = Cloud(tmp_path, clock)
    assert await restored.valid() == ["gw-1", "gw-3"]
    assert await restored.register.valid() == valid
    restored.database.close()


async def test_an_older_store_put_back_lets_no_revoked_box_renew_late(
    cloud: Cloud, tmp_path: Path, clock: FakeClock
) -> None:
    key = new_key()
    code = await cloud.register.mint_code("gw-1")
    await cloud.register.enrol(EnrolmentRequest(code, signing_request(key, "gw-1")))
    await cloud.keeper.look()
    (stolen,) = await cloud.register.valid()
    backup = tmp_path / "backup.sqlite"
    cloud.database.close()
    shutil.copy(tmp_path / "store.sqlite", backup)
    later = Cloud(tmp_path, clock)
    await later.register.revoke("gw-1")
    await later.keeper.look()
    clock.advance_s(90 * DAY_S)
    await later.enrol("gw-2")
    await later.keeper.look()  # notes written long after that certificate's end
    later.database.close()
    shutil.copy(backup, tmp_path / "store.sqlite")
    restored = Cloud(tmp_path, clock)
    assert await restored.valid() == ["gw-2"]
    certificate = x509.load_pem_x509_certificate(stolen.pem.encode())
    with pytest.raises(EnrolmentRefused, match="no valid"):
        await restored.register.renew(renewal(certificate, key, new_key(), clock.now_us()))
    restored.database.close()


async def test_older_notes_put_back_bring_nobody_back(cloud: Cloud, tmp_path: Path, clock: FakeClock) -> None:
    await cloud.enrol("gw-1")
    await cloud.keeper.look()
    noted = cloud.authority.notes_file.read_bytes()
    await cloud.register.revoke("gw-1")
    await cloud.keeper.look()
    cloud.authority.notes_file.write_bytes(noted)
    again = Cloud(tmp_path, clock)
    assert await again.valid() == []
    again.database.close()


async def test_notes_that_cannot_be_read_stop_the_start(cloud: Cloud) -> None:
    cloud.authority.notes_file.write_text("spoilt")
    with pytest.raises(ConfigError, match=r"certificates\.json: cannot be read"):
        await cloud.keeper.look()

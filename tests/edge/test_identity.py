"""The folder of an enrolled box: what it says when something is wrong, and what a kill -9 leaves of a renewal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cloud.enrolment.authority import Authority, read_csr
from edge.identity import Identity, IdentityError, new_key, write_identity
from edge.renewal import Renewal
from tests.conftest import FakeClock
from wire.clock import Clock
from wire.configuration import ConfigError
from wire.enrolment import Enrolled

DAY_S = 86_400


class Cloud:
    """Signs what a box asks for, without a network between."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.authority = Authority(folder, ["localhost"], clock)

    def sign(self, csr: str) -> Enrolled:
        issued = self.authority.issue("gw-1", read_csr(csr), days=30)
        return Enrolled("gw-1", issued.pem, self.authority.ca_pem, self.authority.command_key_pem)

    def enrol(self, folder: Path) -> Identity:
        key = new_key()
        issued = self.authority.issue("gw-1", key.public_key(), days=30)
        enrolled = Enrolled("gw-1", issued.pem, self.authority.ca_pem, self.authority.command_key_pem)
        write_identity(folder, "https://localhost", key, enrolled, "gw-1")
        return Identity(folder, "gw-1")


@pytest.fixture
def cloud(tmp_path: Path, clock: FakeClock) -> Cloud:
    return Cloud(tmp_path / "authority", clock)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "box.pem").unlink(), r"box\.pem: no such file; run vitalwire enrol"),
        (lambda folder: (folder / "box.pem").write_text("x"), r"box\.pem: .*; run vitalwire enrol"),
        (lambda folder: (folder / "cloud.json").write_text("{}"), r"missing required field `gateway`"),
        (lambda folder: (folder / "command.pub").write_text("x"), r"run vitalwire enrol"),
        (lambda folder: shutil.rmtree(folder), r"no such file; run vitalwire enrol"),
    ],
    ids=["no certificate", "spoilt certificate", "no name", "spoilt key", "no folder"],
)
def test_a_spoilt_folder_is_told_by_file(cloud: Cloud, tmp_path: Path, spoil: object, said: str) -> None:
    cloud.enrol(tmp_path / "box")
    spoil(tmp_path / "box")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=said):
        Identity(tmp_path / "box", "gw-1")


def test_a_folder_of_another_box_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    cloud.enrol(tmp_path / "box")
    with pytest.raises(ConfigError, match="is of gateway 'gw-1', not 'gw-2'"):
        Identity(tmp_path / "box", "gw-2")


def test_the_certificate_before_stays_until_the_next_has_worked(cloud: Cloud, tmp_path: Path) -> None:
    box = cloud.enrol(tmp_path / "box")
    first = box.current.read_bytes()
    box.take_next(cloud.sign(box.next_request()))
    assert (box.is_next_waiting, box.current.read_bytes()) == (True, first)
    box.worked(box.current)  # a connection with the one before says nothing about the next
    assert (box.is_next_waiting, box.current.read_bytes()) == (True, first)
    second = box.next.read_bytes()
    box.worked(box.next)
    assert (box.is_next_waiting, box.current.read_bytes()) == (False, second)
    assert not (tmp_path / "box" / "next.key").exists()


def test_a_kill_at_any_moment_of_a_renewal_leaves_a_box_that_can_go_on(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def renew(box: Identity) -> None:
        csr = box.next_request()
        key = x509.load_pem_x509_csr(csr.encode()).public_key()
        assert key != x509.load_pem_x509_certificate(box.current.read_bytes()).public_key(), (
            "the cloud takes no old key"
        )
        box.take_next(cloud.sign(csr))
        box.worked(box.next)

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            steps.append(None)
            if len(steps) > dies_after:
                raise Killed
            return step(*arguments, **more)

        return act

    steps: list[None] = []
    # Each time it makes files anew (2 steps), replaces the certificate, and removes the old key.
    for dies_after in range(6):
        folder = tmp_path / f"box-{dies_after}"
        box = cloud.enrol(folder)
        steps.clear()
        with monkeypatch.context() as patched:
            for name in ("replace", "unlink"):
                patched.setattr(Path, name, dying(getattr(Path, name)))
            with pytest.raises(Killed):
                renew(box)
        renew(Identity(folder, "gw-1"))
        left = {path.name for path in folder.iterdir() if path.suffix != ".new"}
        assert left == {"box.pem", "ca.pem", "cloud.json", "command.pub"}


def test_a_next_certificate_of_another_key_or_authority_is_not_kept(
    cloud: Cloud, tmp_path: Path, clock: FakeClock
) -> None:
    box = cloud.enrol(tmp_path / "box")
    csr = box.next_request()
    stranger = Cloud(tmp_path / "stranger", clock)
    with pytest.raises(IdentityError, match="not the authority's"):
        box.take_next(stranger.sign(csr))
    assert not box.is_next_waiting


def test_renewal_is_due_at_two_thirds_and_not_while_the_next_is_to_be_tried(
    cloud: Cloud, tmp_path: Path, clock: FakeClock
) -> None:
    box = cloud.enrol(tmp_path / "box")
    renewal = Renewal(box, clock)
    clock.advance_s(19.9 * DAY_S)
    assert not renewal.is_due()
    clock.advance_s(0.2 * DAY_S)
    assert renewal.is_due()
    box.take_next(cloud.sign(box.next_request()))
    assert not renewal.is_due()
    clock.advance_s(DAY_S)
    assert renewal.is_due()  # it never got in
    box.next.write_text("spoilt by the disk")
    assert renewal.is_due()


def test_a_clock_that_was_never_set_does_not_renew(cloud: Cloud, tmp_path: Path, clock: FakeClock) -> None:
    box = cloud.enrol(tmp_path / "box")
    clock.wall_us = 0
    assert not Renewal(box, clock).is_due()


def test_a_next_certificate_that_never_got_in_is_replaced_once_a_day_by_one_of_another_key(
    cloud: Cloud, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = cloud.enrol(tmp_path / "box")
    asked: list[str] = []

    def renew(identity: Identity, _: Clock) -> None:
        asked.append(identity.next_request())
        clock.advance_s(-3 * DAY_S)  # the cloud's clock is behind the box's
        identity.take_next(cloud.sign(asked[-1]))
        clock.advance_s(3 * DAY_S)

    monkeypatch.setattr("edge.renewal.renew", renew)
    renewal = Renewal(box, clock)
    clock.advance_s(20 * DAY_S)
    for _ in range(2 * 24):
        renewal.renew_if_due()
        clock.advance_s(3600)
    assert len(asked) == 2
    first, second = (x509.load_pem_x509_csr(one.encode()).public_key() for one in asked)
    assert first != second


def test_an_answer_that_was_lost_is_asked_for_with_the_same_key(cloud: Cloud, tmp_path: Path) -> None:
    box = cloud.enrol(tmp_path / "box")
    first, second = (x509.load_pem_x509_csr(box.next_request().encode()).public_key() for _ in range(2))
    assert first == second


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(cloud: Cloud, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 1234, 1235)
    cloud.enrol(state / "box")
    written = [state / "box", *(state / "box").iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(1234, 1235)}

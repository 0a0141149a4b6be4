"""The cloud's keys: minted once, never replaced in silence, and what they sign is for one purpose."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography import x509

from cloud.enrolment.authority import Authority
from tests.conftest import FakeClock
from wire.configuration import ConfigError

DAY_S = 86_400


def authority(folder: Path, clock: FakeClock, *names: str) -> Authority:
    return Authority(folder, names or ("localhost",), clock)


def test_the_same_keys_come_back(tmp_path: Path, clock: FakeClock) -> None:
    first = authority(tmp_path / "a", clock)
    again = authority(tmp_path / "a", clock)
    assert (first.fingerprint, first.command_key_pem) == (again.fingerprint, again.command_key_pem)


@pytest.mark.parametrize("name", ["ca.key", "command.key"])
def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path, clock: FakeClock, name: str) -> None:
    authority(tmp_path / "a", clock)
    (tmp_path / "a" / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}: is gone: put it back from the backup"):
        authority(tmp_path / "a", clock)
    assert not (tmp_path / "a" / name).exists()


def test_a_start_that_was_killed_before_its_end_is_finished(tmp_path: Path, clock: FakeClock) -> None:
    authority(tmp_path / "a", clock)
    key = (tmp_path / "a" / "ca.key").read_bytes()
    (tmp_path / "a" / "ca.crt").unlink()
    (tmp_path / "a" / "command.key").unlink()
    authority(tmp_path / "a", clock)
    assert (tmp_path / "a" / "ca.key").read_bytes() == key


def test_a_key_of_another_authority_or_none_is_told(tmp_path: Path, clock: FakeClock) -> None:
    for name in ("a", "b"):
        authority(tmp_path / name, clock)
    shutil.copy(tmp_path / "b" / "ca.key", tmp_path / "a" / "ca.key")
    with pytest.raises(ConfigError, match=r"ca\.crt: is not of ca\.key beside it"):
        authority(tmp_path / "a", clock)
    (tmp_path / "a" / "ca.key").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"ca\.key: cannot be read as a key"):
        authority(tmp_path / "a", clock)


def test_the_clouds_own_certificate_follows_its_names_and_its_time(tmp_path: Path, clock: FakeClock) -> None:
    first = authority(tmp_path / "a", clock, "localhost")
    assert not first.keep_server_certificate()
    renamed = authority(tmp_path / "a", clock, "cloud.example.org", "192.0.2.1")
    names = x509.load_pem_x509_certificate(renamed.server_file.read_bytes()).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["cloud.example.org"]
    assert [str(one) for one in found.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    clock.advance_s(61 * DAY_S)
    assert renamed.keep_server_certificate()
    clock.advance_s(-30 * DAY_S)  # the clock was ahead when that one was made
    assert renamed.keep_server_certificate()
    assert not renamed.keep_server_certificate()
    renamed.server_file.write_text("spoilt")
    assert renamed.keep_server_certificate()

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cloud.sites import HAS_MOSQUITTO
from vitalwire import mosquitto
from vitalwire.command import UsageError


def test_a_missing_program_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(UsageError, match="no-such-broker is not installed here: apt-get install mosquitto"):
        mosquitto.find("no-such-broker")


@pytest.mark.skipif(not HAS_MOSQUITTO, reason="no mosquitto here: apt-get install mosquitto")
def test_the_broker_gets_hashes_and_only_the_owner_reads_its_files(tmp_path: Path) -> None:
    mosquitto.write(tmp_path / "broker", 1883, tmp_path / "state", ["gw-1"])
    for path in [*(tmp_path / "broker").iterdir(), *(tmp_path / "state" / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    password = (tmp_path / "state" / "secrets" / "gw-1.password").read_text().strip()
    hashed = (tmp_path / "broker" / "passwords").read_text()
    assert "gw-1:$7$" in hashed
    assert password not in hashed

"""A configuration on trial: kept or put back, whatever dies in between."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from edge.config import EdgeConfig
from edge.configuration import ConfigurationFile
from tests.conftest import START_US, FakeClock
from wire.commands import ApplyConfiguration, Command, encode_order
from wire.configuration import ConfigError
from wire.readings import CommandResult

ID = bytes(range(16))
OLD = 'gateway = "gw-1"\r\n# by hand\n'
COMMAND = Command(ID, msgspec.Raw(encode_order(ApplyConfiguration("", "", 60))), START_US, START_US + 1)
NEW = 'gateway = "gw-1"\nheartbeat_s = 1.0\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "edge.toml"
    path.write_bytes(OLD.encode())
    path.chmod(0o640)
    return path


def apply(toml: str = NEW, deadline_s: float = 60) -> ApplyConfiguration:
    return ApplyConfiguration(toml, "7", deadline_s)


def started(path: Path, clock: FakeClock) -> tuple[ConfigurationFile, float]:
    """As a process that starts: the file, and the heartbeat it would run with."""
    file = ConfigurationFile(path, clock)
    return file, file.start().config.heartbeat_s


def test_confirmed_configuration_stays_and_the_one_before_lies_beside(path: Path, clock: FakeClock) -> None:
    file, _ = started(path, clock)
    assert file.try_out(COMMAND, apply()) is True
    file, heartbeat_s = started(path, clock)
    assert heartbeat_s == 1.0
    assert file.trial is not None
    assert (file.trial.command_id, file.trial.result) == (ID.hex(), None)
    file.confirm()
    clock.advance_s(3600)  # a trial that ended well does not run out
    file, heartbeat_s = started(path, clock)
    assert (heartbeat_s, file.trial and file.trial.result) == (1.0, CommandResult.DONE)
    file.forget()
    file, heartbeat_s = started(path, clock)
    assert (heartbeat_s, file.trial) == (1.0, None)
    assert path.read_text() == NEW
    assert path.with_name("edge.toml.before").read_bytes() == OLD.encode()
    assert sorted(one.name for one in path.parent.iterdir()) == ["edge.toml", "edge.toml.before"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_agent_killed_during_the_trial_goes_on_with_what_is_left_of_it(path: Path, clock: FakeClock) -> None:
    file, _ = started(path, clock)
    file.try_out(COMMAND, apply(deadline_s=60))
    clock.advance_s(59)
    file, heartbeat_s = started(path, clock)
    assert heartbeat_s == 1.0
    assert file.trial is not None
    assert file.trial.remaining_s(clock) == pytest.approx(1)
    clock.advance_s(1)
    file, heartbeat_s = started(path, clock)
    assert heartbeat_s == 5.0
    assert path.read_bytes() == OLD.encode()
    assert file.trial is not None
    assert (file.trial.result, file.trial.detail) == (CommandResult.ROLLED_BACK, "no receipt within 60 s")


def test_machine_restarted_during_the_trial_goes_back(path: Path, clock: FakeClock) -> None:
    file, _ = started(path, clock)
    file.try_out(COMMAND, apply())
    clock.boot = b"next" * 4
    clock.mono_us = 0
    file, heartbeat_s = started(path, clock)
    assert heartbeat_s == 5.0
    assert file.trial is not None
    assert "restarted" in file.trial.detail


def test_configuration_that_cannot_start_goes_back_at_once(path: Path, clock: FakeClock) -> None:
    limits = path.with_name("limits.toml")
    limits.write_bytes(Path(EdgeConfig("gw-1").alarm_limits_file).read_bytes())
    file, _ = started(path, clock)
    file.try_out(COMMAND, apply(f'gateway = "gw-1"\nalarm_limits_file = "{limits}"\n'))
    limits.unlink()
    file, _ = started(path, clock)
    assert path.read_bytes() == OLD.encode()
    assert file.trial is not None
    assert "limits.toml" in file.trial.detail


@pytest.mark.parametrize("written", [1, 2, 3])
def test_agent_killed_while_it_writes_leaves_a_whole_configuration(
    path: Path, clock: FakeClock, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    replace, count = Path.replace, iter(range(1, 9))

    def fatal(self: Path, target: Path) -> Path:
        if next(count) == written:
            raise Killed
        return replace(self, target)

    file, _ = started(path, clock)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fatal)
        with pytest.raises(Killed):
            file.try_out(COMMAND, apply())
    file, heartbeat_s = started(path, clock)
    assert (heartbeat_s, file.trial) == (5.0, None)  # as if it had never come: it is sent again
    assert file.try_out(COMMAND, apply()) is True
    assert started(path, clock)[1] == 1.0


@pytest.mark.parametrize("written", [1, 2])
def test_agent_killed_while_it_rolls_back_finishes_that(
    path: Path, clock: FakeClock, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, count = Path.replace, iter(range(1, 9))

    def fatal(self: Path, target: Path) -> Path:
        if next(count) == written:
            raise KeyboardInterrupt
        return replace(self, target)

    file, _ = started(path, clock)
    file.try_out(COMMAND, apply())
    clock.advance_s(60)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fatal)
        with pytest.raises(KeyboardInterrupt):
            file.roll_back()
    for _ in range(2):
        file, heartbeat_s = started(path, clock)
        assert heartbeat_s == 5.0
        assert file.trial is not None
        assert file.trial.result is CommandResult.ROLLED_BACK


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("gateway = ", "not TOML"),
        ('gateway = "gw-1"\ngatewai = 1', "gatewai"),
        ('gateway = "gw-1"\n[[device]]\nid = "m"\ndriver = "nothing"', "device[0].driver"),
        ('gateway = "gw-2"', "gateway: cannot be changed"),
        ('gateway = "gw-1"\nstate_dir = "elsewhere"', "state_dir: cannot be changed"),
        ('gateway = "gw-1"\n[spool]\nbulk_mib = 1', "spool: cannot be changed"),
        ('gateway = "gw-1"\n[uplink]\npassword_file = "/dev/null"', "uplink.password_file"),
        ('gateway = "gw-1"\n[uplink]\nendpoints = ["mqtt://127.0.0.1:1"]', "uplink.endpoints: cannot be changed"),
        (
            'gateway = "gw-1"\n[second_uplink]\nendpoints = ["mqtt://127.0.0.1:1"]',
            "second_uplink.endpoints: cannot be changed",
        ),
        ('gateway = "gw-1"\nidentity_dir = "."', "identity_dir"),
        ('gateway = "gw-1"\n[uplink]\nca_file = "other.pem"', "uplink.ca_file: cannot be changed"),
        (
            'gateway = "gw-1"\n[second_uplink]\npassword_file = "/etc/shadow"\nca_file = "other.pem"',
            "second_uplink.password_file, second_uplink.ca_file: cannot be changed",
        ),
    ],
)
def test_wrong_configuration_is_refused_by_name_and_changes_nothing(
    path: Path, clock: FakeClock, toml: str, said: str
) -> None:
    file, _ = started(path, clock)
    with pytest.raises(ConfigError) as refused:
        file.try_out(COMMAND, apply(toml))
    assert str(refused.value).startswith("configuration 7: ")
    assert said in str(refused.value)
    assert [one.name for one in path.parent.iterdir()] == ["edge.toml"]


def test_a_signed_command_may_say_where_the_cloud_is(path: Path, clock: FakeClock) -> None:
    file, _ = started(path, clock)
    assert file.try_out(COMMAND, apply(f'{OLD}[uplink]\nendpoints = ["mqtt://127.0.0.1:1"]\n'), is_signed=True)


def test_configuration_in_force_needs_no_trial(path: Path, clock: FakeClock) -> None:
    file, _ = started(path, clock)
    assert file.try_out(COMMAND, apply(OLD)) is False
    assert file.trial is None


def test_disk_that_refuses_leaves_everything_as_it_was(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = started(path, clock)
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", _full)
        with pytest.raises(OSError, match="full"):
            file.try_out(COMMAND, apply())
    assert file.trial is None
    assert path.read_bytes() == OLD.encode()
    assert not list(path.parent.glob("*.new"))


def _full(_file: int) -> None:
    raise OSError("disk full")


def test_file_mended_by_a_person_is_not_put_back(path: Path, clock: FakeClock) -> None:
    file, _ = started(path, clock)
    file.try_out(COMMAND, apply())
    mended = 'gateway = "gw-1"\nheartbeat_s = 2.0\n'
    path.write_text(mended)
    clock.advance_s(60)
    file.roll_back()
    assert started(path, clock)[1] == 2.0

"""The box's configuration file, and its change by command: tried, then kept for good or put back by itself.

Beside FILE lie FILE.before, the one it replaced, and during a trial FILE.trial. The trial is on disk before the new
configuration is, so that whatever dies in between, the next start knows what to do.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

import msgspec

from edge import config
from edge.config import EdgeConfig, Resolved
from edge.uplink import UplinkConfig
from wire.clock import MICROSECONDS, Clock
from wire.commands import ApplyConfiguration, Command
from wire.configuration import ConfigError
from wire.readings import CommandResult

_log = logging.getLogger(__name__)

# What no command may change: who the box is, and where and how long it keeps what it has not delivered.
_KEPT = ("gateway", "state_dir", "identity_dir", "spool")
# Whoever could send a command would else read a secret by having the box show it to another server.
_KEPT_OF_UPLINKS = ("password_file", "ca_file", "cert_file")
# An unsigned command must not lead a box away from its cloud.
_KEPT_UNSIGNED = ("endpoints",)


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration that has to prove itself, as it lies on disk; with a `result` it is over and to be reported."""

    command_id: str
    version: str
    digest: str
    deadline_s: float
    # Monotonic time goes on through a kill -9 of the agent, not through a restart of the machine.
    boot_id: str
    began_us: int
    result: CommandResult | None = None
    detail: str = ""
    issued_us: int = 0

    def remaining_s(self, clock: Clock) -> float:
        """How long it has left, 0 when it is over or the machine was restarted."""
        if self.boot_id != clock.boot_id().hex():
            return 0.0
        return max(0.0, self.deadline_s - (clock.monotonic_us() - self.began_us) / MICROSECONDS)


class ConfigurationFile:
    """The file of one box. Every method but `start` may wait for the disk: call it off the event loop."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.trial: Trial | None = None
        path = path.resolve()  # a link stays one: what it leads to is replaced
        self._path, self._clock = path, clock
        self._before = path.with_name(path.name + ".before")
        self._trial_path = path.with_name(path.name + ".trial")

    def start(self) -> Resolved:
        """What the box is to run with now: puts the file before back when a trial is over or cannot even start.

        Raises ConfigError.
        """
        self.trial = trial = self._read_trial()
        if trial is None or trial.result is CommandResult.DONE:
            return self._checked()
        if trial.result is not None:
            self._put_back(trial)  # the agent may have died on the way to it
        elif not self._is_in_force(trial):
            self.forget()  # it died before the trial began; or a person mended the file
        elif not trial.remaining_s(self._clock):
            try:
                self.roll_back()
            except OSError as error:  # it goes on with what is there, and insists
                _log.error("the configuration cannot be rolled back yet: %s", error)
        else:
            try:
                return self._checked()
            except ConfigError as error:
                self.roll_back(str(error))
        return self._checked()

    def _checked(self) -> Resolved:
        resolved = config.read(self._path)
        config.check_ports(resolved, self._path)
        return resolved

    def _why_over(self, trial: Trial) -> str:
        if trial.boot_id != self._clock.boot_id().hex():
            return "the machine was restarted before a receipt came"
        return f"no receipt within {trial.deadline_s:g} s"

    def try_out(self, command: Command, order: ApplyConfiguration, *, is_signed: bool = False) -> bool:
        """Checks a configuration and puts it in place on trial; False when it is the one in force.

        Where the cloud is changes by a signed command alone.
        Raises ConfigError when it cannot be used, OSError when it cannot be written.
        """
        where = f"configuration {order.version}".rstrip()
        now = config.read(self._path).config
        new = config.read_as(order.toml, where=where).config
        if changed := _changed(now, new, is_signed=is_signed):
            raise ConfigError(f"{where}: {', '.join(changed)}: cannot be changed by command")
        text, text_now = order.toml.encode(), self._path.read_bytes()
        if text == text_now:
            return False
        trial = Trial(
            command.command_id.hex(),
            order.version,
            _digest(text),
            order.deadline_s,
            self._clock.boot_id().hex(),
            self._clock.monotonic_us(),
            issued_us=command.issued_us,
        )
        self._replace(self._before, text_now)
        try:
            self._write_trial(trial)
            self._replace(self._path, text)
        except OSError:
            self.forget()
            raise
        _log.warning("configuration %s is tried for %g s", order.version, order.deadline_s)
        return True

    def confirm(self) -> Trial:
        """A receipt came: the configuration stays. Returns the trial as it ended. Raises OSError."""
        assert self.trial is not None
        ended = msgspec.structs.replace(self.trial, result=CommandResult.DONE)
        self._write_trial(ended)
        _log.info("configuration %s is kept", ended.version)
        return ended

    def roll_back(self, why: str = "") -> None:
        """Puts the file before back; without a reason the time is over. Raises OSError."""
        assert self.trial is not None
        why = why or self._why_over(self.trial)
        _log.warning("configuration %s is rolled back: %s", self.trial.version, why)
        ended = msgspec.structs.replace(self.trial, result=CommandResult.ROLLED_BACK, detail=why)
        self._write_trial(ended)
        self._put_back(ended)

    def forget(self) -> None:
        """The trial is reported, or never began; a file that was replaced stays beside, for a person."""
        self._trial_path.unlink(missing_ok=True)
        _sync_folder(self._path.parent)
        self.trial = None

    def _is_in_force(self, trial: Trial) -> bool:
        return self._path.exists() and _digest(self._path.read_bytes()) == trial.digest

    def _put_back(self, trial: Trial) -> None:
        """Does nothing when it is done already, or a person mended the file meanwhile."""
        if not self._is_in_force(trial):
            return
        # A rename needs no room: a box without an uplink is one whose disk fills.
        self._before.replace(self._path)
        _sync_folder(self._path.parent)

    def _read_trial(self) -> Trial | None:
        try:
            return msgspec.json.decode(self._trial_path.read_bytes(), type=Trial)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{self._trial_path}: cannot be read: {error}") from error

    def _write_trial(self, trial: Trial) -> None:
        self._replace(self._trial_path, msgspec.json.encode(trial))
        self.trial = trial

    def _replace(self, path: Path, content: bytes) -> None:
        """Writes a file as one, with the rights of the configuration: after power loss it is the old or the new."""
        fresh = path.with_name(path.name + ".new")
        try:
            with fresh.open("wb") as file:
                shutil.copymode(self._path, fresh)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _changed(now: EdgeConfig, new: EdgeConfig, *, is_signed: bool) -> list[str]:
    """What differs of that which no command may change; an uplink that is not there names no files."""
    changed = [key for key in _KEPT if getattr(new, key) != getattr(now, key)]
    kept = _KEPT_OF_UPLINKS if is_signed else _KEPT_OF_UPLINKS + _KEPT_UNSIGNED
    for name in ("uplink", "second_uplink"):
        before, after = getattr(now, name) or UplinkConfig(), getattr(new, name) or UplinkConfig()
        changed += [f"{name}.{key}" for key in kept if getattr(after, key) != getattr(before, key)]
    return changed

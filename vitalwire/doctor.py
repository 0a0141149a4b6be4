"""Examines a box: each finding says what is wrong and what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from wire.clock import EARLIEST_PLAUSIBLE_US, SystemClock
from wire.configuration import ConfigError

_CONNECT_S = 3.0
_LOW_DISK_MIB = 256
_PARTS = {
    "edge": ("aiomqtt", "bleak"),
    "cloud": ("nats", "aiomqtt", "sqlalchemy", "fastapi"),
    "sim": ("bumble", "wfdb"),
}


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "BAD"


class Finding(NamedTuple):
    """One thing looked at."""

    level: Level
    what: str
    why: str


def examine(config_path: Path | None) -> list[Finding]:
    """Everything there is to say about this box, and about one configuration on it."""
    findings = [*_software(), _clock(), *_radio(), *_serial()]
    if config_path is None:
        return [*findings, _disk(Path.cwd())]
    from edge import config

    try:
        resolved = config.read(config_path)
    except ConfigError as error:
        return [*findings, Finding(Level.BAD, "configuration", str(error))]
    findings.append(Finding(Level.OK, "configuration", f"{config_path}: {len(resolved.devices)} device(s)"))
    try:
        config.check_ports(resolved, config_path)
    except ConfigError as error:
        findings.append(Finding(Level.BAD, "ports", f"{error}; is an agent running already?"))
    findings.append(_disk(_existing(Path(resolved.config.state_dir))))
    return [*findings, *(_broker(endpoint) for endpoint in resolved.config.uplink.endpoints)]


def _software() -> Iterator[Finding]:
    for part, modules in _PARTS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield Finding(Level.WARN, part, f"not installed here ({', '.join(missing)}): pip install vitalwire[{part}]")
        else:
            yield Finding(Level.OK, part, "installed")


def _clock() -> Finding:
    clock = SystemClock()
    if clock.now_us() < EARLIEST_PLAUSIBLE_US:
        return Finding(Level.BAD, "clock", "has never been set; readings are kept but not placed in history")
    state = clock.state()
    if not state.synchronised:
        return Finding(Level.WARN, "clock", "not synchronised by the kernel's word: run an NTP client such as chrony")
    return Finding(Level.OK, "clock", f"synchronised, at most {state.uncertainty_us / 1000:.0f} ms off")


def _radio() -> Iterator[Finding]:
    adapters = Path("/sys/class/bluetooth")
    names = sorted(path.name for path in adapters.iterdir()) if adapters.is_dir() else []
    if not names:
        yield Finding(Level.WARN, "bluetooth", "no adapter; Bluetooth devices cannot be used")
        return
    if not Path("/run/dbus/system_bus_socket").exists():
        yield Finding(Level.BAD, "bluetooth", "no system D-Bus: start dbus and bluetoothd")
    yield Finding(Level.OK, "bluetooth", ", ".join(names))


def _serial() -> Iterator[Finding]:
    for pattern in ("ttyUSB*", "ttyACM*", "ttyS*"):
        for port in sorted(Path("/dev").glob(pattern)):
            if not os.access(port, os.R_OK | os.W_OK):
                yield Finding(Level.WARN, str(port), "no permission: add this user to the group dialout")


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _disk(folder: Path) -> Finding:
    free_mib = shutil.disk_usage(folder).free // (1024 * 1024)
    if not os.access(folder, os.W_OK):
        return Finding(Level.BAD, "disk", f"{folder}: no permission to write")
    if free_mib < _LOW_DISK_MIB:
        return Finding(Level.BAD, "disk", f"{folder}: {free_mib} MiB free, at least {_LOW_DISK_MIB} needed")
    return Finding(Level.OK, "disk", f"{folder}: {free_mib} MiB free")


def _broker(endpoint: str) -> Finding:
    url = urlsplit(endpoint)
    port = url.port or (8883 if url.scheme == "mqtts" else 1883)
    try:
        with socket.create_connection((url.hostname or "", port), timeout=_CONNECT_S):
            return Finding(Level.OK, "broker", f"{endpoint} answers")
    except OSError as error:
        return Finding(Level.BAD, "broker", f"{endpoint}: {error}")

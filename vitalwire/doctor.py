"""Examines a box: each finding says what is wrong and what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS, SystemClock
from wire.configuration import ConfigError

if TYPE_CHECKING:
    from edge.config import EdgeConfig
    from edge.identity import Identity

_CONNECT_S = 3.0
_LOW_DISK_MIB = 256
# MQTT 3.1.1, 3.1 and 3.2: a clean session of a client without a name, and its acceptance.
_MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0f\x00\x00"
_MQTT_YES = b"\x20\x02\x00\x00"
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
    return [*findings, *_trust(resolved.config)]


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


def _trust(config: EdgeConfig) -> Iterator[Finding]:
    """The certificates this box shows, and whether its brokers answer and let it in."""
    from edge.identity import Identity

    try:
        identity = Identity(Path(config.identity_dir), config.gateway) if config.identity_dir else None
    except ConfigError as error:
        yield Finding(Level.BAD, "certificate", str(error))
        return
    if identity is not None:
        yield _certificate(identity.current, is_renewed=True)
    for uplink in filter(None, (config.uplink, config.second_uplink)):
        if identity is None and uplink.cert_file is not None:
            yield _certificate(Path(uplink.cert_file), is_renewed=False)
        for endpoint in uplink.endpoints:
            finding = _broker(endpoint)
            if finding.level is Level.OK and identity is not None and endpoint.startswith("mqtts:"):
                finding = _lets_in(endpoint, identity)
            yield finding


def _certificate(path: Path, *, is_renewed: bool) -> Finding:
    from edge.identity import IdentityError, validity_of
    from edge.renewal import DUE_AT

    try:
        validity = validity_of(path)
    except (OSError, IdentityError) as error:
        return Finding(Level.BAD, "certificate", str(error))
    now_us = SystemClock().now_us()
    again = "ask the site's authority for another"
    late = "the agent renews it when it reaches the cloud; if that says no, enrol again with a new code"
    until = datetime.fromtimestamp(validity.until_us / MICROSECONDS, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now_us < EARLIEST_PLAUSIBLE_US:
        return Finding(Level.WARN, "certificate", f"{path}: good until {until}, as far as a clock not set can tell")
    if now_us >= validity.until_us:
        return Finding(Level.BAD, "certificate", f"{path}: expired {until}: {late if is_renewed else again}")
    if now_us < validity.from_us:
        return Finding(Level.BAD, "certificate", f"{path}: is not good yet by this box's clock: set the clock")
    days = (validity.until_us - now_us) / (86_400 * MICROSECONDS)
    if now_us >= validity.from_us + (validity.until_us - validity.from_us) * DUE_AT:
        late = "its renewal is overdue: does the agent run and reach the cloud?" if is_renewed else again
        return Finding(Level.WARN, "certificate", f"{path}: {days:.0f} days left, {late}")
    return Finding(Level.OK, "certificate", f"{path}: good until {until}, {days:.0f} days")


def _broker(endpoint: str) -> Finding:
    try:
        with socket.create_connection(_address(endpoint), timeout=_CONNECT_S):
            return Finding(Level.OK, "broker", f"{endpoint} answers")
    except OSError as error:
        return Finding(Level.BAD, "broker", f"{endpoint}: {error}")


def _lets_in(endpoint: str, identity: Identity) -> Finding:
    """Says MQTT's first words with the box's certificate, under a name that ends no connection of the agent."""
    host, port = _address(endpoint)
    try:
        context = identity.context(identity.current, SystemClock())
        with (
            socket.create_connection((host, port), timeout=_CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as link,
        ):
            link.sendall(_MQTT_CONNECT)
            answer = link.recv(4)
    except OSError as error:
        return Finding(Level.BAD, "broker", f"{endpoint}: {error}")
    if answer != _MQTT_YES:
        return Finding(Level.BAD, "broker", f"{endpoint} does not let this box in: revoked? Ask for a new code")
    return Finding(Level.OK, "broker", f"{endpoint} lets this box in")


def _address(endpoint: str) -> tuple[str, int]:
    url = urlsplit(endpoint)
    return url.hostname or "", url.port or (8883 if url.scheme == "mqtts" else 1883)

"""What a site may set for one box, read by wire.configuration.load. Secrets are files, never values."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

import configs
from clinical.alarm_limits import AlarmLimits
from drivers import catalog
from drivers.driver import Driver, DriverOptions, LinkKind
from drivers.links.peers import parse_peers
from edge.identity import Identity
from edge.spool import SpoolConfig
from edge.spool.cipher import load_cipher
from edge.uplink import UplinkConfig
from wire.configuration import ConfigError, convert, load, parse, read_text
from wire.readings import Origin, SessionKind
from wire.topics import check_gateway_id

_ORIGINS = {origin.name.lower(): origin for origin in Origin}


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What this box's readings belong to; `label` names a vehicle, booth or home, never a person.

    Without it the box's own id is shown.
    """

    kind: SessionKind = SessionKind.MISSION
    label: Annotated[str, Meta(min_length=1)] = ""


class DeviceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device: `driver` from `vitalwire devices`, `link` and `options` as that driver takes them.

    `origin` left out is real; over a radio that bumble drives it has to be written.
    """

    id: str
    driver: str
    origin: str | None = None
    # Any: whatever TOML holds; checked against the driver's own structs by `resolve`.
    link: dict[str, Any] = {}
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.origin is not None and self.origin not in _ORIGINS:
            raise ValueError(f"origin {self.origin!r}; allowed: {', '.join(_ORIGINS)}")


class EdgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One agent process."""

    gateway: str
    state_dir: str = "edge-state"
    # Written by `vitalwire enrol`. Without it a box speaks to a cloud on its own machine, or by a site's certificate.
    identity_dir: str | None = None
    session: SessionConfig = SessionConfig()
    uplink: UplinkConfig = UplinkConfig()
    second_uplink: UplinkConfig | None = None
    spool: SpoolConfig = SpoolConfig()
    device: tuple[DeviceConfig, ...] = ()
    alarm_limits_file: str = str(configs.ROOT / "alarm_limits.toml")
    # An independent account of what was accepted, one line a commit: for tests and the demo's judge.
    ledger_file: str | None = None
    # The cloud calls a box silent after 15 s; below a tenth of a second heartbeats would fill the spool.
    heartbeat_s: Annotated[float, Meta(ge=0.1, le=10)] = 5.0

    def __post_init__(self) -> None:
        check_gateway_id(self.gateway)
        ids = [device.id for device in self.device]
        if len(set(ids)) != len(ids):
            raise ValueError("device: every id may be there only once")
        for name in ("uplink", "second_uplink"):
            uplink: UplinkConfig | None = getattr(self, name)
            if uplink is None or self.identity_dir is not None or uplink.cert_file is not None:
                continue
            if any(endpoint.startswith("mqtts:") for endpoint in uplink.endpoints):
                raise ValueError(
                    f"{name}.endpoints: mqtts needs identity_dir (see vitalwire enrol), or {name}.cert_file and "
                    "ca_file of a site's own authority"
                )


class MllpOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an HL7 monitor finds us, from which addresses it may come, and how long it may be silent.

    The newest connection speaks for the monitor, so beyond this box the peers have to be named.
    """

    listen: str
    # A monitor sends every second to every minute; one that is unplugged must be noticed within the hour.
    silence_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"listen: {self.listen!r} is not host:port, such as 0.0.0.0:2575")
        for peer, network in zip(self.peers, parse_peers(self.peers).networks, strict=True):
            if network.prefixlen == 0:
                raise ValueError(
                    f"peers: {peer!r} means everybody, and whoever connects last speaks for the monitor: name its "
                    'address or network, such as peers = ["192.168.7.20"]'
                )
        if not self.peers and not _is_loopback(host):
            raise ValueError(
                f"peers: listen = {self.listen!r} is reachable from outside: name the monitor's address or network, "
                'such as peers = ["192.168.7.20"]'
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Device(NamedTuple):
    """A configured device with everything its session needs, checked."""

    id: str
    origin: Origin
    driver: Driver
    link: msgspec.Struct
    options: DriverOptions


class Resolved(NamedTuple):
    """A configuration with what its names stand for."""

    config: EdgeConfig
    devices: tuple[Device, ...]
    limits: AlarmLimits


def read(path: Path) -> Resolved:
    """Reads and checks a configuration without connecting to anything. Raises ConfigError."""
    return read_as(read_text(path), where=str(path))


def read_as(text: str, *, where: str) -> Resolved:
    """As `read`, of a text that `where` names. Raises ConfigError."""
    config = parse(text, EdgeConfig, where=where)
    devices = tuple(_resolve(device, f"{where}: device[{index}]") for index, device in enumerate(config.device))
    if (password := config.uplink.password_file) and not Path(password).is_file():
        raise ConfigError(f"{where}: uplink.password_file: {password}: no such file")
    if config.spool.key_file is not None:
        try:
            load_cipher(config.spool.key_file)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    for name in ("uplink", "second_uplink"):
        certificate = getattr(getattr(config, name), "cert_file", None)
        if certificate and not Path(certificate).is_file():
            raise ConfigError(f"{where}: {name}.cert_file: {certificate}: no such file")
    return Resolved(config, devices, load(Path(config.alarm_limits_file), AlarmLimits))


def _resolve(device: DeviceConfig, where: str) -> Device:
    try:
        driver = catalog.find(device.driver)
    except catalog.UnknownDriverError as error:
        raise ConfigError(f"{where}.driver: {error.args[0]}") from None
    link = convert(device.link, _link_options(driver.link), where=f"{where}.link")
    options = convert(device.options, driver.options, where=f"{where}.options")
    return Device(device.id, _origin(device, driver, link, f"{where}.origin"), driver, link, options)


def _origin(device: DeviceConfig, driver: Driver, link: msgspec.Struct, where: str) -> Origin:
    """What the device's readings are marked as. Raises ConfigError where a simulated one could pass for a patient's."""
    allowed = tuple(_ORIGINS)
    if driver.link is LinkKind.GATT:
        from drivers.links.gatt import GattOptions

        assert isinstance(link, GattOptions)
        allowed = allowed if link.is_on_this_box else tuple(name for name in _ORIGINS if _ORIGINS[name] > Origin.REAL)
        if link.is_bumble and device.origin not in allowed:
            said = "must be written" if device.origin is None else f"{device.origin!r} cannot be"
            raise ConfigError(f"{where}: {said} over adapter {link.adapter!r}; allowed: {', '.join(allowed)}")
    return _ORIGINS[device.origin or "real"]


def _link_options(kind: LinkKind) -> type[msgspec.Struct]:
    match kind:
        case LinkKind.MLLP:
            return MllpOptions
        case LinkKind.GATT:
            from drivers.links.gatt import GattOptions  # only a box with a radio loads its stack

            return GattOptions


def check_identity(resolved: Resolved, path: Path) -> None:
    """Whether the box is enrolled as it says. Raises ConfigError; a box that runs goes on without (edge/agent.py)."""
    if (folder := resolved.config.identity_dir) is not None:
        try:
            Identity(Path(folder), resolved.config.gateway)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def check_ports(resolved: Resolved, path: Path) -> None:
    """Tries every port this box will listen on, before anything starts. Raises ConfigError."""
    for index, device in enumerate(resolved.devices):
        if not isinstance(device.link, MllpOptions):
            continue
        host, _, port = device.link.listen.rpartition(":")
        try:
            with socket.create_server((host.strip("[]"), int(port)), reuse_port=False):
                pass
        except OSError as error:
            key = f"device[{index}].link.listen"
            raise ConfigError(f"{path}: {key}: {device.link.listen} cannot be listened on: {error.strerror}") from None

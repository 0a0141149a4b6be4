"""What a site may set for the cloud, read by wire.configuration.load. Secrets are files, never values."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from cloud.access_config import AccessConfig, AccessMode
from cloud.retention_config import RetentionConfig
from cloud.store.audit.chain import MIN_KEEP_DAYS
from cloud.store.location import parse_store_url
from wire.configuration import ConfigError, load
from wire.topics import check_gateway_id

# Also a user of the broker, so no gateway may bear it.
INGEST_USER = "ingest"
STORE_FILE = "store.sqlite"
_HOST_NAME = re.compile(r"[0-9a-z]([0-9a-z.-]*[0-9a-z])?|[0-9a-f:]*:[0-9a-f:]*")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - recognised, never a default
_MOST_CERTIFICATE_DAYS = 398  # what browsers still take of anybody; short-lived is the point
_MOST_LATE_DAYS = 3650  # the life of the authority


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Reads host:port. Raises ValueError naming what is allowed."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT with a port from 1 to 65535")
    return Address(host, int(port))


class Endpoint(NamedTuple):
    """A broker of somebody else."""

    host: str
    port: int
    is_tls: bool


def parse_endpoint(text: str) -> Endpoint:
    """Reads mqtt://host:port or mqtts://host:port, the port by default the scheme's own. Raises ValueError."""
    url = urlsplit(text)
    try:
        port = url.port if url.port is not None else {"mqtt": 1883, "mqtts": 8883}[url.scheme]
    except (KeyError, ValueError):
        port = 0
    is_bare = not url.path and not url.query and not url.fragment and url.username is None
    if not url.hostname or not port or url.scheme not in ("mqtt", "mqtts") or not is_bare:
        raise ValueError(f"{text!r} is not mqtt://host:port or mqtts://host:port")
    return Endpoint(url.hostname, port, url.scheme == "mqtts")


class TlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys of a listener; with `ca_file` clients must show a certificate signed by it."""

    cert_file: str
    key_file: str
    ca_file: str = ""


def _require_tls(key: str, listen: str, tls: TlsConfig | None) -> None:
    if not parse_address(listen).is_loopback and tls is None:
        raise ValueError(f"{key} = {listen!r} is reachable from outside and needs tls.cert_file and tls.key_file")


class BrokerKind(StrEnum):
    """Who runs the broker."""

    EMBEDDED = "embedded"
    MQTT = "mqtt"


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`embedded`: a nats-server of ours, `mqtt_listen` for gateways, `client_listen` for this process alone.
    `mqtt`: any MQTT 5 broker of the site, `mqtt://` on loopback and `mqtts://` anywhere else."""

    kind: BrokerKind = BrokerKind.EMBEDDED

    mqtt_listen: str = "127.0.0.1:1883"
    client_listen: str = "127.0.0.1:4222"
    tls: TlsConfig | None = None
    buffer_max_age_s: Annotated[float, Meta(ge=60, le=30 * 86_400)] = 3600.0
    buffer_max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 1 << 30

    endpoint: str = ""
    user: str = ""
    password_file: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        for kind, keys in _BROKER_KEYS.items():
            strangers = [] if kind is self.kind else [key for key in keys if getattr(self, key) != _default(key)]
            if strangers:
                raise ValueError(f"{', '.join(strangers)}: only for kind = {kind.value!r}, not {self.kind.value!r}")
        if self.kind is BrokerKind.MQTT:
            self._check_mqtt()
        else:
            self._check_embedded()

    def _check_embedded(self) -> None:
        if not parse_address(self.client_listen).is_loopback:
            raise ValueError(
                f"client_listen = {self.client_listen!r} must be a loopback address, such as 127.0.0.1:4222"
            )
        client, mqtt = parse_address(self.client_listen), parse_address(self.mqtt_listen)
        if client.port == mqtt.port and (mqtt.is_loopback or mqtt.host in _EVERYWHERE):
            raise ValueError(
                f"client_listen = {self.client_listen!r} and mqtt_listen = {self.mqtt_listen!r} need different ports"
            )

    def _check_mqtt(self) -> None:
        if not self.endpoint:
            raise ValueError("kind = 'mqtt' needs endpoint, mqtt://host:port or mqtts://host:port")
        endpoint = parse_endpoint(self.endpoint)
        if not endpoint.is_tls and not Address(endpoint.host, endpoint.port).is_loopback:
            raise ValueError(f"endpoint = {self.endpoint!r}: only a loopback address may go without mqtts")
        if not endpoint.is_tls and self.ca_file:
            raise ValueError(f"ca_file: endpoint = {self.endpoint!r} has no TLS; use mqtts")
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user and password_file: give both or none")


_BROKER_KEYS = {
    BrokerKind.EMBEDDED: ("mqtt_listen", "client_listen", "tls", "buffer_max_age_s", "buffer_max_bytes"),
    BrokerKind.MQTT: ("endpoint", "user", "password_file", "ca_file"),
}


def _default(key: str) -> object:
    """What a key of the broker is when nobody set it."""
    return next(field.default for field in msgspec.structs.fields(BrokerConfig) if field.name == key)


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box that may connect; its password lies in secrets/ID.password under the state directory.

    A broker of the site knows its boxes itself and does not look here.
    """

    id: str

    def __post_init__(self) -> None:
        check_gateway_id(self.id)
        if self.id == INGEST_USER:
            raise ValueError(f"id {INGEST_USER!r} is the cloud's own; choose another")


class EnrolmentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An authority of our own: `names` are what boxes call this cloud, `listen` is where they enrol and renew."""

    names: tuple[str, ...]
    listen: str = "127.0.0.1:8443"
    certificate_days: float = 30.0
    late_renewal_days: float = 365.0

    def __post_init__(self) -> None:
        parse_address(self.listen)
        if not self.names or not all(_HOST_NAME.fullmatch(name) for name in self.names):
            raise ValueError(f"names = {list(self.names)}: at least one host name or IP address, in lower case")
        # A box renews at two thirds of it: less than an hour leaves no time to mend what keeps it from that.
        if not 1 / 24 <= self.certificate_days <= _MOST_CERTIFICATE_DAYS:
            raise ValueError(f"certificate_days = {self.certificate_days:g} is not 0.05 to {_MOST_CERTIFICATE_DAYS}")
        if not 0 <= self.late_renewal_days <= _MOST_LATE_DAYS:
            raise ValueError(f"late_renewal_days = {self.late_renewal_days:g} is not 0 to {_MOST_LATE_DAYS}")


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where screens connect, and how often they may ask: ten seconds' worth at once.

    A source may be a whole hospital behind one address; an identity is one sign-in or token. What `trusted_proxies` say
    of who asks, and how, is believed; of nobody else.
    """

    listen: str = "127.0.0.1:8080"
    tls: TlsConfig | None = None
    trusted_proxies: tuple[str, ...] = ()
    requests_per_s_per_source: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    requests_per_s_per_identity: Annotated[int, Meta(ge=1, le=1_000_000)] = 30

    def __post_init__(self) -> None:
        _require_tls("listen", self.listen, self.tls)
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_address(proxy)
            except ValueError:
                raise ValueError(f"trusted_proxies: {proxy!r} is no address such as 10.0.0.5 or fd00::5") from None


class CloudConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cloud process. Without `store_url` the store is a SQLite file in `state_dir`.

    `audit_keep_days` is how long it stays known who saw what.
    """

    access: AccessConfig
    state_dir: str = "cloud-state"
    store_url: str = ""
    store_password_file: str = ""
    audit_keep_days: int = MIN_KEEP_DAYS
    retention: RetentionConfig = RetentionConfig()
    broker: BrokerConfig = BrokerConfig()
    api: ApiConfig = ApiConfig()
    enrolment: EnrolmentConfig | None = None
    gateways: tuple[GatewayConfig, ...] = ()

    def __post_init__(self) -> None:
        ids = [gateway.id for gateway in self.gateways]
        if len(set(ids)) != len(ids):
            raise ValueError("gateways: every id may be there only once")
        if self.store_url:
            parse_store_url(self.store_url)
        if self.audit_keep_days < MIN_KEEP_DAYS:
            raise ValueError(
                f"audit_keep_days must be at least {MIN_KEEP_DAYS}: China's Cybersecurity Law (art. 21, since 2026 "
                "art. 23) asks for six months, which are up to 184 days"
            )
        self._check_trust()
        if self.access.mode is AccessMode.DEMO and not parse_address(self.api.listen).is_loopback:
            raise ValueError("access.mode = 'demo' needs a loopback api.listen; here use 'token'")

    def _check_trust(self) -> None:
        """Boxes and broker know each other by certificates wherever others can reach them."""
        broker = self.broker
        if self.enrolment is not None:
            if broker.kind is not BrokerKind.EMBEDDED:
                raise ValueError("enrolment: only with broker.kind = 'embedded', which a revocation reaches at once")
            if self.access.mode is AccessMode.DEMO and not parse_address(self.enrolment.listen).is_loopback:
                raise ValueError("access.mode = 'demo' needs a loopback enrolment.listen; here use 'accounts'")
            if broker.tls is not None:
                raise ValueError("broker.tls: leave it out, enrolment brings the broker's certificate")
            return
        is_outside = broker.kind is BrokerKind.EMBEDDED and not parse_address(broker.mqtt_listen).is_loopback
        if is_outside and (broker.tls is None or not broker.tls.ca_file):
            raise ValueError(
                f"broker.mqtt_listen = {broker.mqtt_listen!r} is reachable from outside and needs [enrolment], "
                "or broker.tls with cert_file, key_file and ca_file"
            )

    @property
    def state_path(self) -> Path:
        """The directory that holds everything this process keeps."""
        return Path(self.state_dir)

    @property
    def authority_path(self) -> Path:
        """The directory of the keys with which this cloud signs."""
        return self.state_path / "authority"


def read(path: Path) -> CloudConfig:
    """Reads and checks a configuration without connecting to anything. Raises ConfigError."""
    config = load(path, CloudConfig)
    for key in ("password_file", "ca_file"):
        if (name := getattr(config.broker, key)) and not Path(name).is_file():
            raise ConfigError(f"{path}: broker.{key}: {name}: no such file")
    if config.store_password_file and not Path(config.store_password_file).is_file():
        raise ConfigError(f"{path}: store_password_file: {config.store_password_file}: no such file")
    if (tokens := config.access.tokens_file) and not Path(tokens).is_file():
        raise ConfigError(f"{path}: access.tokens_file: {tokens}: no such file")
    return config

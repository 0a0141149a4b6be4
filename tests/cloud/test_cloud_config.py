from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.access_config import AccessConfig, LimitConfig, OidcConfig
from cloud.app import store_location
from cloud.config import ApiConfig, BrokerConfig, CloudConfig, TlsConfig, parse_address, parse_endpoint
from cloud.store.location import ServerStore
from wire.configuration import ConfigError, convert, load

EXAMPLE = Path(__file__).parents[2] / "configs" / "cloud.toml"
DEMO = {"access": {"mode": "demo"}}
OIDC: dict[str, Any] = {
    "mode": "accounts",
    "oidc": {"issuer": "https://id.example", "client_id": "v", "client_secret_file": "s", "roles": {}},
}


def mqtt(**keys: str) -> dict[str, Any]:
    return DEMO | {"broker": {"kind": "mqtt"} | keys}


def test_the_example_is_valid_and_names_every_key() -> None:
    config = load(EXAMPLE, CloudConfig)
    assert [gateway.id for gateway in config.gateways] == ["ambulance-1", "ambulance-2"]
    text = EXAMPLE.read_text()
    for struct in (CloudConfig, BrokerConfig, ApiConfig, TlsConfig, AccessConfig, LimitConfig, OidcConfig):
        for field in msgspec.structs.fields(struct):
            assert field.name in text, field.name


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (DEMO | {"broker": {"mqtt_listen": "0.0.0.0:1883"}}, "needs .enrolment."),
        (DEMO | {"broker": {"client_listen": "10.0.0.1:4222"}}, "must be a loopback"),
        (DEMO | {"broker": {"mqtt_listen": "localhost"}}, "not HOST:PORT"),
        (mqtt(), "needs endpoint"),
        (mqtt(endpoint="mqtt://broker.example.org"), "only a loopback address may go without mqtts"),
        (mqtt(endpoint="http://localhost"), "is not mqtt://host:port"),
        (mqtt(endpoint="mqtts://broker.example.org:x"), "is not mqtt://host:port"),
        (mqtt(endpoint="mqtts://user:word@broker.example.org"), "is not mqtt://host:port"),
        (mqtt(endpoint="mqtt://localhost", ca_file="ca.crt"), "has no TLS"),
        (mqtt(endpoint="mqtt://localhost", user="ingest"), "give both or none"),
        (mqtt(endpoint="mqtt://localhost", mqtt_listen="127.0.0.1:1"), "mqtt_listen: only for kind = 'embedded'"),
        (DEMO | {"broker": {"endpoint": "mqtt://localhost"}}, "endpoint: only for kind = 'mqtt', not 'embedded'"),
        (DEMO | {"api": {"listen": "0.0.0.0:80", "tls": {"cert_file": "a", "key_file": "b"}}}, "needs a loopback"),
        (DEMO | {"api": {"listen": "0.0.0.0:80"}}, "needs tls.cert_file"),
        (DEMO | {"api": {"trusted_proxies": ["*"]}}, "'*' is no address"),
        (DEMO | {"api": {"trusted_proxies": ["10.0.0.0/8"]}}, "is no address such as"),
        (DEMO | {"gateways": [{"id": "a"}, {"id": "a"}]}, "only once"),
        (DEMO | {"gateways": [{"id": "A.b"}]}, "1 to 63 of a-z"),
        (DEMO | {"gateways": [{"id": "ingest"}]}, "choose another"),
        (DEMO | {"colour": "red"}, "colour"),
        (
            DEMO | {"broker": {"mqtt_listen": "0.0.0.0:8883", "tls": {"cert_file": "a", "key_file": "b"}}},
            "needs .enrolment., or broker.tls with cert_file, key_file and ca_file",
        ),
        (DEMO | {"enrolment": {"names": []}}, "at least one host name"),
        (DEMO | {"enrolment": {"names": ["a b"]}}, "at least one host name"),
        (DEMO | {"enrolment": {"names": ["a"], "certificate_days": 0.01}}, "certificate_days"),
        (DEMO | {"enrolment": {"names": ["a"], "late_renewal_days": -1}}, "late_renewal_days"),
        (
            DEMO | {"enrolment": {"names": ["a"]}, "broker": {"tls": {"cert_file": "a", "key_file": "b"}}},
            "broker.tls: leave it out",
        ),
        (
            DEMO | {"enrolment": {"names": ["a"]}, "broker": {"kind": "mqtt", "endpoint": "mqtt://127.0.0.1"}},
            "only with broker.kind = 'embedded'",
        ),
        (DEMO | {"store_url": "postgresql://me@localhost/store"}, "is not sqlite:///FILE or postgresql"),
        (DEMO | {"store_url": "sqlite:///"}, "is not sqlite:///FILE"),
        (DEMO | {"store_url": "postgresql+psycopg://me:secret@localhost/store"}, "store_password_file"),
        (DEMO | {"store_url": "postgresql+psycopg://me@localhost"}, "NAME"),
        (DEMO | {"store_url": "postgresql+psycopg://me@db.example/store"}, "sslmode=verify-full"),
        (DEMO | {"store_url": "postgresql+psycopg://me@/store?host=db.example&sslmode=require"}, "sslmode=verify-full"),
        ({"access": {"mode": "token"}}, "tokens_file"),
        ({"access": {"mode": "open"}}, "demo"),
        ({"access": OIDC}, "needs public_url"),
        ({"access": OIDC | {"public_url": "http://vital.example"}}, "needs public_url"),
        ({"access": OIDC | {"mode": "token", "tokens_file": "t"}}, "only for mode = 'accounts'"),
        ({"access": {"oidc": OIDC["oidc"] | {"issuer": "http://id.example"}}}, "must be https"),
        ({"access": {"oidc": OIDC["oidc"] | {"roles": {"staff": "king"}}}}, "'king' is no role"),
        ({"access": {"mode": "accounts", "limits": {"king": {}}}}, "limits.king: no such role; allowed: er_clinician"),
        ({"access": {"mode": "accounts", "limits": {"operator": {"idle_minutes": 0}}}}, "idle_minutes"),
        ({}, "access"),
    ],
)
def test_what_cannot_work_is_refused_in_words(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        convert(table, CloudConfig, where="cloud.toml")


def test_an_outside_listen_with_keys_is_allowed() -> None:
    tls = {"cert_file": "a", "key_file": "b", "ca_file": "c"}
    convert(DEMO | {"broker": {"mqtt_listen": "0.0.0.0:8883", "tls": tls}}, CloudConfig, where="cloud.toml")


def test_the_store_lies_where_the_url_says_and_its_password_is_never_shown(tmp_path: Path) -> None:
    assert store_location(convert(DEMO, CloudConfig, where="x")) == Path("cloud-state/store.sqlite")
    assert store_location(convert(DEMO | {"store_url": "sqlite:////a/b"}, CloudConfig, where="x")) == Path("/a/b")
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    server = DEMO | {"store_url": "postgresql+psycopg://me@127.0.0.1/store", "store_password_file": str(secret)}
    location = store_location(convert(server, CloudConfig, where="x"))
    assert isinstance(location, ServerStore)
    assert location.password == "s3cret"
    assert "s3cret" not in repr(location) + str(location)
    secret.unlink()
    with pytest.raises(ConfigError, match="store_password_file"):
        store_location(convert(server, CloudConfig, where="x"))


def test_addresses_of_both_kinds_are_read() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("[::1]:80").is_loopback
    assert str(parse_address("[::1]:80")) == "[::1]:80"
    assert not parse_address("example.org:80").is_loopback


def test_endpoints_have_the_ports_of_their_schemes() -> None:
    assert parse_endpoint("mqtts://broker.example.org") == ("broker.example.org", 8883, True)
    assert parse_endpoint("mqtt://[::1]") == ("::1", 1883, False)
    assert parse_endpoint("mqtt://localhost:9") == ("localhost", 9, False)

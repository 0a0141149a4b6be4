from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.config import ApiConfig, BrokerConfig, CloudConfig, TlsConfig, parse_address
from wire.configuration import ConfigError, convert, load

EXAMPLE = Path(__file__).parents[2] / "configs" / "cloud.toml"
DEMO = {"access": {"mode": "demo"}}


def test_the_example_is_valid_and_names_every_key() -> None:
    config = load(EXAMPLE, CloudConfig)
    assert [gateway.id for gateway in config.gateways] == ["ambulance-1", "ambulance-2"]
    text = EXAMPLE.read_text()
    for struct in (CloudConfig, BrokerConfig, ApiConfig, TlsConfig):
        for field in msgspec.structs.fields(struct):
            assert field.name in text, field.name
    assert "tokens_file" in text


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (DEMO | {"broker": {"mqtt_listen": "0.0.0.0:1883"}}, "needs tls.cert_file"),
        (DEMO | {"broker": {"client_listen": "10.0.0.1:4222"}}, "must be a loopback"),
        (DEMO | {"broker": {"mqtt_listen": "localhost"}}, "not HOST:PORT"),
        (DEMO | {"api": {"listen": "0.0.0.0:80", "tls": {"cert_file": "a", "key_file": "b"}}}, "needs a loopback"),
        (DEMO | {"api": {"listen": "0.0.0.0:80"}}, "needs tls.cert_file"),
        (DEMO | {"gateways": [{"id": "a"}, {"id": "a"}]}, "only once"),
        (DEMO | {"gateways": [{"id": "A.b"}]}, "1 to 63 of a-z"),
        (DEMO | {"gateways": [{"id": "ingest"}]}, "choose another"),
        (DEMO | {"colour": "red"}, "colour"),
        ({"access": {"mode": "token"}}, "tokens_file"),
        ({"access": {"mode": "open"}}, "demo"),
        ({}, "access"),
    ],
)
def test_what_cannot_work_is_refused_in_words(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        convert(table, CloudConfig, where="cloud.toml")


def test_an_outside_listen_with_keys_is_allowed() -> None:
    tls = {"cert_file": "a", "key_file": "b"}
    convert(DEMO | {"broker": {"mqtt_listen": "0.0.0.0:8883", "tls": tls}}, CloudConfig, where="cloud.toml")


def test_addresses_of_both_kinds_are_read() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("[::1]:80").is_loopback
    assert str(parse_address("[::1]:80")) == "[::1]:80"
    assert not parse_address("example.org:80").is_loopback

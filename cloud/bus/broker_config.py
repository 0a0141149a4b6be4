"""The broker's configuration text and passwords: who may connect and what each may say."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from cloud.config import INGEST_USER, CloudConfig, parse_address
from cloud.private_files import write_private
from wire.topics import VERSION, subject

_PASSWORD_BYTES = 32


def password_path(state_path: Path, user: str) -> Path:
    """Where the password of a gateway or of ingest lies."""
    return state_path / "secrets" / f"{user}.password"


def ensure_passwords(state_path: Path, gateways: Iterable[str]) -> dict[str, str]:
    """Reads every user's password, minting those not there yet; returns user → password."""
    (state_path / "secrets").mkdir(mode=0o700, parents=True, exist_ok=True)
    return {user: _read_or_mint(password_path(state_path, user)) for user in (INGEST_USER, *gateways)}


def _read_or_mint(path: Path) -> str:
    try:
        password = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        password = ""
    if not password:
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        write_private(path, password + "\n")
    return password


def broker_config(config: CloudConfig, passwords: Mapping[str, str]) -> str:
    """nats-server's configuration; JSON strings are valid in its language, so every value is quoted by json."""
    state, broker = config.state_path.resolve(), config.broker
    users: list[dict[str, object]] = [
        {"user": INGEST_USER, "password": passwords[INGEST_USER], "allowed_connection_types": ["STANDARD"]}
    ]
    users += [_gateway_user(gateway.id, passwords[gateway.id]) for gateway in config.gateways]
    mqtt: dict[str, object] = {"listen": str(parse_address(broker.mqtt_listen)), "ack_wait": "5s"}
    if broker.tls is not None:
        tls: dict[str, object] = {"cert_file": broker.tls.cert_file, "key_file": broker.tls.key_file}
        if broker.tls.ca_file:
            tls |= {"ca_file": broker.tls.ca_file, "verify": True}
        mqtt["tls"] = tls
    document = {
        # JetStream and MQTT keep their state under this name: it must never change.
        "server_name": "vitalwire",
        "listen": str(parse_address(broker.client_listen)),
        "log_file": str(state / "broker.log"),
        "logfile_size_limit": 10 << 20,
        "logfile_max_num": 3,
        # A batch stays under 256 KiB (wire.messages); the rest is room for headers.
        "max_payload": 512 << 10,
        "jetstream": {
            "store_dir": str(state / "broker"),
            "max_mem": 64 << 20,
            # Beside our buffer, room for what MQTT retains.
            "max_file": broker.buffer_max_bytes + (256 << 20),
        },
        "mqtt": mqtt,
        "authorization": {"timeout": 5, "users": users},
    }
    return json.dumps(document, indent=2) + "\n"


def _gateway_user(gateway: str, password: str) -> dict[str, object]:
    root = subject(f"{VERSION}/{gateway}")
    return {
        "user": gateway,
        "password": password,
        "allowed_connection_types": ["MQTT"],
        # Never "$MQTT.>": it lets one gateway forge another's messages.
        "permissions": {
            "publish": {"allow": [f"{root}.up.>", f"{root}.status"]},
            # MQTT's `down/#` also means `down` itself, so the broker asks for both.
            "subscribe": {"allow": [f"{root}.down", f"{root}.down.>"]},
        },
    }

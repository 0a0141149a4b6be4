"""The broker's configuration text and passwords: who may connect and what each may say.

With enrolment a box is who its certificate says (`verify_and_map`), and only certificates named here count; on a
loopback demo without it, a box is who knows the gateway's password.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cloud.config import INGEST_USER, CloudConfig, parse_address
from cloud.private_files import write_private
from wire.enrolment import identity
from wire.topics import VERSION, subject

_PASSWORD_BYTES = 32
LOG_FILE = "broker.log"
CA_FILE, SERVER_FILE = "ca.crt", "server.pem"
# The broker's own 2 s are two round trips of a link with 0.5 s each way: a box behind a slower one would never come in.
# As long as a box itself waits (edge/uplink.py); its first word comes after the handshake, so that time is on top.
_HANDSHAKE_S, _FIRST_WORD_S = 10, 15


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


class Certified(NamedTuple):
    """A certificate that the broker lets in, and whose it is."""

    gateway: str
    serial: str


def broker_config(config: CloudConfig, passwords: Mapping[str, str], certified: Iterable[Certified] = ()) -> str:
    """nats-server's configuration; JSON strings are valid in its language, so every value is quoted by json."""
    state, broker = config.state_path.resolve(), config.broker
    users: list[dict[str, object]] = [
        {"user": INGEST_USER, "password": passwords[INGEST_USER], "allowed_connection_types": ["STANDARD"]}
    ]
    if config.enrolment is None:
        users += [
            {"user": gateway.id, "password": passwords[gateway.id]} | _rights(gateway.id) for gateway in config.gateways
        ]
    else:
        configured = {gateway.id for gateway in config.gateways}
        users += [{"user": identity(*one)} | _rights(one.gateway) for one in certified if one.gateway in configured]
    mqtt: dict[str, object] = {"listen": str(parse_address(broker.mqtt_listen)), "ack_wait": "5s"}
    if config.enrolment is not None:
        folder = config.authority_path.resolve()
        mqtt["tls"] = {
            "cert_file": str(folder / SERVER_FILE),
            "key_file": str(folder / SERVER_FILE),
            "ca_file": str(folder / CA_FILE),
            "verify_and_map": True,
            "min_version": "1.2",
            "timeout": _HANDSHAKE_S,
        }
    elif broker.tls is not None:
        tls: dict[str, object] = {
            "cert_file": broker.tls.cert_file,
            "key_file": broker.tls.key_file,
            "min_version": "1.2",
            "timeout": _HANDSHAKE_S,
        }
        if broker.tls.ca_file:
            tls |= {"ca_file": broker.tls.ca_file, "verify": True}
        mqtt["tls"] = tls
    document = {
        # JetStream and MQTT keep their state under this name: it must never change.
        "server_name": "vitalwire",
        "listen": str(parse_address(broker.client_listen)),
        "log_file": str(state / LOG_FILE),
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
        "authorization": {"timeout": _FIRST_WORD_S, "users": users},
    }
    return json.dumps(document, indent=2) + "\n"


def _rights(gateway: str) -> dict[str, object]:
    """What a box may: write its own subjects, read its own commands and receipts, nothing else."""
    root = subject(f"{VERSION}/{gateway}")
    return {
        "allowed_connection_types": ["MQTT"],
        # Never "$MQTT.>": it lets one gateway forge another's messages.
        "permissions": {
            "publish": {"allow": [f"{root}.up.>", f"{root}.status"]},
            # MQTT's `down/#` also means `down` itself, so the broker asks for both.
            "subscribe": {"allow": [f"{root}.down", f"{root}.down.>"]},
        },
    }

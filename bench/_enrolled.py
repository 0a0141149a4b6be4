"""Load with TLS and permissions on: gateways of a bench's cloud that enrolled, and what each connects with."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiomqtt

from cloud.app import store_location
from cloud.bus.broker_config import Certified, password_path
from cloud.config import CloudConfig, parse_address
from cloud.enrolment.service import open_authority, open_register
from cloud.store.database import Database
from edge.identity import Identity, new_key, signing_request, write_identity
from wire.clock import SystemClock
from wire.enrolment import EnrolmentRequest

# The one name in the certificate of a bench's cloud.
HOST = "localhost"


def identity_of(config: CloudConfig, gateway: str) -> Identity:
    """What a gateway was given. Raises ConfigError when it never enrolled."""
    return Identity(_folder(config, gateway), gateway)


def _folder(config: CloudConfig, gateway: str) -> Path:
    return config.state_path.parent / "identities" / gateway


async def enrol_all(config: CloudConfig) -> list[Certified]:
    """Enrols every gateway of a cloud, which may be running; it lets them in a moment later."""
    certified = []
    clock = SystemClock()
    database = await asyncio.to_thread(Database, store_location(config))
    try:
        authority = await asyncio.to_thread(open_authority, config, clock)
        register = open_register(config, database, authority, clock)
        for gateway in config.gateways:
            key = new_key()
            code = await register.mint_code(gateway.id)
            enrolled = await register.enrol(EnrolmentRequest(code, signing_request(key, gateway.id)))
            write_identity(_folder(config, gateway.id), f"https://{HOST}", key, enrolled, gateway.id)
            certified.append(Certified(gateway.id, identity_of(config, gateway.id).validity().serial))
    finally:
        await asyncio.to_thread(database.close)
    return certified


def endpoint_of(config: CloudConfig) -> str:
    """Where boxes of this cloud connect."""
    if config.enrolment is None:
        return f"mqtt://{config.broker.mqtt_listen}"
    return f"mqtts://{HOST}:{parse_address(config.broker.mqtt_listen).port}"


def client(config: CloudConfig, gateway: str) -> aiomqtt.Client:
    """A plain MQTT client as this gateway: by its certificate, or by its password where nobody enrolled."""
    address = parse_address(config.broker.mqtt_listen)
    if config.enrolment is None:
        password = password_path(config.state_path, gateway).read_text().strip()
        return aiomqtt.Client(address.host, address.port, username=gateway, password=password, identifier=gateway)
    identity = identity_of(config, gateway)
    tls: ssl.SSLContext = identity.context(identity.current, SystemClock())
    return aiomqtt.Client(HOST, address.port, identifier=gateway, tls_context=tls)

"""TLS to a broker of the site: a certificate that the configured authority did not sign is refused."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud.bus.broker_config import password_path
from cloud.bus.mqtt import MqttBus
from cloud.config import INGEST_USER, BrokerConfig, BrokerKind
from cloud.counters import Counters
from tests.cloud.conftest import free_port
from tests.cloud.sites import HAS_MOSQUITTO
from vitalwire import mosquitto
from vitalwire.stage import Part
from wire import topics
from wire.messages import Lane

pytestmark = pytest.mark.skipif(not HAS_MOSQUITTO, reason="no mosquitto here: apt-get install mosquitto")


def write_certificate(path: Path, host: str) -> Path:
    """A self-signed certificate, so its own authority, with its key beside it as .key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.with_suffix(".key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return path


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """A Mosquitto as `localhost` under TLS."""
    folder, number = tmp_path / "mosquitto", free_port()
    mosquitto.write(folder, number, tmp_path / "state", ["gw-1"])
    certificate = write_certificate(tmp_path / "server.crt", "localhost")
    with (folder / "mosquitto.conf").open("a") as file:
        file.write(f"certfile {certificate}\nkeyfile {certificate.with_suffix('.key')}\n")
    part = Part("mosquitto", mosquitto.command(folder), folder / "mosquitto.log")
    await part.start()
    yield number
    await part.stop()


def broker(tmp_path: Path, endpoint: str, ca_file: Path) -> BrokerConfig:
    password_file = password_path(tmp_path / "state", INGEST_USER)
    return BrokerConfig(
        kind=BrokerKind.MQTT,
        endpoint=endpoint,
        user=INGEST_USER,
        password_file=str(password_file),
        ca_file=str(ca_file),
    )


async def test_a_certificate_of_the_sites_authority_is_accepted(tmp_path: Path, port: int) -> None:
    authority = tmp_path / "server.crt"
    bus = MqttBus(broker(tmp_path, f"mqtts://localhost:{port}", authority), Counters())
    task = asyncio.create_task(bus.run())
    password = password_path(tmp_path / "state", "gw-1").read_text().strip()
    async with asyncio.timeout(10):
        while True:
            try:
                context = ssl.create_default_context(cafile=authority)
                async with aiomqtt.Client(
                    "localhost", port, username="gw-1", password=password, tls_context=context
                ) as box:
                    await box.publish(topics.up("gw-1", Lane.BULK), b"sealed", qos=1)
                async with asyncio.timeout(0.5):
                    (delivery, *_) = await bus.take(most=1, most_bytes=1)
                break
            except (aiomqtt.MqttError, TimeoutError):
                continue
    assert delivery.payload == b"sealed"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("host", "authority", "says"),
    [
        ("localhost", "other.crt", "certificate verify failed"),
        ("127.0.0.1", "server.crt", "IP address mismatch"),
    ],
)
async def test_any_other_is_refused(
    host: str, authority: str, says: str, tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_certificate(tmp_path / "other.crt", "localhost")
    counters = Counters()
    bus = MqttBus(broker(tmp_path, f"mqtts://{host}:{port}", tmp_path / authority), counters)
    task = asyncio.create_task(bus.run())
    async with asyncio.timeout(10):
        while says not in caplog.text:
            await asyncio.sleep(0.02)
    assert counters["bus_lost"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""What a stranger, a thief or a box gone bad can do at the broker: the real one under TLS, and boxes enrolled there.

Each attack is one test: it gets nowhere, nobody else notices, and it is counted and written down.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.bus.broker_config import password_path
from cloud.config import INGEST_USER, CloudConfig
from edge.identity import Identity, key_pem, new_key
from edge.spool import Spool, SpoolConfig
from edge.uplink import Uplink, UplinkConfig
from tests.cloud.conftest import config
from tests.cloud.enrolment_site import (
    DAY_US,
    EnrolmentSite,
    MovableClock,
    enrolment_site,
    forged_certificate,
    mqtt_connect,
)
from wire import topics
from wire.messages import Lane

__all__ = ["config"]

pytestmark = pytest.mark.timeout(30)

TLS, UNKNOWN, RIGHTS = "broker_tls_refused", "broker_unknown_refused", "broker_rights_refused"
FRAME = b"forged"


@pytest.fixture
def moved() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def site(config: CloudConfig, tmp_path: Path, moved: MovableClock) -> AsyncIterator[EnrolmentSite]:
    async with enrolment_site(config, tmp_path, moved) as running:
        yield running


def serial_of(box: Identity) -> int:
    return int(box.validity().serial, 16)


def name_of(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


async def drops(client: aiomqtt.Client) -> None:
    """Returns when the broker has ended this connection."""
    with pytest.raises(aiomqtt.MqttError):
        await anext(aiter(client.messages))


# Who is let in.


async def test_without_a_certificate_no_name_and_no_password_gets_in(site: EnrolmentSite) -> None:
    password = password_path(site.config.state_path, INGEST_USER).read_text().strip()
    assert not await site.is_let_in(None)
    assert not await site.is_let_in(None, user="gw-1", password="guess")
    # Not even with the password of the cloud's own user, which is for another port.
    assert not await site.is_let_in(None, user=INGEST_USER, password=password)
    assert not password_path(site.config.state_path, "gw-1").exists()
    await site.written_down("client didn't provide a certificate", TLS)


async def test_plain_mqtt_gets_in_nowhere(site: EnrolmentSite) -> None:
    assert not await site.is_accepted(mqtt_connect("gw-1"), None)


async def test_tls_older_than_1_2_is_refused(site: EnrolmentSite) -> None:
    box = await site.enrol("gw-1")
    versions = (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2)
    assert [await site.is_let_in(box.current, version=one) for one in versions] == [False, True]
    await site.written_down("unsupported versions", TLS)


async def test_a_self_signed_certificate_is_refused(site: EnrolmentSite) -> None:
    box, key = await site.enrol("gw-1"), new_key()
    assert not await site.is_let_in(site.write(forged_certificate(key, "gw-1", serial_of(box)), key))
    await site.written_down("failed to verify certificate", TLS)


async def test_a_certificate_of_a_foreign_authority_is_refused_whatever_it_calls_itself(site: EnrolmentSite) -> None:
    box, key = await site.enrol("gw-1"), new_key()
    issuer = x509.load_pem_x509_certificate(site.authority.ca_pem.encode()).subject
    foreign = forged_certificate(key, "gw-1", serial_of(box), signed_by=new_key(), issuer=issuer)
    assert not await site.is_let_in(site.write(foreign, key))
    await site.written_down("failed to verify certificate", TLS)


async def test_an_expired_certificate_is_refused(site: EnrolmentSite, moved: MovableClock) -> None:
    moved.shift_us = -31 * DAY_US
    box = await site.enrol("gw-1", is_good=False)
    moved.shift_us = 0
    assert not await site.is_let_in(box.current)
    await site.written_down("certificate has expired", TLS)


async def test_a_connection_ends_with_its_certificate(site: EnrolmentSite, moved: MovableClock) -> None:
    box = await site.enrol("gw-1")
    async with site.client(box.current) as live:
        moved.shift_us = 31 * DAY_US
        await drops(live)


async def test_a_revoked_box_is_cut_off_at_once_and_the_others_do_not_notice(site: EnrolmentSite) -> None:
    loser, other = await site.enrol("gw-1"), await site.enrol("gw-2")
    loop = asyncio.get_running_loop()
    live = site.client(loser.current)
    await live.__aenter__()
    async with site.client(other.current) as kept:
        began = loop.time()
        assert await site.register.revoke("gw-1") == 1
        await drops(live)
        assert loop.time() - began < 3  # 0.3 s on a quiet machine
        await kept.publish(topics.up("gw-2", Lane.BULK), b"x", qos=1)
    assert not await site.is_let_in(loser.current)
    await site.written_down("its certificate or password does not count", UNKNOWN)
    # Enrolled again it is another certificate that counts: the one that was taken back stays so.
    again = await site.enrol("gw-1")
    assert (await site.is_let_in(loser.current), await site.is_let_in(again.current)) == (False, True)


async def test_the_certificate_before_a_new_enrolment_is_refused(site: EnrolmentSite) -> None:
    stolen, mine = await site.enrol("gw-1"), await site.enrol("gw-1")
    assert (await site.is_let_in(stolen.current), await site.is_let_in(mine.current)) == (False, True)
    await site.written_down("its certificate or password does not count", UNKNOWN)


async def test_a_certificate_without_a_name_of_a_box_is_refused(site: EnrolmentSite) -> None:
    # The cloud's own, which the same authority signed.
    assert not await site.is_let_in(site.authority.server_file)
    await site.written_down("incompatible key usage", TLS)


async def test_malformed_bytes_end_their_own_connection_alone(site: EnrolmentSite) -> None:
    box = await site.enrol("gw-1")
    async with site.client(box.current) as live:
        for noise in (
            b"\x16\x03\x01\x3f\xff" + bytes(0x3FFF),
            b"GET / HTTP/1.1\r\n\r\n",
            random.Random(1).randbytes(9999),
        ):
            assert not await site.is_accepted(noise, None)
        await live.publish(topics.up("gw-1", Lane.BULK), b"still here", qos=1)
    await site.written_down("unexpected handshake message", TLS)


async def test_a_certificate_cannot_write_lines_into_the_audit(site: EnrolmentSite) -> None:
    key = new_key()
    line = "\n[1] a b [ERR] 192.0.2.6:1 - mid:1 - x - authentication error\n"
    forged = forged_certificate(key, "gw-1", 1, called=line)
    assert not await site.is_let_in(site.write(forged, key))
    await site.written_down("failed to verify certificate", TLS)
    assert site.counters[UNKNOWN] == 0


# What a box that is let in may say and hear.


async def test_a_box_is_who_its_certificate_says_whatever_name_it_gives(site: EnrolmentSite) -> None:
    box = await site.enrol("gw-1")
    async with site.listening() as heard, site.client(box.current, user="gw-2") as client:
        await client.publish(topics.up("gw-2", Lane.BULK), FRAME, qos=1)
        await client.publish(topics.up("gw-1", Lane.BULK), b"mine", qos=1)
        async with asyncio.timeout(3):
            while not heard:
                await asyncio.sleep(0.01)
    assert heard == ["vw.1.gw-1.up.bulk"]
    await site.written_down('may not write to "vw.1.gw-2.up.bulk"', RIGHTS)


@pytest.mark.parametrize(
    "topic",
    [
        topics.up("gw-2", Lane.URGENT),
        topics.status("gw-2"),
        topics.receipts("gw-2"),
        topics.commands("gw-2"),
        topics.receipts("gw-1"),
        topics.commands("gw-1"),
        "$JS/API/STREAM/DELETE/vitalwire_up",
        "$MQTT/sub/x",
    ],
)
async def test_a_forged_reading_receipt_or_command_reaches_nobody(site: EnrolmentSite, topic: str) -> None:
    box = await site.enrol("gw-1")
    async with site.listening() as heard, site.client(box.current) as client:
        for qos in (0, 1):
            await client.publish(topic, FRAME, qos=qos)
        await client.publish(topics.up("gw-1", Lane.BULK), b"mine", qos=1)
        async with asyncio.timeout(3):
            while not heard:
                await asyncio.sleep(0.01)
    assert heard == ["vw.1.gw-1.up.bulk"]
    await site.written_down("may not write to", RIGHTS)


async def test_a_last_will_cannot_speak_for_another_box(site: EnrolmentSite) -> None:
    box = await site.enrol("gw-1")
    async with site.listening() as heard:
        for gateway in ("gw-2", "gw-1"):
            client = site.client(box.current, will=aiomqtt.Will(topics.status(gateway), FRAME, qos=1, retain=True))
            await client.__aenter__()
            cut = client._client.socket()
            assert isinstance(cut, socket.socket)
            cut.shutdown(socket.SHUT_RDWR)  # no farewell: the broker speaks the will
            await drops(client)
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)
    assert heard == ["vw.1.gw-1.status"]
    await site.written_down("may not write to", RIGHTS)


@pytest.mark.parametrize(
    "topic",
    [topics.commands("gw-2"), topics.receipts("gw-2"), topics.up("gw-1", Lane.BULK), "vw/1/+/down/#", "#", "$SYS/#"],
)
async def test_a_box_hears_its_own_commands_and_receipts_alone(site: EnrolmentSite, topic: str) -> None:
    box = await site.enrol("gw-1")
    async with site.client(box.current) as client:
        asked = (topic, topics.commands("gw-1"), topics.receipts("gw-1"))
        granted = [(await client.subscribe(one))[0] for one in asked]
        assert [str(one) for one in granted] == ["Unspecified error", "Granted QoS 0", "Granted QoS 0"]
    await site.written_down("may not listen to", RIGHTS)


async def test_a_box_cannot_end_anothers_connection_by_its_name(
    site: EnrolmentSite, tmp_path: Path, moved: MovableClock
) -> None:
    """A broker ends the older of two connections that bear one client id: a box's is not to be guessed by others."""
    victim, thief = await site.enrol("gw-1"), await site.enrol("gw-2")
    spool = Spool(tmp_path / "spool", SpoolConfig(reserve_mib=0))
    await spool.open()
    uplink = Uplink(
        "gw-1",
        UplinkConfig(endpoints=(f"mqtts://localhost:{site.port}",)),
        spool,
        moved,
        version="1",
        store_changed=lambda _: False,
        identity=victim,
    )
    running = asyncio.create_task(uplink.run())
    async with asyncio.timeout(5):
        while not uplink.is_connected:
            await asyncio.sleep(0.01)
    for guess in ("vw-gw-1", "gw-1", "vw-gw-1-1", f"vw-gw-1-{thief.validity().serial}"):
        async with site.client(thief.current, client_id=guess) as client:
            await client.publish(topics.up("gw-2", Lane.BULK), b"x", qos=1)
    await asyncio.sleep(0)
    assert (uplink.is_connected, uplink.counts["uplink_lost"]) == (True, 0)
    running.cancel()
    await asyncio.wait([running])
    await spool.close()


# Whom a box takes for its cloud.


def served_by(site: EnrolmentSite, folder: Path, pem: str) -> ssl.SSLContext:
    path = folder / "server.pem"
    path.write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def foreign_cloud() -> str:
    """A certificate for localhost that nobody here signed, with its key."""
    key, now = new_key(), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name_of("cloud"), name_of("cloud"), key.public_key(), 7)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode() + key_pem(key)


@pytest.mark.parametrize("who", ["a foreign cloud", "another box", "the cloud under another name"])
async def test_a_box_tells_nothing_to_who_is_not_its_cloud(site: EnrolmentSite, tmp_path: Path, who: str) -> None:
    box, other = await site.enrol("gw-1"), await site.enrol("gw-2")
    pem = {
        "a foreign cloud": foreign_cloud(),
        "another box": other.current.read_text(),
        "the cloud under another name": site.authority.server_file.read_text(),
    }[who]
    host = "127.0.0.1" if "name" in who else "localhost"
    said: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=served_by(site, tmp_path, pem))
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(host, port, ssl=box.context(box.current, MovableClock()))
    assert said == []

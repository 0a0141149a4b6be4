"""A cloud's enrolment as it runs, with its real broker under TLS, and boxes that enrolled there with their codes."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import msgspec
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.api.audit import Audit
from cloud.api.auth import Access
from cloud.api.strangers import Strangers
from cloud.api.tokens import Tokens
from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.bus.broker_watch import BrokerWatch
from cloud.bus.jetstream import connect_bare
from cloud.config import INGEST_USER, CloudConfig, EnrolmentConfig, parse_address
from cloud.counters import Counters
from cloud.enrolment.authority import Authority
from cloud.enrolment.register import Register
from cloud.enrolment.service import Enrolment, open_authority
from cloud.sign_ins import SignIns
from cloud.store import schema
from cloud.store.database import Database
from edge.enrolment import enrol
from edge.identity import Identity, key_pem
from tests.cloud.conftest import free_port
from wire.clock import Clock, SystemClock
from wire.enrolment import identity

DAY_US = 86_400 * 1_000_000


class MovableClock(SystemClock):
    """The true time, and a way to live at another."""

    shift_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.shift_us

    def monotonic_us(self) -> int:
        return super().monotonic_us() + self.shift_us


def with_enrolment(config: CloudConfig) -> CloudConfig:
    enrolment = EnrolmentConfig(names=("localhost",), listen=f"127.0.0.1:{free_port()}")
    return msgspec.structs.replace(config, enrolment=enrolment)


def audited(database: Database) -> list[tuple[str, str, str, str]]:
    """Principal, action, object and result of every row, oldest first."""
    c = schema.audit.c
    query = sa.select(c.principal, c.action, c.object, c.result).order_by(c.audit_id)
    return [tuple(row) for row in database.read_now(lambda connection: connection.execute(query).all())]


class EnrolmentSite:
    """The cloud's side, and a way to be any box."""

    def __init__(
        self, config: CloudConfig, folder: Path, database: Database, authority: Authority, register: Register
    ) -> None:
        self.config, self.folder, self.database = config, folder, database
        self.authority, self.register = authority, register
        self.ca_file = authority.ca_file
        self.counters = Counters()
        self.port = parse_address(config.broker.mqtt_listen).port
        assert config.enrolment is not None
        self.url = f"https://localhost:{parse_address(config.enrolment.listen).port}"

    async def enrol(self, gateway: str, *, is_good: bool = True) -> Identity:
        """A box in a folder of its own; returns once the broker lets it in."""
        folder = self.folder / f"{gateway}-{len(list(self.folder.iterdir()))}"
        code = await self.register.mint_code(gateway)
        await asyncio.to_thread(enrol, folder, gateway, self.url, code, self.authority.ca_pem)
        box = Identity(folder, gateway)
        async with asyncio.timeout(5):
            while is_good and not await self.is_let_in(box.current):  # it reads its users a moment after it is told
                continue
        return box

    def write(self, pem: str, key: ec.EllipticCurvePrivateKey) -> Path:
        path = self.folder / f"{len(list(self.folder.iterdir()))}.pem"
        path.write_text(pem + key_pem(key))
        return path

    def client(
        self,
        certificate: Path | None,
        *,
        user: str = "",
        client_id: str | None = None,
        will: aiomqtt.Will | None = None,
    ) -> aiomqtt.Client:
        """A connection with whatever certificate and whatever it claims beside."""
        return aiomqtt.Client(
            "localhost",
            self.port,
            username=user or None,
            identifier=client_id,
            will=will,
            tls_context=self._context(certificate),
            timeout=2,
        )

    async def is_let_in(
        self, certificate: Path | None, *, user: str = "", password: str = "", version: ssl.TLSVersion | None = None
    ) -> bool:
        """Whether the broker accepts, said by bare MQTT: a client library takes seconds to see that it does not."""
        context = self._context(certificate)
        if version is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not even ask
        return await self.is_accepted(mqtt_connect(user, password), context)

    async def is_accepted(self, first: bytes, context: ssl.SSLContext | None) -> bool:
        """Whether these bytes are answered by MQTT's yes; without a context they are not even encrypted."""
        try:
            async with asyncio.timeout(3):
                reader, writer = await asyncio.open_connection("localhost", self.port, ssl=context)
                try:
                    writer.write(first)
                    return await reader.readexactly(4) == b"\x20\x02\x00\x00"
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return False

    def _context(self, certificate: Path | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[list[str]]:
        """The subjects of everything that goes over the bus."""
        password = password_path(self.config.state_path, INGEST_USER).read_text().strip()
        bare = await connect_bare(self.config.broker, password)
        heard: list[str] = []

        async def hear(message: object) -> None:
            heard.append(message.subject)  # type: ignore[attr-defined]

        await bare.subscribe("vw.>", cb=hear)
        await bare.flush()
        try:
            yield heard
        finally:
            await bare.close()

    async def written_down(self, what: str, counter: str) -> None:
        """Waits for a row of the audit that says this was refused, and for its count."""
        async with asyncio.timeout(5):
            while not any(what in action and result == "refused" for _, action, _, result in audited(self.database)):
                await asyncio.sleep(0.05)
        assert self.counters[counter] >= 1


@asynccontextmanager
async def enrolment_site(config: CloudConfig, folder: Path, clock: Clock) -> AsyncIterator[EnrolmentSite]:
    """A running broker that lets in whom the register knows, and the listener where boxes enrol."""
    config = with_enrolment(config)
    database = Database(config.state_path / "store.sqlite")
    (boxes := folder / "boxes").mkdir()
    try:
        authority = await asyncio.to_thread(open_authority, config, clock)
        counters, audit = Counters(), Audit(database, clock)
        access = Access(config.access, Tokens({}), SignIns(database, clock, counters, config.access))
        async with Broker(config) as broker, asyncio.TaskGroup() as tasks:
            strangers = Strangers(audit, clock, counters)
            enrolment = Enrolment(
                config, database, authority, clock, counters, access, audit, strangers, broker.certify
            )
            await enrolment.open()
            site = EnrolmentSite(config, boxes, database, authority, enrolment.register)
            site.counters = counters
            watch = BrokerWatch(broker, audit.write, counters, clock)
            watch.open()
            running = [tasks.create_task(enrolment.run()), tasks.create_task(watch.run())]
            yield site
            for task in running:
                task.cancel()
    finally:
        await asyncio.to_thread(database.close)


def mqtt_connect(user: str = "", password: str = "") -> bytes:
    """MQTT 3.1.1, 3.1: a clean session under no name of a client."""
    strings = ["", *filter(None, (user, password))]
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    payload = b"".join(len(one).to_bytes(2) + one.encode() for one in strings)
    rest = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x0f" + payload
    return bytes([0x10, len(rest)]) + rest


def forged_certificate(
    key: ec.EllipticCurvePrivateKey,
    gateway: str,
    serial: int,
    *,
    called: str = "",
    signed_by: ec.EllipticCurvePrivateKey | None = None,
    issuer: x509.Name | None = None,
) -> str:
    """Everything a box's certificate says, signed by somebody else, or by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called or gateway)])
    uri = x509.UniformResourceIdentifier(identity(gateway, f"{serial:x}"))
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(issuer or name, name, key.public_key(), serial)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([uri]),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(signed_by or key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()

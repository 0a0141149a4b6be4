"""The cloud's own certificate authority: it signs what boxes and this cloud show each other, and commands.

Its keys lie in STATE_DIR/authority, readable by the owner only, and are minted when they are first asked for.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.bus.broker_config import CA_FILE, SERVER_FILE
from cloud.private_files import write_private
from wire.clock import MICROSECONDS, Clock
from wire.commands import Command, signed_bytes
from wire.configuration import ConfigError
from wire.enrolment import identity

# Boxes pin it, so a new one means a visit to each of them: as long as a box lasts.
_AUTHORITY_DAYS = 3650
# Its key never leaves this machine and it is renewed by itself; what it is limited by is how long a copy is of use.
_SERVER_DAYS = 90
# Renewed with this much of its life gone, as boxes do: the rest is for mending what keeps it from that.
RENEWED_AT = 2 / 3
# Of a clock elsewhere that is a little behind.
_BACKDATED = datetime.timedelta(minutes=5)
_PEM = serialization.Encoding.PEM


class Issued(NamedTuple):
    """A certificate of a box; `serial` is hex."""

    serial: str
    gateway: str
    pem: str
    issued_us: int
    expires_us: int


class Authority:
    """The keys of one cloud. Building it reads or mints them: call it off the event loop."""

    def __init__(self, folder: Path, names: Sequence[str], clock: Clock) -> None:
        """`names` are what boxes call this cloud. Raises ConfigError when the keys cannot be used."""
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock, self._names = clock, tuple(names)
        self.ca_file, self.server_file = folder / CA_FILE, folder / SERVER_FILE
        self.notes_file = folder / "certificates.json"
        # Its certificate is written last. From then on a key that is missing is a loss, which another would only hide.
        is_new = not self.ca_file.exists()
        key = _read_key(folder / "ca.key", (lambda: ec.generate_private_key(ec.SECP256R1())) if is_new else None)
        command_key = _read_key(folder / "command.key", Ed25519PrivateKey.generate if is_new else None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(command_key, Ed25519PrivateKey):
            raise ConfigError(f"{folder}: ca.key must be a P-256 key and command.key an Ed25519 key")
        self._key, self._command_key = key, command_key
        if is_new:
            write_private(self.ca_file, self._own_certificate())
        self.ca_pem = self.ca_file.read_text(encoding="ascii")
        self._certificate = x509.load_pem_x509_certificate(self.ca_pem.encode())
        if self._certificate.public_key() != self._key.public_key():
            raise ConfigError(f"{self.ca_file}: is not of ca.key beside it: put back the pair from the backup")
        self.keep_server_certificate()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, hex: what a person carries to a box with the code."""
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def command_key_pem(self) -> str:
        """The public key by which boxes know that a command is this cloud's."""
        public = self._command_key.public_key()
        return public.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def sign_command(self, gateway: str, command: Command) -> Command:
        """The same command, signed for this one box."""
        signature = self._command_key.sign(signed_bytes(gateway, command))
        return msgspec.structs.replace(command, signature=signature)

    def issue(self, gateway: str, key: ec.EllipticCurvePublicKey, *, days: float) -> Issued:
        """A certificate that makes the holder of `key` this gateway, towards our broker and for `days` alone."""
        serial = secrets.randbits(63) | 1 << 62  # one length in hex, and never zero
        name = f"{serial:x}"
        now_us = self._clock.now_us()
        until_us = now_us + round(days * 86_400 * MICROSECONDS)
        builder = self._builder(gateway, key, serial, now_us, until_us)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity(gateway, name))]), critical=False
        )
        pem = self._signed(builder, ExtendedKeyUsageOID.CLIENT_AUTH)
        return Issued(name, gateway, pem, now_us, until_us)

    def keep_server_certificate(self) -> bool:
        """Makes the certificate by which boxes know this cloud, when its time has come or its names changed.

        Returns whether it did. The file holds the certificate and its key.
        """
        if self._is_server_certificate_good():
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        now_us = self._clock.now_us()
        until_us = now_us + _SERVER_DAYS * 86_400 * MICROSECONDS
        builder = self._builder("vitalwire cloud", key.public_key(), x509.random_serial_number(), now_us, until_us)
        builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(self._names)), critical=False)
        write_private(self.server_file, self._signed(builder, ExtendedKeyUsageOID.SERVER_AUTH) + _pem(key))
        return True

    def _is_server_certificate_good(self) -> bool:
        try:
            found = x509.load_pem_x509_certificate(self.server_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        try:
            found.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):  # of an authority before this one
            return False
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        life = found.not_valid_after_utc - found.not_valid_before_utc
        # One of a clock that was ahead when it was made is of no use until then.
        is_young = found.not_valid_before_utc <= self._now() < found.not_valid_before_utc + life * RENEWED_AT
        return is_young and list(names) == _general_names(self._names)

    def _builder(
        self, name: str, key: ec.EllipticCurvePublicKey, serial: int, from_us: int, until_us: int
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(_time(from_us) - _BACKDATED)
            .not_valid_after(_time(until_us))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _signed(self, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> str:
        """A box cannot pass for the cloud with its certificate, nor the cloud's be used as a box's."""
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM).decode()

    def _own_certificate(self) -> str:
        # A name of its own, so that two clouds are told apart in a list of authorities.
        name = _named(f"vitalwire authority {secrets.token_hex(4)}")
        now = self._now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + datetime.timedelta(days=_AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(_PEM).decode()

    def _now(self) -> datetime.datetime:
        return _time(self._clock.now_us())


def read_csr(pem: str) -> ec.EllipticCurvePublicKey:
    """The key of a signing request whose maker holds it; whatever else it says is passed over. Raises ValueError."""
    csr = x509.load_pem_x509_csr(pem.encode())
    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the key is not of the curve P-256")
    if not csr.is_signature_valid:
        raise ValueError("the request is not signed by its own key")
    return key


def _read_key(path: Path, mint: Callable[[], PrivateKeyTypes] | None) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        if mint is None:
            raise ConfigError(
                f"{path}: is gone: put it back from the backup, or remove the folder and enrol every box again"
            ) from None
        key = mint()
        write_private(path, _pem(key))
        return key
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as a key: {error}") from error


def _pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _time(time_us: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_us // MICROSECONDS, datetime.UTC)


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

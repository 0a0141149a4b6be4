"""Who this box is to its cloud: a folder written by enrolment and kept up by renewal (edge/renewal.py).

`box.pem` is the certificate with its key, `ca.pem` who signed it and the cloud's, `command.pub` the key that signs
commands, `cloud.json` where to renew. During a renewal `next.key` is the next key and `next.pem` its certificate, until
that has worked once. Every file appears whole or not at all, so a kill -9 at any moment leaves one that works.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from edge.trust import trusting_whenever
from wire.clock import MICROSECONDS, Clock
from wire.commands import Command, signed_bytes
from wire.configuration import ConfigError
from wire.enrolment import Enrolled, identity

_PEM = serialization.Encoding.PEM


class IdentityError(Exception):
    """A certificate, fresh from the cloud or on the disk, is not this box's or its authority's, or cannot be read."""


class _Cloud(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`cloud.json`: who enrolled whom."""

    gateway: str
    url: str


class Validity(NamedTuple):
    """A certificate's serial (hex) and the times it holds between."""

    serial: str
    from_us: int
    until_us: int


class Identity:
    """The folder of an enrolled box. Methods touch the disk briefly; those that write say so."""

    def __init__(self, folder: Path, gateway: str) -> None:
        """Raises ConfigError when the box is not enrolled there, or as another one."""
        self._folder, self.gateway = folder, gateway
        self.current, self.next, self._next_key = folder / "box.pem", folder / "next.pem", folder / "next.key"
        self.ca_file = folder / "ca.pem"
        try:
            cloud = msgspec.json.decode((folder / "cloud.json").read_bytes(), type=_Cloud)
            key = serialization.load_pem_public_key((folder / "command.pub").read_bytes())
            self.validity()
        except FileNotFoundError as error:
            raise ConfigError(f"identity_dir: {error.filename}: no such file; run vitalwire enrol") from None
        except (OSError, ValueError, msgspec.MsgspecError, IdentityError) as error:
            raise ConfigError(f"identity_dir = {str(folder)!r}: {error}; run vitalwire enrol") from None
        if cloud.gateway != gateway:
            raise ConfigError(f"identity_dir = {str(folder)!r}: is of gateway {cloud.gateway!r}, not {gateway!r}")
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError(f"{folder / 'command.pub'}: is not an Ed25519 key")
        self.url, self._command_key = cloud.url, key

    def is_signed(self, command: Command) -> bool:
        """Whether the cloud that enrolled this box signed this command for it and no other."""
        try:
            self._command_key.verify(command.signature, signed_bytes(self.gateway, command))
        except InvalidSignature:
            return False
        return True

    def context(self, candidate: Path, clock: Clock) -> ssl.SSLContext:
        """TLS towards the cloud that enrolled this box, and no other, as `candidate`."""
        context = trusting_whenever(self.ca_file, clock)
        context.load_cert_chain(candidate)
        return context

    def worked(self, candidate: Path) -> None:
        """A connection with it was accepted: the next one replaces the one before, on disk."""
        if candidate == self.next and self.next.exists():
            self.next.replace(self.current)
            self._next_key.unlink(missing_ok=True)
            _sync_folder(self._folder)

    def validity(self) -> Validity:
        """Of the certificate that works. Raises OSError, IdentityError."""
        return validity_of(self.current)

    def serial(self, candidate: Path) -> str:
        """Of a certificate: 62 random bits that no other box is told. Raises OSError, IdentityError."""
        return validity_of(candidate).serial

    @property
    def is_next_waiting(self) -> bool:
        """Whether a next certificate is there that has yet to work."""
        return self.next.exists()

    @property
    def next_us(self) -> int:
        """Since when the next certificate holds. Raises OSError when there is none, IdentityError."""
        return validity_of(self.next).from_us

    def next_request(self) -> str:
        """A signing request for the next key, in PEM. Writes the key before it is asked for.

        The same key until it has a certificate: an answer may be lost.
        """
        try:
            key = _read_key(self._next_key)
            # Of the one in use: a kill came before it was removed. Of the next: that one never got in.
            is_used = any(_is_of(key, one) for one in (self.current, self.next))
        except (FileNotFoundError, ValueError):
            is_used = True
        if is_used:
            key = new_key()
            write_private(self._next_key, key_pem(key))
        return signing_request(key, self.gateway)

    def sign(self, message: bytes) -> bytes:
        """Signs with the key of the certificate that works."""
        return _read_key(self.current).sign(message, ec.ECDSA(hashes.SHA256()))

    def take_next(self, enrolled: Enrolled) -> None:
        """Writes the next certificate; the pinned authority and command key stay. Raises IdentityError."""
        key = _read_key(self._next_key)
        check(enrolled.certificate, key, self.ca_file.read_text(encoding="ascii"), self.gateway)
        write_private(self.next, enrolled.certificate + key_pem(key))


def write_identity(folder: Path, url: str, key: ec.EllipticCurvePrivateKey, enrolled: Enrolled, gateway: str) -> None:
    """Writes the folder of a box just enrolled; `box.pem` last. Raises IdentityError."""
    check(enrolled.certificate, key, enrolled.authority, gateway)
    make_folder(folder)
    for old in ("next.pem", "next.key"):
        (folder / old).unlink(missing_ok=True)
    write_private(folder / "ca.pem", enrolled.authority)
    write_private(folder / "command.pub", enrolled.command_key)
    write_private(folder / "cloud.json", msgspec.json.encode(_Cloud(gateway, url)).decode())
    write_private(folder / "box.pem", enrolled.certificate + key_pem(key))


def make_folder(folder: Path) -> None:
    """Makes the folder if it is not there; made by root it belongs to the owner of the one above, as the agent does."""
    if folder.exists():
        return
    folder.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        above = folder.resolve().parent.stat()
        os.chown(folder, above.st_uid, above.st_gid)


def check(pem: str, key: ec.EllipticCurvePrivateKey, authority: str, gateway: str) -> None:
    """Raises IdentityError unless this certificate is of that key, authority and gateway."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        common = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise IdentityError(f"the certificate is not the authority's: {error}") from None
    if certificate.public_key() != key.public_key():
        raise IdentityError("the certificate is of another key")
    if common != [gateway] or uris != [identity(gateway, f"{certificate.serial_number:x}")]:
        raise IdentityError(f"the certificate is of {', '.join(common)}, this box is {gateway}")


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that has never left this box, nor will."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as it lies in files."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def signing_request(key: ec.EllipticCurvePrivateKey, gateway: str) -> str:
    """A request in PEM; the cloud reads the key alone, the name is for a person who looks at it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(_PEM).decode()


def validity_of(path: Path) -> Validity:
    """Of the certificate in a file. Raises OSError, IdentityError."""
    certificate = _certificate(path)
    from_us = round(certificate.not_valid_before_utc.timestamp() * MICROSECONDS)
    until_us = round(certificate.not_valid_after_utc.timestamp() * MICROSECONDS)
    return Validity(f"{certificate.serial_number:x}", from_us, until_us)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise IdentityError(f"{path}: {error}") from None


def _is_of(key: ec.EllipticCurvePrivateKey, path: Path) -> bool:
    try:
        return _certificate(path).public_key() == key.public_key()
    except (FileNotFoundError, IdentityError):
        return False


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: is not a P-256 key")
    return key


def write_private(path: Path, text: str) -> None:
    """Replaces a file by one that only its folder's owner can read; after power loss it is the old or the new."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        if os.geteuid() == 0:  # the agent, who owns the folder, is to read what an administrator wrote
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

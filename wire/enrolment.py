"""What a box and its cloud say to each other over HTTPS to make a box known and keep it known (docs/wire.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wire.topics import check_gateway_id

AUTHORITY_PATH = "/v1/enrolment/authority"
ENROL_PATH = "/v1/enrolment"
RENEW_PATH = "/v1/enrolment/renewal"

# A signing request for a P-256 key is 500 bytes; nobody needs one of a few KiB.
_MOST_CSR_CHARACTERS = 4096
# Three certificates of under 1 KiB each and a key.
MOST_ANSWER_BYTES = 64 * 1024
MOST_REQUEST_BYTES = 16 * 1024
# A renewal is made and sent at once: this covers a clock that is off, and a request kept for longer is worth nothing.
RENEWAL_FRESH_US = 5 * 60 * 1_000_000

_Csr = Annotated[str, Meta(max_length=_MOST_CSR_CHARACTERS)]


class EnrolmentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A one-time code and a signing request in PEM, of which nothing but the key counts."""

    code: Annotated[str, Meta(max_length=100)]
    csr: _Csr


class RenewalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signing request for the next key, signed (ECDSA with SHA-256, DER) by the key of certificate `serial`."""

    serial: Annotated[str, Meta(pattern="^[0-9a-f]{1,40}$")]
    csr: _Csr
    issued_us: int
    signature: bytes


class Enrolled(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What the cloud gives a box, each in PEM: its certificate, who signed it, and the key that signs commands."""

    gateway: str
    certificate: str
    authority: str
    command_key: str


class Refusal(msgspec.Struct, frozen=True):
    """The cloud's no."""

    error: str = ""


def renewal_bytes(request: RenewalRequest) -> bytes:
    """What the old key signs: the fields as text, each ended by a zero byte, which none of them can hold."""
    return "\0".join(("vitalwire-renewal-1", request.serial, str(request.issued_us), request.csr, "")).encode()


def identity(gateway: str, serial: str) -> str:
    """The URI in a box's certificate, the broker's user of that name: one certificate can be refused, not its box."""
    return f"urn:vitalwire:gateway:{check_gateway_id(gateway)}:{serial}"

"""Asks the cloud for this box's certificates over HTTPS: the first with a one-time code, the next with the key before.

The first time the cloud is known by its authority's certificate, from a file or by its fingerprint; later by the one
that was pinned then.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge.identity import Identity, IdentityError, make_folder, new_key, signing_request, write_identity
from edge.trust import trusting, trusting_whenever
from wire.clock import Clock
from wire.enrolment import (
    AUTHORITY_PATH,
    ENROL_PATH,
    MOST_ANSWER_BYTES,
    RENEW_PATH,
    Enrolled,
    EnrolmentRequest,
    Refusal,
    RenewalRequest,
    renewal_bytes,
)

_TIMEOUT_S = 20.0
_PORT = 8443

T = TypeVar("T")


class EnrolmentFailed(Exception):
    """The cloud does not answer, is not the one that was pinned, or says no: the text says which."""


def check_url(url: str) -> str:
    """The address itself. Raises ValueError unless it is https://host or https://host:port."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{url!r} is not https://HOST:PORT")
    return url


def enrol(folder: Path, gateway: str, url: str, code: str, authority: str) -> None:
    """Makes a key and a folder with its certificate; `authority` is who the cloud has to be, in PEM.

    Waits for the network: call it off the event loop. Raises EnrolmentFailed, IdentityError, OSError.
    """
    make_folder(folder)
    pinned = folder / "ca.asked.pem"
    pinned.write_text(authority, encoding="ascii")
    try:
        key = new_key()
        request = EnrolmentRequest(code, signing_request(key, gateway))
        enrolled = _ask(url, ENROL_PATH, request, trusting(pinned))
    finally:
        pinned.unlink()
    if _der(enrolled.authority) != _der(authority):
        raise IdentityError("the cloud signs with another authority than the one that was pinned")
    write_identity(folder, url, key, enrolled, gateway)


def renew(identity: Identity, clock: Clock) -> None:
    """Gets the next certificate, beside the one that works. Waits, raises as `enrol`."""
    request = RenewalRequest(identity.validity().serial, identity.next_request(), clock.now_us(), b"")
    request = msgspec.structs.replace(request, signature=identity.sign(renewal_bytes(request)))
    identity.take_next(_ask(identity.url, RENEW_PATH, request, trusting_whenever(identity.ca_file, clock)))


def fetch_authority(url: str, fingerprint: str) -> str:
    """The authority's certificate in PEM, known by its SHA-256. Waits. Raises EnrolmentFailed."""
    # Nothing secret leaves here and nothing that comes back is believed but by its digest: who answers does not matter.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    body = _send(url, "GET", AUTHORITY_PATH, None, context)
    try:
        pem = body.decode("ascii")
        found = hashlib.sha256(_der(pem)).hexdigest()
    except ValueError as error:
        raise EnrolmentFailed(f"{url} has no authority's certificate: {error}") from None
    if found != fingerprint.replace(":", "").strip().lower():
        raise EnrolmentFailed(f"{url} is not the cloud of this fingerprint: its authority's is {found}")
    return pem


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def _ask(url: str, path: str, request: msgspec.Struct, context: ssl.SSLContext) -> Enrolled:
    body = _send(url, "POST", path, msgspec.json.encode(request), context)
    try:
        return msgspec.json.decode(body, type=Enrolled)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EnrolmentFailed(f"{url} gave an answer that cannot be read: {error}") from None


def _send(url: str, method: str, path: str, body: bytes | None, context: ssl.SSLContext) -> bytes:
    parts = urlsplit(url)
    port = parts.port or _PORT
    connection = http.client.HTTPSConnection(parts.hostname or "", port, timeout=_TIMEOUT_S, context=context)
    # The cloud takes changes from nobody else's page: a box says, as a browser would, that it asks for nobody else.
    host = f"[{parts.hostname}]:{port}" if ":" in (parts.hostname or "") else f"{parts.hostname}:{port}"
    headers = {"Host": host, "Origin": f"https://{host}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read(MOST_ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise EnrolmentFailed(f"{url}: {error}") from None
    finally:
        connection.close()
    if len(answer) > MOST_ANSWER_BYTES:
        raise EnrolmentFailed(f"{url} answered with more than {MOST_ANSWER_BYTES} bytes")
    if response.status != http.client.OK:
        raise EnrolmentFailed(f"{url} says no ({response.status}): {_reason(answer)}")
    return answer


def _reason(answer: bytes) -> str:
    try:
        return msgspec.json.decode(answer, type=Refusal).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "for no reason it tells"

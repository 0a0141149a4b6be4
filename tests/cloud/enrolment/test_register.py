"""Codes and renewals on every store: one use, one box, one hour; and no key but the one before gives the next."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloud.enrolment import codes
from cloud.enrolment.authority import Authority
from cloud.enrolment.register import EnrolmentRefused, Register
from cloud.fleet import UnknownGateway
from cloud.store.database import Database
from cloud.store.location import StoreLocation
from edge.identity import new_key, signing_request
from tests.conftest import FakeClock
from wire.enrolment import EnrolmentRequest, RenewalRequest, renewal_bytes

pytestmark = pytest.mark.timeout(60)  # the first one over PostgreSQL starts its server

Key = ec.EllipticCurvePrivateKey
DAY_S = 86_400


@pytest.fixture
def register(location: StoreLocation, tmp_path: Path, clock: FakeClock) -> Iterator[Register]:
    database = Database(location)
    authority = Authority(tmp_path / "authority", ["localhost"], clock)
    yield Register(database, authority, clock, ["gw-1", "gw-2"], days=30, late_days=365)
    database.close()


async def enrolled(register: Register, key: Key, gateway: str = "gw-1") -> x509.Certificate:
    code = await register.mint_code(gateway)
    given = await register.enrol(EnrolmentRequest(code, signing_request(key, gateway)))
    return x509.load_pem_x509_certificate(given.certificate.encode())


def renewal(certificate: x509.Certificate, by: Key, next_key: Key, now_us: int) -> RenewalRequest:
    request = RenewalRequest(f"{certificate.serial_number:x}", signing_request(next_key, "gw-1"), now_us, b"")
    return msgspec.structs.replace(request, signature=by.sign(renewal_bytes(request), ec.ECDSA(hashes.SHA256())))


async def refused(register: Register, code: str, csr: str = "") -> str:
    with pytest.raises(EnrolmentRefused) as error:
        await register.enrol(EnrolmentRequest(code, csr or signing_request(new_key(), "gw-1")))
    return error.value.why


async def test_a_code_makes_its_own_gateway_known_whatever_the_request_says(register: Register) -> None:
    code = await register.mint_code("gw-1")
    given = await register.enrol(EnrolmentRequest(code.lower().replace("-", " "), signing_request(new_key(), "gw-2")))
    certificate = x509.load_pem_x509_certificate(given.certificate.encode())
    names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    assert (given.gateway, names) == ("gw-1", ["gw-1"])
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [(one.gateway, one.serial) for one in await register.valid()] == [("gw-1", f"{certificate.serial_number:x}")]


async def test_a_code_is_good_once_for_an_hour_and_for_five_tries(register: Register, clock: FakeClock) -> None:
    used = await register.mint_code("gw-1")
    await register.enrol(EnrolmentRequest(used, signing_request(new_key(), "gw-1")))
    assert await refused(register, used) == "no open code of this name"
    late = await register.mint_code("gw-1")
    clock.advance_s(3600)
    assert await refused(register, late) == "the code has expired"
    code = codes.parse(await register.mint_code("gw-1"))
    wrong = str(codes.Code(code.code_id, codes.mint().secret))
    assert [await refused(register, wrong) for _ in range(6)] == ["a wrong secret"] * 5 + ["no open code of this name"]
    assert await refused(register, str(code)) == "no open code of this name"
    assert await refused(register, str(codes.mint())) == "no open code of this name"


async def test_a_new_code_and_a_revocation_burn_the_open_one(register: Register) -> None:
    first = await register.mint_code("gw-1")
    second = await register.mint_code("gw-1")
    assert await refused(register, first) == "no open code of this name"
    await register.revoke("gw-1")
    assert await refused(register, second) == "no open code of this name"


async def test_a_store_holds_no_code(register: Register, tmp_path: Path) -> None:
    code = codes.parse(await register.mint_code("gw-1"))
    for path in tmp_path.glob("store.sqlite*"):
        assert code.secret.encode() not in path.read_bytes()


async def test_a_request_that_is_none_leaves_the_code_good(register: Register) -> None:
    code = await register.mint_code("gw-1")
    name = x509.Name([])
    large = rsa.generate_private_key(65537, 2048)
    other = x509.CertificateSigningRequestBuilder().subject_name(name).sign(large, hashes.SHA256())
    whole = x509.load_pem_x509_csr(signing_request(new_key(), "gw-1").encode())
    stolen = base64.encodebytes(whole.public_bytes(Encoding.DER).replace(b"gw-1", b"gw-2")).decode()
    broken = f"-----BEGIN CERTIFICATE REQUEST-----\n{stolen}-----END CERTIFICATE REQUEST-----\n"
    for csr in ("nonsense", broken, other.public_bytes(Encoding.PEM).decode()):
        await refused(register, code, csr)
    await register.enrol(EnrolmentRequest(code, signing_request(new_key(), "gw-1")))


async def test_no_code_for_a_gateway_that_is_not_configured(register: Register) -> None:
    with pytest.raises(UnknownGateway):
        await register.mint_code("gw-9")


async def test_renewal_needs_the_key_before_and_keeps_both_until_the_next(register: Register, clock: FakeClock) -> None:
    keys = [new_key() for _ in range(4)]
    first = await enrolled(register, keys[0])
    given = await register.renew(renewal(first, keys[0], keys[1], clock.now_us()))
    again = await register.renew(renewal(first, keys[0], keys[1], clock.now_us()))
    assert given == again  # an answer that was lost
    second = x509.load_pem_x509_certificate(given.certificate.encode())
    assert {one.serial for one in await register.valid()} == {f"{one.serial_number:x}" for one in (first, second)}
    third = await register.renew(renewal(second, keys[1], keys[2], clock.now_us()))
    serials = {f"{x509.load_pem_x509_certificate(one.encode()).serial_number:x}" for one in (third.certificate,)}
    assert {one.serial for one in await register.valid()} == serials | {f"{second.serial_number:x}"}
    with pytest.raises(EnrolmentRefused, match="no valid certificate"):
        await register.renew(renewal(first, keys[0], keys[3], clock.now_us()))


async def test_a_renewal_by_anybody_else_or_of_another_time_is_refused(register: Register, clock: FakeClock) -> None:
    key, thief = new_key(), new_key()
    mine, other = await enrolled(register, key), await enrolled(register, thief, "gw-2")
    now_us = clock.now_us()
    good = renewal(mine, key, new_key(), now_us)
    bad = {
        "not signed": renewal(mine, thief, new_key(), now_us),
        "not signed by": msgspec.structs.replace(good, csr=signing_request(thief, "gw-1")),
        "not of now": renewal(mine, key, new_key(), now_us - 301_000_000),
        "new key": renewal(mine, key, key, now_us),
        "no valid": msgspec.structs.replace(good, serial="ab"),
    }
    for why, request in bad.items():
        with pytest.raises(EnrolmentRefused, match=why):
            await register.renew(request)
    with pytest.raises(EnrolmentRefused, match="not signed"):
        await register.renew(msgspec.structs.replace(good, serial=f"{other.serial_number:x}"))


async def test_a_box_switched_off_past_its_certificates_end_still_renews_for_a_year(
    register: Register, clock: FakeClock
) -> None:
    keys = [new_key() for _ in range(4)]
    first = await enrolled(register, keys[0])
    clock.advance_s(90 * DAY_S)
    assert await register.valid() == []
    await register.renew(renewal(first, keys[0], keys[1], clock.now_us()))  # the answer is lost, and the box goes off
    clock.advance_s(90 * DAY_S)
    again = await register.renew(renewal(first, keys[0], keys[1], clock.now_us()))
    second = x509.load_pem_x509_certificate(again.certificate.encode())
    assert [one.serial for one in await register.valid()] == [f"{second.serial_number:x}"]
    await register.renew(renewal(second, keys[1], keys[2], clock.now_us()))
    with pytest.raises(EnrolmentRefused, match="no valid"):  # it was replaced
        await register.renew(renewal(first, keys[0], keys[3], clock.now_us()))
    clock.advance_s((30 + 366) * DAY_S)
    with pytest.raises(EnrolmentRefused, match="no valid"):
        await register.renew(renewal(second, keys[1], keys[3], clock.now_us()))


async def test_a_revocation_ends_late_renewals_too(register: Register, clock: FakeClock) -> None:
    key = new_key()
    stolen = await enrolled(register, key)
    clock.advance_s(90 * DAY_S)
    assert await register.revoke("gw-1") == 1
    with pytest.raises(EnrolmentRefused, match="no valid"):
        await register.renew(renewal(stolen, key, new_key(), clock.now_us()))


async def test_whatever_changes_who_is_valid_is_counted(register: Register) -> None:
    seen = [await register.changes()]
    await enrolled(register, new_key())
    seen.append(await register.changes())
    await register.revoke("gw-1")
    seen.append(await register.changes())
    assert seen == sorted(set(seen))
    assert [one.state for one in await register.newest()] == ["revoked"]

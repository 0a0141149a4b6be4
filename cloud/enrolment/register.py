"""Which boxes are known: codes minted, certificates given, renewed and taken back, each in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.enrolment import codes
from cloud.enrolment.authority import Authority, Issued, read_csr
from cloud.fleet import UnknownGateway
from cloud.store import enrolment as table
from cloud.store.database import Database
from cloud.store.enrolment import VALID, StoredCertificate, StoredCode
from wire.clock import MICROSECONDS, Clock
from wire.enrolment import RENEWAL_FRESH_US, Enrolled, EnrolmentRequest, RenewalRequest, renewal_bytes


class EnrolmentRefused(Exception):
    """No certificate for this request; why is for the audit, the asker learns no more than that."""

    def __init__(self, why: str, gateway: str = "") -> None:
        super().__init__(why)
        self.why, self.gateway = why, gateway


class Register:
    """Codes and certificates of one cloud. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        clock: Clock,
        gateways: Collection[str],
        *,
        days: float,
        late_days: float,
    ) -> None:
        """`days` is the life of a box's certificate, and for `late_days` beyond it can still be renewed."""
        self._database, self._authority, self._clock = database, authority, clock
        self._gateways, self._days = frozenset(gateways), days
        self._late_us = round(late_days * 86_400 * MICROSECONDS)

    async def mint_code(self, gateway: str) -> str:
        """A code with which this gateway, and no other, can enrol once. Raises UnknownGateway."""
        self._require(gateway)
        code, now_us = codes.mint(), self._clock.now_us()
        stored = StoredCode(code.code_id, gateway, codes.digest(code.secret), now_us + codes.LIFETIME_US, 0)
        await self._database.write(lambda connection: table.add_code(connection, stored, now_us))
        return str(code)

    async def enrol(self, request: EnrolmentRequest) -> Enrolled:
        """Burns the code and gives its gateway a certificate, beside which no older one counts any more.

        Raises EnrolmentRefused.
        """
        try:
            code, key = codes.parse(request.code), read_csr(request.csr)
        except ValueError as error:
            raise EnrolmentRefused(str(error)) from None

        def work(connection: sa.Connection) -> Issued | EnrolmentRefused:
            stored = table.open_code(connection, code.code_id)
            if stored is None:
                return EnrolmentRefused("no open code of this name")
            if self._clock.now_us() >= stored.expires_us:
                return EnrolmentRefused("the code has expired", stored.gateway)
            if not codes.is_secret(code.secret, stored.digest):
                table.count_try(connection, code.code_id, codes.MOST_TRIES)
                return EnrolmentRefused("a wrong secret", stored.gateway)
            if stored.gateway not in self._gateways or not table.use_code(connection, code.code_id):
                return EnrolmentRefused("the code is not good any more", stored.gateway)
            issued = self._authority.issue(stored.gateway, key, days=self._days)
            table.add_certificate(connection, StoredCertificate(*issued, VALID))
            return issued

        return self._given(await self._database.write(work))

    async def renew(self, request: RenewalRequest) -> Enrolled:
        """Gives the holder of a valid certificate's key the next one; the same again when it asks again.

        A box that was switched off until its certificate ended may ask late, unless that was replaced or taken back.
        Raises EnrolmentRefused.
        """
        now_us = self._clock.now_us()
        if abs(now_us - request.issued_us) > RENEWAL_FRESH_US:
            raise EnrolmentRefused("the request is not of now")
        try:
            key = read_csr(request.csr)
        except ValueError as error:
            raise EnrolmentRefused(str(error)) from None

        def work(connection: sa.Connection) -> StoredCertificate | EnrolmentRefused:
            renewable = table.valid_certificates(connection, now_us - self._late_us)
            current = next((one for one in renewable if one.serial == request.serial), None)
            if current is None or current.gateway not in self._gateways:
                return EnrolmentRefused("no valid certificate of this serial")
            if not _is_signed(request, current):
                return EnrolmentRefused("not signed by the key of the certificate", current.gateway)
            if _key_of(current) == key:
                return EnrolmentRefused("a new certificate needs a new key", current.gateway)
            # An answer that was lost: the box asks again with the key it made.
            for other in renewable:
                if other.gateway == current.gateway and other.expires_us > now_us and _key_of(other) == key:
                    return other
            issued = self._authority.issue(current.gateway, key, days=self._days)
            given = StoredCertificate(*issued, VALID)
            table.add_certificate(connection, given, beside=current.serial)
            return given

        return self._given(await self._database.write(work))

    async def revoke(self, gateway: str) -> int:
        """Nothing this gateway was given counts any more; returns how many valid certificates it had.

        Raises UnknownGateway.
        """
        valid = await self.valid()
        if not any(one.gateway == gateway for one in valid):
            self._require(gateway)  # one taken out of the configuration can still be revoked
        return await self._database.write(lambda connection: table.revoke(connection, gateway))

    async def valid(self) -> list[StoredCertificate]:
        """What boxes may come in with now."""
        now_us = self._clock.now_us()
        return await self._database.read(lambda connection: table.valid_certificates(connection, now_us))

    async def living(self) -> list[StoredCertificate]:
        """Every certificate whose time, that for a late renewal included, is not over, in whatever state."""
        since_us = self._clock.now_us() - self._late_us
        return await self._database.read(lambda connection: table.living_certificates(connection, since_us))

    async def merge(self, noted: Sequence[StoredCertificate]) -> int:
        """Makes good what a store restored from a backup does not know; returns how many certificates that were."""
        return await self._database.write(lambda connection: table.merge(connection, noted))

    async def newest(self) -> list[StoredCertificate]:
        """The last certificate of every box, in whatever state."""
        return await self._database.read(table.newest_certificates)

    async def changes(self) -> int:
        """Grows whenever `valid` may be another, whoever changed it."""
        return await self._database.read(table.changes)

    def _require(self, gateway: str) -> None:
        if gateway not in self._gateways:
            raise UnknownGateway(gateway)

    def _given(self, result: Issued | StoredCertificate | EnrolmentRefused) -> Enrolled:
        if isinstance(result, EnrolmentRefused):  # returned, so that what was counted is committed
            raise result
        return Enrolled(result.gateway, result.pem, self._authority.ca_pem, self._authority.command_key_pem)


def _key_of(certificate: StoredCertificate) -> ec.EllipticCurvePublicKey:
    key = x509.load_pem_x509_certificate(certificate.pem.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # we give no other
    return key


def _is_signed(request: RenewalRequest, certificate: StoredCertificate) -> bool:
    try:
        _key_of(certificate).verify(request.signature, renewal_bytes(request), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True

"""TLS towards one authority that was pinned, whatever the machine's clock says."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS, Clock

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which ssl does not name


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and above to who is signed by this authority, or one the machine knows, under the name asked for.

    Certificates have to be good now by the machine's clock.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def trusting_whenever(ca_file: Path, clock: Clock) -> ssl.SSLContext:
    """As `trusting`, with the times of certificates judged by `clock` instead, as far as it can be trusted.

    OpenSSL asks the machine, whose clock may stand in 1970 or behind the cloud's while `clock` follows the cloud; and a
    box whose clock is wrong must not keep its readings to itself for that. Who may answer is still the one authority;
    an expired certificate of that one's is what a box without a trusted clock cannot tell. For blocking sockets.
    """
    context = trusting(ca_file)
    context.verify_flags |= _NO_CHECK_TIME

    class Judging(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            _refuse_expired(self.getpeercert(binary_form=True), clock)

    context.sslsocket_class = Judging
    return context


def _refuse_expired(der: bytes | None, clock: Clock) -> None:
    """One that is not good yet passes: the authority made it all the same, and whose clock is off is not known."""
    assert der is not None  # without one the handshake has failed
    now_us = clock.now_us()
    if not clock.state().synchronised or now_us < EARLIEST_PLAUSIBLE_US:
        return
    until = x509.load_der_x509_certificate(der).not_valid_after_utc
    if now_us > until.timestamp() * MICROSECONDS:
        raise ssl.SSLCertVerificationError(f"certificate verify failed: certificate has expired on {until:%Y-%m-%d}")

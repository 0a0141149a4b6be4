"""A box reaches its cloud whatever the machine's clock says, over real TLS: its alarms must not wait for a battery."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from cloud.enrolment.authority import Authority
from edge.identity import trusting
from tests.cloud.enrolment_site import DAY_US, MovableClock
from wire.clock import ClockState


class BoxClock(MovableClock):
    """Shifted against the machine's, and known to be right or not."""

    def __init__(self, shift_days: int, *, is_right: bool) -> None:
        self.shift_us, self._is_right = shift_days * DAY_US, is_right

    def state(self) -> ClockState:
        return ClockState(self._is_right, 0)


async def is_trusted(authority: Authority, context: ssl.SSLContext) -> bool:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority.server_file)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"!")
        writer.close()

    def ask(port: int) -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as bare:
            try:
                with context.wrap_socket(bare, server_hostname="localhost") as asked:
                    return asked.recv(1) == b"!"
            except ssl.SSLCertVerificationError:
                return False

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving) as server:
        return await asyncio.to_thread(ask, server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("days", "is_right", "answer"),
    [(-20_000, False, True), (-400, False, True), (0, True, True), (4000, False, True), (4000, True, False)],
)
async def test_only_a_clock_known_to_be_right_ends_a_certificate(
    tmp_path: Path, days: int, is_right: bool, answer: bool
) -> None:
    """The machine's clock is 400 days behind the cloud that made the certificates: OpenSSL would trust none of them."""
    clouds = MovableClock()
    clouds.shift_us = 400 * DAY_US
    authority = Authority(tmp_path / "authority", ("localhost",), clouds)
    context = trusting(authority.ca_file, BoxClock(400 + days, is_right=is_right))
    assert await is_trusted(authority, context) is answer
    machines = ssl.create_default_context(cafile=authority.ca_file)
    assert not await is_trusted(authority, machines)


async def test_a_certificate_of_another_authority_is_refused_whatever_the_clock(tmp_path: Path) -> None:
    ours, other = [Authority(tmp_path / name, ("localhost",), MovableClock()) for name in ("ours", "other")]
    assert not await is_trusted(other, trusting(ours.ca_file, BoxClock(-20_000, is_right=False)))
    assert await is_trusted(ours, trusting(ours.ca_file, BoxClock(-20_000, is_right=False)))


def test_a_certificate_made_by_a_clock_in_the_future_is_made_anew(tmp_path: Path) -> None:
    clock = MovableClock()
    clock.shift_us = 365 * DAY_US
    authority = Authority(tmp_path / "authority", ("localhost",), clock)
    assert not authority.keep_server_certificate()
    clock.shift_us = 0
    assert authority.keep_server_certificate()
    assert not authority.keep_server_certificate()

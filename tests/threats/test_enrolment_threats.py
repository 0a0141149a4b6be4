"""Whoever wants to be a box that they are not, or to command one: the real listener over HTTPS, a real agent.

Each attack is one test: it gets nowhere, learns nothing but no, and is counted and written down.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.bus.broker_config import password_path
from cloud.bus.jetstream import connect_bare
from cloud.config import CloudConfig
from cloud.enrolment import codes
from cloud.enrolment.authority import Authority
from edge.enrolment import EnrolmentFailed, enrol, fetch_authority, renew
from edge.identity import Identity, IdentityError, check, new_key, signing_request
from tests.cloud.conftest import config
from tests.cloud.enrolled_cloud import EnrolledCloud, enrolled_cloud
from tests.cloud.enrolment_site import EnrolmentSite, MovableClock, audited, enrolment_site
from tests.cloud.test_downlink import ended, issue
from tests.threats.test_broker_threats import foreign_cloud
from wire import topics
from wire.clock import SystemClock
from wire.commands import ApplyConfiguration, Command, Replay, encode_order
from wire.enrolment import ENROL_PATH, RENEW_PATH, RenewalRequest, renewal_bytes
from wire.messages import encode_frame

__all__ = ["config", "enrolled_cloud"]

pytestmark = pytest.mark.timeout(60)

HOUR_US = 3600 * 1_000_000
NO = (403, {"error": "refused"})


@pytest.fixture
def moved() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def site(config: CloudConfig, tmp_path: Path, moved: MovableClock) -> AsyncIterator[EnrolmentSite]:
    async with enrolment_site(config, tmp_path, moved) as running:
        yield running


class Stranger:
    """Sends what it likes to where boxes enrol."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def post(self, path: str, body: bytes) -> tuple[int, object]:
        answer = await self._client.post(path, content=body)
        return answer.status_code, answer.json()

    async def enrol(self, code: str) -> tuple[int, object]:
        body = {"code": code, "csr": signing_request(new_key(), "gw-1")}
        return await self.post(ENROL_PATH, json.dumps(body).encode())

    async def renew(self, request: RenewalRequest) -> tuple[int, object]:
        return await self.post(RENEW_PATH, msgspec.json.encode(request))


@asynccontextmanager
async def stranger(site: EnrolmentSite) -> AsyncIterator[Stranger]:
    context = ssl.create_default_context(cafile=site.ca_file)
    async with httpx.AsyncClient(base_url=site.url, verify=context, headers={"Origin": site.url}) as client:
        yield Stranger(client)


def refusals(site: EnrolmentSite) -> list[str]:
    return [action for _, action, _, result in audited(site.database) if result == "refused"]


# Codes.


async def test_a_used_code_is_refused(site: EnrolmentSite) -> None:
    code = await site.register.mint_code("gw-1")
    async with stranger(site) as thief:
        assert (await thief.enrol(code))[0] == 200
        assert await thief.enrol(code) == NO
    assert refusals(site) == ["enrol: no open code of this name"]
    assert site.counters["enrolment_refused"] == 1


async def test_of_two_who_use_a_code_at_once_one_gets_a_certificate(site: EnrolmentSite) -> None:
    code = await site.register.mint_code("gw-1")
    async with stranger(site) as thief:
        answers = await asyncio.gather(*(thief.enrol(code) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] + [403] * 7
    assert len(await site.register.valid()) == 1


async def test_an_expired_code_is_refused(site: EnrolmentSite, moved: MovableClock) -> None:
    code = await site.register.mint_code("gw-1")
    moved.shift_us = HOUR_US
    async with stranger(site) as thief:
        assert await thief.enrol(code) == NO
    assert refusals(site) == ["enrol: the code has expired"]


async def test_guessing_a_secret_burns_its_code(site: EnrolmentSite) -> None:
    code = codes.parse(await site.register.mint_code("gw-1"))
    async with stranger(site) as thief:
        for _ in range(codes.MOST_TRIES):
            assert await thief.enrol(str(codes.Code(code.code_id, codes.mint().secret))) == NO
        assert await thief.enrol(str(code)) == NO
    assert refusals(site) == ["enrol: a wrong secret"] * 5 + ["enrol: no open code of this name"]


async def test_a_flood_of_guesses_is_heard_ten_times_a_minute(site: EnrolmentSite, moved: MovableClock) -> None:
    async with stranger(site) as thief:
        answers = await asyncio.gather(*(thief.enrol(str(codes.mint())) for _ in range(40)))
        assert sorted(status for status, _ in answers) == [403] * 10 + [429] * 30
        assert len(refusals(site)) == 11
        assert (site.counters["enrolment_refused"], site.counters["enrolment_limited"]) == (10, 30)
        code = await site.register.mint_code("gw-1")
        assert (await thief.enrol(code))[0] == 429
        moved.shift_us = 61_000_000
        assert (await thief.enrol(code))[0] == 200


async def test_a_stolen_code_makes_nobody_but_its_box_and_ends_with_a_revocation(
    site: EnrolmentSite, tmp_path: Path
) -> None:
    code = await site.register.mint_code("gw-1")
    # Typed into a box of another name, it is spent and makes that box nobody.
    with pytest.raises(IdentityError, match="is of gw-1, this box is gw-2"):
        await asyncio.to_thread(enrol, tmp_path / "thief", "gw-2", site.url, code, site.authority.ca_pem)
    assert not (tmp_path / "thief" / "box.pem").exists()
    # A thief who passes for that box gets in, and the box that finds its code used says so.
    code = await site.register.mint_code("gw-1")
    await asyncio.to_thread(enrol, tmp_path / "thief", "gw-1", site.url, code, site.authority.ca_pem)
    with pytest.raises(EnrolmentFailed, match=r"says no \(403\): refused"):
        await asyncio.to_thread(enrol, tmp_path / "box", "gw-1", site.url, code, site.authority.ca_pem)
    thief = Identity(tmp_path / "thief", "gw-1")
    async with asyncio.timeout(5):
        while not await site.is_let_in(thief.current):
            continue
    await site.register.revoke("gw-1")
    async with asyncio.timeout(5):
        while await site.is_let_in(thief.current):
            continue
    with pytest.raises(EnrolmentFailed, match="403"):
        await asyncio.to_thread(renew, thief, SystemClock())
    assert refusals(site)[0] == "enrol: no open code of this name"


async def test_whatever_is_wrong_the_answer_is_the_same_no(site: EnrolmentSite) -> None:
    csr = signing_request(new_key(), "gw-1")
    code = await site.register.mint_code("gw-1")
    bodies = [b"", b"\xff", b"[]", b"{}", secrets.token_bytes(500), b" " * 20_000]
    bodies += [json.dumps({"code": "x" * 101, "csr": csr}).encode(), json.dumps({"code": code, "csr": "no"}).encode()]
    bodies += [json.dumps({"code": code, "csr": csr, "gateway": "gw-2"}).encode()]
    async with stranger(site) as thief:
        for body in bodies:
            assert await thief.post(ENROL_PATH, body) == NO
        assert (await thief.enrol(code))[0] == 200  # none of it cost the code a try
    assert len(refusals(site)) == len(bodies)


async def test_a_page_of_somebody_else_cannot_have_a_browser_ask(site: EnrolmentSite) -> None:
    code = await site.register.mint_code("gw-1")
    body = {"code": code, "csr": signing_request(new_key(), "gw-1")}
    context = ssl.create_default_context(cafile=site.ca_file)
    async with httpx.AsyncClient(base_url=site.url, verify=context) as browser:
        for headers in ({"Origin": "https://evil.example"}, {"Origin": site.url, "Host": "evil.example"}):
            assert (await browser.post(ENROL_PATH, json=body, headers=headers)).status_code == 403
    assert await site.register.valid() == []


# Renewals.


def renewal(box: Identity, by: ec.EllipticCurvePrivateKey | None = None, at_us: int | None = None) -> RenewalRequest:
    issued_us = SystemClock().now_us() if at_us is None else at_us
    request = RenewalRequest(box.validity().serial, signing_request(new_key(), "gw-1"), issued_us, b"")
    message = renewal_bytes(request)
    signature = box.sign(message) if by is None else by.sign(message, ec.ECDSA(hashes.SHA256()))
    return msgspec.structs.replace(request, signature=signature)


async def test_a_renewal_forged_stale_or_changed_is_refused(site: EnrolmentSite) -> None:
    box, other = await site.enrol("gw-1"), await site.enrol("gw-2")
    valid = await site.register.valid()
    now_us = SystemClock().now_us()
    good = renewal(box)
    forged = [
        renewal(box, by=new_key()),
        renewal(box, at_us=now_us - HOUR_US),
        renewal(box, at_us=now_us + HOUR_US),
        msgspec.structs.replace(good, csr=signing_request(new_key(), "gw-1")),
        msgspec.structs.replace(good, issued_us=good.issued_us + 1),
        msgspec.structs.replace(good, serial=other.validity().serial),
        msgspec.structs.replace(good, signature=b""),
    ]
    async with stranger(site) as thief:
        for request in forged:
            assert await thief.renew(request) == NO
    assert await site.register.valid() == valid
    assert len(refusals(site)) == len(forged)


async def test_a_renewal_sent_again_gives_nothing_new(site: EnrolmentSite) -> None:
    request = renewal(await site.enrol("gw-1"))
    async with stranger(site) as thief:
        first, again = await thief.renew(request), await thief.renew(request)
    assert (first[0], again) == (200, first)


async def test_a_revoked_box_cannot_renew(site: EnrolmentSite) -> None:
    box = await site.enrol("gw-1")
    await site.register.revoke("gw-1")
    async with stranger(site) as thief:
        assert await thief.renew(renewal(box)) == NO
    assert refusals(site) == ["renew certificate: no valid certificate of this serial"]


# Clouds that are none.


async def test_a_cloud_that_is_not_the_pinned_one_gets_no_code(site: EnrolmentSite, tmp_path: Path) -> None:
    wrong = secrets.token_hex(32)
    with pytest.raises(EnrolmentFailed, match="is not the cloud of this fingerprint"):
        await asyncio.to_thread(fetch_authority, site.url, wrong)
    pinned = foreign_cloud().partition("-----BEGIN PRIVATE KEY")[0]
    with pytest.raises(EnrolmentFailed, match="certificate verify failed"):
        await asyncio.to_thread(enrol, tmp_path / "box", "gw-1", site.url, "code", pinned)
    assert list((tmp_path / "box").iterdir()) == []


def test_a_certificate_that_is_not_this_boxs_is_not_taken(tmp_path: Path, moved: MovableClock) -> None:
    ours, theirs = (Authority(tmp_path / name, ["localhost"], moved) for name in ("ours", "theirs"))
    key = new_key()
    issued = {
        "not the authority's": theirs.issue("gw-1", key.public_key(), days=1).pem,
        "of another key": ours.issue("gw-1", new_key().public_key(), days=1).pem,
        "is of gw-2": ours.issue("gw-2", key.public_key(), days=1).pem,
        "cannot be read|not the authority's": "nonsense",
    }
    for why, pem in issued.items():
        with pytest.raises(IdentityError, match=why):
            check(pem, key, ours.ca_pem, "gw-1")
    check(ours.issue("gw-1", key.public_key(), days=1).pem, key, ours.ca_pem, "gw-1")


# Commands: whoever got hold of the broker's own password can send them, and still cannot sign them.


@pytest.mark.system
async def test_a_forged_replayed_or_foreign_command_is_not_obeyed(
    enrolled_cloud: EnrolledCloud, tmp_path: Path, moved: MovableClock
) -> None:
    await enrolled_cloud.enrolled()
    now_us = moved.now_us()
    text = enrolled_cloud.edge_text("heartbeat_s = 0.5\n", endpoint="mqtts://thief.example:8883")
    ours = Authority(enrolled_cloud.config.authority_path, ["localhost"], moved)
    theirs = Authority(tmp_path / "theirs", ["localhost"], moved)

    def command(order: Replay | ApplyConfiguration, expires_us: int = now_us + HOUR_US) -> Command:
        return Command(secrets.token_bytes(16), msgspec.Raw(encode_order(order)), now_us, expires_us)

    elsewhere = command(ApplyConfiguration(text, "9", 5.0))
    signed = ours.sign_command("gw-1", command(Replay(None)))
    forged = [
        elsewhere,
        theirs.sign_command("gw-1", elsewhere),
        ours.sign_command("gw-2", elsewhere),
        msgspec.structs.replace(signed, order=elsewhere.order),
        msgspec.structs.replace(signed, expires_us=signed.expires_us + HOUR_US),
        msgspec.structs.replace(signed, command_id=secrets.token_bytes(16)),
    ]
    late = ours.sign_command("gw-1", command(ApplyConfiguration(text, "9", 5.0), now_us - 1))
    enrolled_cloud.edge_toml.write_text(before := enrolled_cloud.edge_text("heartbeat_s = 0.5\n"))
    password = password_path(enrolled_cloud.config.state_path, "ingest").read_text().strip()
    bare = await connect_bare(enrolled_cloud.config.broker, password)
    async with enrolled_cloud.agent() as client:
        assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
        for frame in (*map(encode_frame, (*forged, late, signed, signed)), b"\x01\x00nonsense"):
            await bare.publish(topics.subject(topics.commands("gw-1")), frame)
        async with asyncio.timeout(10):
            counters: dict[str, int] = {}
            while counters.get("command_undecodable") != 1:
                counters = (await client.get("/api/v1/fleet/gw-1")).json()["gateway"]["counters"]
                await asyncio.sleep(0.05)
    await bare.close()
    assert counters["commands_forged"] == len(forged)
    assert (counters["commands_expired"], counters["commands_done"]) == (1, 2)
    assert counters["commands_repeated"] >= 1  # the cloud itself asks again where an answer takes long
    assert enrolled_cloud.edge_toml.read_text() == before


# Keys.


async def test_a_copied_disk_is_shut_out_by_the_next_code(site: EnrolmentSite, tmp_path: Path) -> None:
    """It holds the key as the box itself does, so nothing else tells the two apart."""
    box = await site.enrol("gw-1")
    shutil.copytree(box.current.parent, tmp_path / "copy")
    copy = Identity(tmp_path / "copy", "gw-1")
    again = await site.enrol("gw-1")
    assert [await site.is_let_in(one.current) for one in (copy, box, again)] == [False, False, True]
    with pytest.raises(EnrolmentFailed, match="403"):
        await asyncio.to_thread(renew, copy, SystemClock())


async def test_no_key_code_or_password_is_readable_by_others(site: EnrolmentSite) -> None:
    code = codes.parse(await site.register.mint_code("gw-1"))
    box = await site.enrol("gw-2")
    state = site.config.state_path
    private = [*(state / "authority").iterdir(), *(state / "secrets").iterdir(), state / "broker.conf"]
    for path in [*private, *box.current.parent.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    for path in state.glob("store.sqlite*"):
        assert code.secret.encode() not in path.read_bytes()

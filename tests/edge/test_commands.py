"""Commands on the box: each done once, answered once, whatever is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cloud.enrolment.authority import Authority
from edge.box_session import BoxSession
from edge.commands import Commands, RestartWanted
from edge.config import EdgeConfig
from edge.configuration import ConfigurationFile
from edge.identity import Identity, new_key, write_identity
from edge.outbox import Outbox
from edge.spool import Chunk, Spool, SpoolConfig, SpoolUnavailable
from edge.uplink import UplinkConfig
from edge.uplinks import Uplinks
from tests.conftest import START_US, FakeClock
from wire.commands import ApplyConfiguration, Command, Replay, encode_order
from wire.enrolment import Enrolled
from wire.messages import Lane, decode_body, decode_frame, decode_record, encode_frame
from wire.readings import CommandOutcome, CommandResult, Origin

HOUR_US = 3_600_000_000
NEW = 'gateway = "gw-1"\nheartbeat_s = 1.0\n'


class CountingUplinks(Uplinks):
    """Uplinks without a link, which keep what it was asked to offer again."""

    def __init__(self, spool: Spool, clock: FakeClock) -> None:
        super().__init__("gw-1", [UplinkConfig()], spool, clock, version="t", store_changed=lambda _store: False)
        self.offered: list[tuple[Lane, ...]] = []
        self.is_disk_full = False

    async def offer_again(self, lanes: Sequence[Lane]) -> None:
        if self.is_disk_full:
            raise SpoolUnavailable("database or disk is full")
        await super().offer_again(lanes)
        self.offered.append(tuple(lanes))


class Box:
    """The parts a command goes through, on disk."""

    def __init__(self, clock: FakeClock, commands: Commands, uplink: CountingUplinks, session: BoxSession) -> None:
        self.clock, self.commands, self.uplink, self.session = clock, commands, uplink, session
        self.committed: list[Chunk] = []

    def outcomes(self) -> list[CommandOutcome]:
        bodies = [decode_body(decode_record(record).body) for chunk in self.committed for record in chunk.records]
        return [body for body in bodies if isinstance(body, CommandOutcome)]

    async def take(self, *frames: bytes) -> None:
        for frame in frames:
            await self.commands.take(frame, self.session, self.uplink)


@asynccontextmanager
async def box(folder: Path, clock: FakeClock, identity: Identity | None = None) -> AsyncIterator[Box]:
    """One process of the box; a new one on the same folder is a restart."""
    folder.mkdir(exist_ok=True)
    path = folder / "edge.toml"
    if not path.exists():
        path.write_text('gateway = "gw-1"\n')
    configuration = ConfigurationFile(path, clock)
    config: EdgeConfig = configuration.start().config
    spool = Spool(folder / "spool", SpoolConfig(reserve_mib=0))
    await spool.open()
    outbox = Outbox(spool, clock, lambda chunk: running.committed.append(chunk))
    session = BoxSession(config, spool, outbox, clock)
    running = Box(
        clock, Commands(spool, outbox, clock, configuration, identity), CountingUplinks(spool, clock), session
    )
    task = asyncio.ensure_future(outbox.run())
    try:
        await session.open(Origin.DEMO)
        yield running
    finally:
        task.cancel()
        await asyncio.wait([task])
        await spool.close()


def command(
    command_id: bytes = bytes(16), order: Replay | ApplyConfiguration | None = None, *, expires_us: int = 0
) -> bytes:
    raw = msgspec.Raw(encode_order(order or Replay()))
    return encode_frame(Command(command_id, raw, START_US, expires_us or START_US + HOUR_US))


async def test_a_command_sent_again_is_done_and_answered_once_across_a_restart(
    tmp_path: Path, clock: FakeClock
) -> None:
    frame = command(order=Replay(Lane.BULK))
    async with box(tmp_path, clock) as running:
        await running.take(frame, frame)
        assert running.uplink.offered == [(Lane.BULK,)]
        (outcome,) = running.outcomes()
        assert outcome == CommandOutcome(bytes(16), CommandResult.DONE, "", START_US)
        assert running.committed[-1].lane is Lane.URGENT
    async with box(tmp_path, clock) as running:
        await running.take(frame)
        assert running.uplink.offered == []
        assert running.outcomes() == []
        assert running.commands.counts["commands_repeated"] == 1


async def test_an_expired_command_is_not_done_if_the_clock_can_tell(tmp_path: Path, clock: FakeClock) -> None:
    late = command(order=Replay(Lane.BULK), expires_us=START_US)
    async with box(tmp_path, clock) as running:
        await running.take(late)
        assert running.uplink.offered == []
        assert [one.result for one in running.outcomes()] == [CommandResult.EXPIRED]
    clock.wall_us = 1_000_000  # a box that booted in 1970
    async with box(tmp_path / "other", clock) as running:
        await running.take(late)
        assert running.uplink.offered == [(Lane.BULK,)]
        assert [one.result for one in running.outcomes()] == [CommandResult.DONE]


async def test_an_order_of_a_later_release_is_refused_and_garbage_is_counted(tmp_path: Path, clock: FakeClock) -> None:
    unknown = Command(bytes(16), msgspec.Raw(msgspec.msgpack.encode(["make_tea"])), START_US, START_US + HOUR_US)
    async with box(tmp_path, clock) as running:
        await running.take(b"garbage", encode_frame(unknown))
        (outcome,) = running.outcomes()
        assert outcome.result is CommandResult.REFUSED
        assert "make_tea" in outcome.detail
        assert running.commands.counts["command_undecodable"] == 1


async def test_a_disk_that_refuses_fails_the_command_and_not_the_box(tmp_path: Path, clock: FakeClock) -> None:
    async with box(tmp_path, clock) as running:
        running.uplink.is_disk_full = True
        await running.take(command())
        (outcome,) = running.outcomes()
        assert (outcome.result, "full" in outcome.detail) == (CommandResult.FAILED, True)


async def test_frames_beyond_the_queue_are_dropped_and_counted(tmp_path: Path, clock: FakeClock) -> None:
    async with box(tmp_path, clock) as running:
        for number in range(36):
            running.commands.receive(command(bytes([number]) * 16))
        assert running.commands.counts["commands_dropped"] == 4


async def test_only_the_newest_256_ids_are_remembered(tmp_path: Path, clock: FakeClock) -> None:
    async with box(tmp_path, clock) as running:
        for start in range(0, 260, 10):
            await running.take(*(command(number.to_bytes(16)) for number in range(start, start + 10)))
    async with box(tmp_path, clock) as running:
        await running.take(*(command(number.to_bytes(16)) for number in (0, 10, 259)))
        assert [one.command_id for one in running.outcomes()] == [(0).to_bytes(16)]


def apply(toml: str = NEW) -> ApplyConfiguration:
    return ApplyConfiguration(toml, "7", 60)


async def test_a_configuration_is_done_after_the_first_receipt(tmp_path: Path, clock: FakeClock) -> None:
    frame = command(order=apply())
    async with box(tmp_path, clock) as running:
        with pytest.raises(RestartWanted):
            await running.take(frame)
        assert running.outcomes() == []
    async with box(tmp_path, clock) as running:
        # On trial: sent again it is passed over, and another one has to wait.
        await running.take(frame, command(b"x" * 16, apply(NEW + "# and another\n")))
        assert running.outcomes() == []
        assert running.commands.counts["commands_deferred"] == 1
        running.uplink.is_receipted.set()
        await running.commands.watch_trial(running.session, running.uplink)
        assert [one.result for one in running.outcomes()] == [CommandResult.DONE]
    async with box(tmp_path, clock) as running:
        await running.commands.watch_trial(running.session, running.uplink)
        await running.take(frame)
        assert running.outcomes() == []
    assert (tmp_path / "edge.toml").read_text() == NEW


async def test_a_configuration_without_a_receipt_is_rolled_back_and_reported(tmp_path: Path, clock: FakeClock) -> None:
    frame = command(order=apply())
    async with box(tmp_path, clock) as running:
        with pytest.raises(RestartWanted):
            await running.take(frame)
    async with box(tmp_path, clock) as running:
        clock.advance_s(60)
        with pytest.raises(RestartWanted):
            await running.commands.watch_trial(running.session, running.uplink)
    async with box(tmp_path, clock) as running:
        await running.commands.watch_trial(running.session, running.uplink)
        (outcome,) = running.outcomes()
        assert (outcome.result, outcome.detail) == (CommandResult.ROLLED_BACK, "no receipt within 60 s")
        await running.take(frame)
        assert len(running.outcomes()) == 1
    assert (tmp_path / "edge.toml").read_text() == 'gateway = "gw-1"\n'


async def test_an_agent_killed_between_answer_and_end_of_trial_answers_once(tmp_path: Path, clock: FakeClock) -> None:
    async with box(tmp_path, clock) as running:
        with pytest.raises(RestartWanted):
            await running.take(command(order=apply()))
    async with box(tmp_path, clock) as running:
        running.uplink.is_receipted.set()
        trial = tmp_path / "edge.toml.trial"
        await running.commands.watch_trial(running.session, running.uplink)
        assert not trial.exists()
    async with box(tmp_path, clock) as running:
        # As it lay there when the agent was killed.
        ended = {"version": "7", "digest": "", "deadline_s": 60, "boot_id": "", "began_us": 0, "result": "done"}
        trial.write_bytes(msgspec.json.encode({"command_id": bytes(16).hex(), **ended}))
    async with box(tmp_path, clock) as running:
        await running.commands.watch_trial(running.session, running.uplink)
        assert running.outcomes() == []
        assert not trial.exists()


@pytest.mark.parametrize(
    ("toml", "result"),
    [
        ('gateway = "gw-2"', CommandResult.REFUSED),
        ('gateway = "gw-1"\nnonsense = 1', CommandResult.REFUSED),
        ('gateway = "gw-1"\n', CommandResult.DONE),  # in force already
    ],
)
async def test_a_configuration_that_changes_nothing_needs_no_restart(
    tmp_path: Path, clock: FakeClock, toml: str, result: CommandResult
) -> None:
    async with box(tmp_path, clock) as running:
        await running.take(command(order=apply(toml)))
        assert [one.result for one in running.outcomes()] == [result]
        assert (tmp_path / "edge.toml").read_text() == 'gateway = "gw-1"\n'


@pytest.fixture
def authority(tmp_path: Path, clock: FakeClock) -> Authority:
    return Authority(tmp_path / "authority", ["localhost"], clock)


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Identity:
    """A box that enrolled as gw-1."""
    key = new_key()
    issued = authority.issue("gw-1", key.public_key(), days=30)
    enrolled = Enrolled("gw-1", issued.pem, authority.ca_pem, authority.command_key_pem)
    write_identity(tmp_path / "identity", "https://localhost", key, enrolled, "gw-1")
    return Identity(tmp_path / "identity", "gw-1")


def read(frame: bytes) -> Command:
    return decode_frame(frame, Command)


async def test_an_enrolled_box_obeys_what_its_cloud_signed_for_it_alone(
    tmp_path: Path, clock: FakeClock, authority: Authority, identity: Identity
) -> None:
    plain = read(command())
    signed = authority.sign_command("gw-1", plain)
    stranger = Authority(tmp_path / "stranger", ["localhost"], clock)
    changed: dict[str, object] = {
        "command_id": b"x" * 16,
        "issued_us": signed.issued_us + 1,
        "expires_us": signed.expires_us + 1,
        "order": msgspec.Raw(encode_order(Replay(Lane.BULK))),
        "signature": signed.signature[:-1],
    }
    forged = [
        plain,
        stranger.sign_command("gw-1", plain),
        authority.sign_command("gw-2", plain),
        *(msgspec.structs.replace(signed, **{name: value}) for name, value in changed.items()),
    ]
    async with box(tmp_path / "box", clock, identity) as running:
        await running.take(*(encode_frame(one) for one in forged))
        assert (running.uplink.offered, running.outcomes()) == ([], [])
        assert running.commands.counts["commands_forged"] == len(forged)
        # None of them stands in the way of the true one of their id.
        await running.take(encode_frame(signed), encode_frame(signed))
        assert [one.result for one in running.outcomes()] == [CommandResult.DONE]
        assert running.commands.counts["commands_repeated"] == 1
        late = authority.sign_command("gw-1", read(command(b"l" * 16, expires_us=START_US)))
        await running.take(encode_frame(late))
        assert running.outcomes()[-1].result is CommandResult.EXPIRED


async def test_an_enrolled_box_obeys_nothing_older_than_what_it_forgot(
    tmp_path: Path, clock: FakeClock, authority: Authority, identity: Identity
) -> None:
    def signed(number: int) -> bytes:
        plain = msgspec.structs.replace(read(command(number.to_bytes(16))), issued_us=START_US + number)
        return encode_frame(authority.sign_command("gw-1", plain))

    async with box(tmp_path / "box", clock, identity) as running:
        await running.take(*(signed(number) for number in range(258)))
        assert len(running.outcomes()) == 258
    async with box(tmp_path / "box", clock, identity) as running:
        await running.take(signed(0), signed(1), signed(2), signed(258))
        assert [one.command_id for one in running.outcomes()] == [(258).to_bytes(16)]
        assert running.commands.counts["commands_replayed"] == 2


async def test_where_the_cloud_is_changes_by_a_signed_command_alone(
    tmp_path: Path, clock: FakeClock, authority: Authority, identity: Identity
) -> None:
    frame = command(order=apply('gateway = "gw-1"\n[uplink]\nendpoints = ["mqtt://127.0.0.1:1"]\n'))
    async with box(tmp_path / "unenrolled", clock) as running:
        await running.take(frame)
        (outcome,) = running.outcomes()
        assert outcome.result is CommandResult.REFUSED
        assert "uplink.endpoints: cannot be changed" in outcome.detail
    async with box(tmp_path / "box", clock, identity) as running:
        with pytest.raises(RestartWanted):
            await running.take(encode_frame(authority.sign_command("gw-1", read(frame))))

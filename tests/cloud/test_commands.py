"""Commands in the store: sent until answered or expired, answered once and by their own box alone."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from cloud.commands import MOST_PENDING, Commands, TooManyCommands, UnknownCommand
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.fleet import UnknownGateway
from cloud.store.append import Appender, Incoming
from cloud.store.commands import StoredCommand
from cloud.store.database import Database
from cloud.store.location import StoreLocation
from tests.cloud.cloud_frames import NOW_US, frame, record
from tests.cloud.cloud_frames import FakeClock as ServerClock
from tests.conftest import FakeClock
from wire.commands import Command, Replay, decode_order
from wire.messages import Lane, Presence, encode_frame
from wire.readings import CommandOutcome, CommandResult

pytestmark = pytest.mark.timeout(60)  # the first one over PostgreSQL starts its server

Sent = list[tuple[str, Command]]


@pytest.fixture
def database(location: StoreLocation) -> Iterator[Database]:
    opened = Database(location)
    yield opened
    opened.close()


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def commands(database: Database, clock: FakeClock, sent: Sent) -> Commands:
    async def send(gateway: str, command: Command) -> None:
        sent.append((gateway, command))

    return Commands(database, clock, Counters(), send, ["gw-1", "gw-2"])


async def issue(commands: Commands, gateway: str = "gw-1", lifetime_s: float = 600) -> StoredCommand:
    return await commands.issue(gateway, Replay(Lane.BULK), lifetime_s=lifetime_s, issued_by="ops")


async def answer(
    database: Database, command: StoredCommand, result: CommandResult, *, gateway: str = "gw-1", seq: int = 1
) -> None:
    outcome = record(CommandOutcome(bytes.fromhex(command.command_id), result, "so it went", NOW_US))
    batch = frame([outcome], seq, lane=Lane.URGENT, epoch=gateway.encode().ljust(16))
    Appender(database, ServerClock()).append([Incoming(f"vw.1.{gateway}.up.urgent", batch)])
    await boards_consumer(database, Counters(), lambda _session: None).catch_up()


async def test_a_command_is_sent_again_until_its_outcome_is_stored(
    database: Database, commands: Commands, clock: FakeClock, sent: Sent
) -> None:
    issued = await issue(commands)
    for _ in range(5):
        wait_s = await commands.send_due()
        assert 0 <= wait_s <= 60
        clock.advance_s(60)
    assert len(sent) == 5
    assert len({command.command_id for _gateway, command in sent}) == 1
    assert (sent[0][0], decode_order(sent[0][1].order)) == ("gw-1", Replay(Lane.BULK))
    await answer(database, issued, CommandResult.DONE)
    await commands.send_due()
    assert len(sent) == 5
    found = await commands.find("gw-1", issued.command_id)
    assert (found.state, found.detail, found.answered_us) == ("done", "so it went", NOW_US)


async def test_every_command_is_signed_for_its_own_box(database: Database, clock: FakeClock, sent: Sent) -> None:
    async def send(gateway: str, command: Command) -> None:
        sent.append((gateway, command))

    def sign(gateway: str, command: Command) -> Command:
        return msgspec.structs.replace(command, signature=gateway.encode())

    commands = Commands(database, clock, Counters(), send, ["gw-1", "gw-2"], sign)
    for gateway in ("gw-1", "gw-2"):
        await issue(commands, gateway)
    await commands.send_due()
    assert [(gateway, command.signature.decode()) for gateway, command in sent] == [("gw-1", "gw-1"), ("gw-2", "gw-2")]


async def test_a_command_is_not_sent_again_before_its_time(commands: Commands, sent: Sent) -> None:
    await issue(commands)
    await commands.send_due()
    await commands.send_due()
    assert len(sent) == 1


async def test_a_box_that_comes_back_is_sent_its_commands_at_once(
    commands: Commands, clock: FakeClock, sent: Sent
) -> None:
    await issue(commands, "gw-1")
    clock.advance_s(1)
    await issue(commands, "gw-2")
    await commands.send_due()
    commands.heard("vw.1.gw-1.status", encode_frame(Presence(True, "1", 0)))
    commands.heard("vw.1.gw-2.status", encode_frame(Presence(False, "1", 0)))
    commands.heard("vw.1.gw-2.status", b"garbage")
    await commands.send_due()
    assert [gateway for gateway, _command in sent] == ["gw-1", "gw-2", "gw-1"]


async def test_an_expired_command_is_recorded_as_such_and_sent_no_more(
    commands: Commands, clock: FakeClock, sent: Sent
) -> None:
    issued = await issue(commands, lifetime_s=10)
    assert await commands.send_due() <= 10
    clock.advance_s(10)
    await commands.send_due()
    assert len(sent) == 1
    found = await commands.find("gw-1", issued.command_id)
    assert (found.state, found.answered_us) == ("expired", clock.now_us())


async def test_the_box_has_the_last_word_even_after_expiry(
    database: Database, commands: Commands, clock: FakeClock
) -> None:
    issued = await issue(commands, lifetime_s=10)
    clock.advance_s(10)
    await commands.send_due()
    await answer(database, issued, CommandResult.DONE)
    assert (await commands.find("gw-1", issued.command_id)).state == "done"


async def test_the_first_answer_stands(database: Database, commands: Commands) -> None:
    issued = await issue(commands)
    await answer(database, issued, CommandResult.REFUSED)
    await answer(database, issued, CommandResult.DONE, seq=2)
    assert (await commands.find("gw-1", issued.command_id)).state == "refused"


async def test_another_box_cannot_answer(database: Database, commands: Commands) -> None:
    issued = await issue(commands)
    await answer(database, issued, CommandResult.DONE, gateway="gw-2")
    assert (await commands.find("gw-1", issued.command_id)).state == "pending"


async def test_a_restarted_cloud_sends_what_has_no_answer(
    database: Database, commands: Commands, clock: FakeClock
) -> None:
    issued = await issue(commands)
    after: list[str] = []

    async def send(gateway: str, command: Command) -> None:
        after.append(command.command_id.hex())

    await Commands(database, clock, Counters(), send, ["gw-1"]).send_due()
    assert after == [issued.command_id]


async def test_what_is_not_there_and_what_is_too_much_is_said(commands: Commands) -> None:
    with pytest.raises(UnknownGateway):
        await issue(commands, "nobody")
    with pytest.raises(UnknownGateway):
        await commands.newest("nobody", most=1)
    issued = await issue(commands)
    with pytest.raises(UnknownCommand):
        await commands.find("gw-2", issued.command_id)
    for _ in range(MOST_PENDING - 1):
        await issue(commands)
    with pytest.raises(TooManyCommands):
        await issue(commands)
    await issue(commands, "gw-2")

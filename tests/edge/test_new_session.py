"""A box that serves the next patient: one commit ends all of the one before, whenever the power goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import configs
from clinical.alarm_limits import AlarmLimits
from drivers.driver import Driver, DriverOptions, LinkKind, Transfer
from edge.box_session import BoxSession
from edge.commands import Commands
from edge.config import Device, EdgeConfig, MllpOptions
from edge.configuration import ConfigurationFile
from edge.device_session import DeviceSession
from edge.outbox import Outbox
from edge.pipeline import Pipeline
from edge.spool import Chunk, Spool, SpoolConfig
from tests.conftest import START_US, FakeClock
from tests.edge.test_commands import CountingUplinks
from wire.commands import Command, NewSession, encode_order
from wire.configuration import load
from wire.messages import Record, decode_body, decode_record, encode_frame
from wire.readings import (
    Alert,
    AlertPhase,
    Body,
    CommandOutcome,
    CommandResult,
    DeviceEvent,
    EventKind,
    Numeric,
    Origin,
    Quality,
    SessionEvent,
    SessionPhase,
)
from wire.vocabulary import Metric

LIMITS = load(Path(configs.ROOT) / "alarm_limits.toml", AlarmLimits)
DEVICE = Device(
    "m",
    Origin.REAL,
    Driver("test.none", "None", LinkKind.MLLP, lambda _link, _context: None, lambda _packet: (), ()),  # type: ignore[arg-type, return-value]
    MllpOptions("127.0.0.1:1"),
    DriverOptions(),
)


class Box(NamedTuple):
    """The parts of one process of the box."""

    clock: FakeClock
    outbox: Outbox
    session: BoxSession
    device: DeviceSession
    commands: Commands
    uplink: CountingUplinks
    committed: list[Chunk]
    writing: asyncio.Future[None]

    async def say(self, *readings: Any, simulated: bool = False) -> None:
        await self.device._take(Transfer(readings, None, simulated))

    async def renew(self, session_id: str, number: int = 0) -> None:
        order = msgspec.Raw(encode_order(NewSession(session_id)))
        command = Command(bytes([number]) * 16, order, START_US, START_US + 3_600_000_000)
        await self.commands.take(encode_frame(command), self.session, self.uplink)

    def records(self) -> list[tuple[Record, Body]]:
        found = [decode_record(raw) for chunk in self.committed for raw in chunk.records]
        return [(record, decode_body(record.body)) for record in found]

    def told(self) -> list[tuple[str, ...]]:
        """What the URGENT lane got, with its session."""
        found: list[tuple[str, ...]] = []
        for record, body in self.records():
            match body:
                case SessionEvent():
                    assert body.session_id == record.session_id
                    found.append((record.session_id, body.phase.value))
                case Alert():
                    found.append((record.session_id, body.condition, body.phase.value, body.alert_id))
                case CommandOutcome():
                    found.append((record.session_id, body.result.value))
                case _:
                    pass
        return found


@asynccontextmanager
async def box(folder: Path, clock: FakeClock, *, has_clock: bool = False) -> AsyncIterator[Box]:
    path = folder / "edge.toml"
    path.write_text('gateway = "gw-1"\n')
    configuration = ConfigurationFile(path, clock)
    configuration.start()
    spool = Spool(folder / "spool", SpoolConfig(reserve_mib=0))
    await spool.open()
    committed: list[Chunk] = []
    outbox = Outbox(spool, clock, committed.append)
    session = BoxSession(EdgeConfig("gw-1"), spool, outbox, clock)
    pipeline = Pipeline("m", has_clock=has_clock, limits=LIMITS, saved=spool.memo)
    device = DeviceSession(DEVICE, pipeline, outbox, clock, session)
    commands = Commands(spool, outbox, clock, configuration)
    writing = asyncio.ensure_future(outbox.run())
    try:
        await session.open(Origin.REAL)
        yield Box(clock, outbox, session, device, commands, CountingUplinks(spool, clock), committed, writing)
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        await spool.close()


async def alarm(running: Box) -> tuple[str, str]:
    """The first patient's saturation is low and a lead is off; the ids of both alerts."""
    now_us = running.clock.now_us
    await running.say(DeviceEvent(EventKind.LEADS_OFF, now_us(), leads=("V6",)), Numeric(Metric.SPO2, 70, now_us()))
    while len(running.told()) < 3:
        running.clock.advance_s(5)
        await running.say(Numeric(Metric.SPO2, 70, now_us()))
    (_opened, leads, spo2) = running.told()
    assert (leads[1], spo2[1]) == ("leads_off", "spo2_low")
    return leads[3], spo2[3]


async def test_the_next_patient_inherits_nothing_but_what_the_equipment_is(tmp_path: Path, clock: FakeClock) -> None:
    async with box(tmp_path, clock) as running:
        leads, spo2 = await alarm(running)
        first, chunks = running.session.source.session_id, len(running.committed)
        await running.renew(first)
        await running.renew(first)  # sent again
        second = running.session.source.session_id
        assert second != first
        again = running.told()[-1][3]
        assert running.told()[3:] == [
            (first, "leads_off", "cleared", leads),
            (first, "spo2_low", "cleared", spo2),
            (first, "closed"),
            (second, "opened"),
            (second, "done"),
            (second, "leads_off", "raised", again),
        ]
        assert again != leads
        assert len(running.committed) == chunks + 1
        # One low value is no alarm: the limits' time begins anew.
        await running.say(Numeric(Metric.SPO2, 70, clock.now_us()))
        assert len(running.told()) == 9
        assert running.records()[-1][0].session_id == second
        await running.renew(first, 1)
        assert running.told()[-1] == (second, CommandResult.REFUSED.value)
    async with box(tmp_path, clock) as running:
        assert running.session.source.session_id == second
        await running.renew(first)
        await running.say(DeviceEvent(EventKind.LEADS_ON, clock.now_us(), leads=("V6",)))
        assert running.told() == [(second, "leads_off", "cleared", again)]


async def test_a_box_killed_before_the_commit_has_done_nothing_and_does_it_all_when_told_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with box(tmp_path, clock) as running:
        leads, spo2 = await alarm(running)
        first = running.session.source.session_id
        running.writing.cancel()  # the disk takes nothing any more
        await asyncio.wait([running.writing])
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await running.renew(first)
    async with box(tmp_path, clock) as running:
        assert running.session.source.session_id == first
        await running.renew(first)
        told = running.told()
        assert set(told[:2]) == {(first, "leads_off", "cleared", leads), (first, "spo2_low", "cleared", spo2)}
        assert [each[1] for each in told[2:]] == ["closed", "opened", "done", "leads_off"]


async def test_a_cuff_reading_that_a_monitor_repeats_is_no_alarm_of_the_next_patient(
    tmp_path: Path, clock: FakeClock
) -> None:
    cuff = Numeric(Metric.NIBP_SYSTOLIC, 60, clock.now_us(), reported_time="20261125090000")
    async with box(tmp_path, clock) as running:
        await running.say(cuff)
        assert running.told()[-1][1:3] == ("nibp_systolic_low", "raised")
        await running.renew(running.session.source.session_id)
        clock.advance_s(60)
        await running.say(msgspec.structs.replace(cuff, time_us=cuff.time_us + 7))
        assert running.told()[-1][1:] == (CommandResult.DONE.value,)
    async with box(tmp_path, clock) as running:
        await running.say(msgspec.structs.replace(cuff, time_us=cuff.time_us + 9))
        assert running.told() == []
        new = msgspec.structs.replace(cuff, time_us=clock.now_us(), reported_time="20261125091000")
        await running.say(new)
        assert running.told()[-1][1:3] == ("nibp_systolic_low", "raised")


def spo2s(running: Box) -> list[tuple[str, float, Quality]]:
    """Every saturation with its session."""
    found = [(record.session_id, body) for record, body in running.records() if isinstance(body, Numeric)]
    return [(session_id, body.value, body.quality) for session_id, body in found if body.metric is Metric.SPO2]


async def test_what_a_monitor_hands_over_late_is_the_patients_it_was_measured_of(
    tmp_path: Path, clock: FakeClock
) -> None:
    """HL7 monitors send again what was not answered: also after the patient has changed, also after a restart."""
    async with box(tmp_path, clock, has_clock=True) as running:
        await running.say(Numeric(Metric.SPO2, 97, clock.now_us()))
        first = running.session.source.session_id
        clock.advance_s(300)
        await running.renew(first)
        second, ended_us = running.session.source.session_id, clock.now_us()
        clock.advance_s(30)
        late, now = Numeric(Metric.SPO2, 70, ended_us - 1), Numeric(Metric.SPO2, 96, ended_us)
        await running.say(late, now)
        assert spo2s(running) == [(first, 97, Quality.GOOD), (first, 70, Quality.GOOD), (second, 96, Quality.GOOD)]
    async with box(tmp_path, clock, has_clock=True) as running:
        for _ in range(4):  # long enough for an alarm, were it the patient's of now
            clock.advance_s(10)
            await running.say(msgspec.structs.replace(late, time_us=ended_us - 1))
        assert {session_id for session_id, *_ in spo2s(running)} == {first}
        assert running.told() == []


@pytest.mark.parametrize("what", ["set back", "set forward", "long after", "restarted", "restarted in 1970"])
async def test_where_a_clock_may_be_what_is_wrong_nobody_gets_somebody_elses_reading(
    tmp_path: Path, clock: FakeClock, what: str
) -> None:
    async with box(tmp_path, clock, has_clock=True) as running:
        await running.say(Numeric(Metric.SPO2, 97, clock.now_us()))
        await running.renew(running.session.source.session_id)
        second = running.session.source.session_id
        match what:
            case "set back":
                clock.wall_us -= 3_600_000_000
            case "set forward":
                clock.wall_us += 3_600_000_000
            case "long after":
                clock.advance_s(601)
            case _:
                clock.boot = b"reboot12" * 2
                clock.mono_us = 5_000_000
                clock.wall_us = 5_000_000 if "1970" in what else clock.wall_us + 60_000_000
        before = running.session.before
        assert before is None or not before.is_certain
        await running.say(Numeric(Metric.SPO2, 70, clock.now_us() - 7_300_000_000))
        assert {session_id for session_id, value, _ in spo2s(running) if value == 70} == {second}


async def test_of_a_clock_nobody_follows_it_is_doubtful_whose_an_old_reading_is(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with box(tmp_path, clock) as running:
        await running.renew(running.session.source.session_id)
        second = running.session.source.session_id
        await running.say(Numeric(Metric.SPO2, 70, clock.now_us() - 300_000_000))
        assert spo2s(running) == [(second, 70, Quality.QUESTIONABLE)]


async def test_a_device_that_once_was_simulated_marks_the_next_session_too(tmp_path: Path, clock: FakeClock) -> None:
    async with box(tmp_path, clock) as running:
        await running.say(Numeric(Metric.SPO2, 97, clock.now_us()), simulated=True)
        await running.renew(running.session.source.session_id)
        assert running.session.source.origin is Origin.DEMO
        opened = [record for record, body in running.records() if isinstance(body, SessionEvent)]
        assert opened[-1].origin == Origin.DEMO


async def test_a_device_that_waits_for_the_disk_is_not_cut_in_two(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.box_session._TURNS_S", 0.02)
    async with box(tmp_path, clock) as running:
        first = running.session.source.session_id
        async with running.device.turn:
            await running.renew(first)
        assert running.told()[-1] == (first, CommandResult.FAILED.value)
        assert [body.phase for _r, body in running.records() if isinstance(body, SessionEvent)] == [SessionPhase.OPENED]
        await running.renew(first, 1)
        assert running.session.source.session_id != first
        assert AlertPhase.RAISED.value not in str(running.told())

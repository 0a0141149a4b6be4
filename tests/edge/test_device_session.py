import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clinical.alarm_limits import AlarmLimits
from drivers.driver import Driver, DriverContext, DriverOptions, LinkKind, LinkLost, Transfer
from edge import device_session
from edge.box_session import BoxSession
from edge.config import Device, EdgeConfig, MllpOptions
from edge.device_session import DeviceSession
from edge.outbox import Outbox
from edge.pipeline import Pipeline
from edge.spool import Chunk, Spool, SpoolConfig
from tests.conftest import FakeClock
from wire.messages import DecodeError, decode_body, decode_record
from wire.readings import Body, DeviceEvent, EventKind, Numeric, Origin, Reading, SessionEvent
from wire.vocabulary import Metric

LIMITS = AlarmLimits("t", "adult", 10, 5, {})


class Script:
    """A driver that does what it is told, one step an open."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.log: list[str] = []
        self.done = asyncio.Event()

    async def stream(self, _link: object, _context: DriverContext) -> AsyncIterator[Reading | Transfer]:
        step = self.steps.pop(0) if self.steps else None
        if step is None:
            self.done.set()
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Transfer)
        yield step
        self.log.append("acknowledged")
        raise LinkLost("hung up")


def transfer(value: float, clock: FakeClock, *, key: str, simulated: bool = False) -> Transfer:
    return Transfer((Numeric(Metric.HEART_RATE, value, clock.now_us()),), key=key, simulated=simulated)


async def play(
    folder: Path, clock: FakeClock, script: Script, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Chunk], Counter[str]]:
    """Runs a session until the script is over; returns what was committed and what was counted."""

    @asynccontextmanager
    async def open_link(_device: Device, _clock: object) -> AsyncIterator[object]:
        yield object()

    def decode(packet: bytes) -> tuple[Reading, ...]:
        raise DecodeError("nothing to read", packet)

    monkeypatch.setattr(device_session, "open_link", open_link)
    monkeypatch.setattr("wire.backoff.random.uniform", lambda _low, _high: 0.0)
    driver = Driver("test.script", "Script", LinkKind.MLLP, script.stream, decode, (), confirms=True)
    committed: list[Chunk] = []
    spool = Spool(folder, SpoolConfig(reserve_mib=0))
    await spool.open()
    outbox = Outbox(spool, clock, committed.append)
    device = Device("m", origin, driver, MllpOptions("127.0.0.1:1"), DriverOptions())
    pipeline = Pipeline("m", has_clock=False, limits=LIMITS, saved=spool.memo)
    running = [asyncio.ensure_future(outbox.run())]
    box = BoxSession(EdgeConfig("gw-1"), spool, outbox, clock)
    await box.open(origin)
    session = DeviceSession(device, pipeline, outbox, clock, box)
    running.append(asyncio.ensure_future(session.run()))
    await script.done.wait()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await spool.close()
    return committed, session.counts


def records(chunks: list[Chunk]) -> list[tuple[Origin, Body]]:
    found = [decode_record(raw) for chunk in chunks for raw in chunk.records]
    return [(record.origin, decode_body(record.body)) for record in found]


async def test_driver_goes_on_after_a_lost_link_and_a_crash(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(transfer(80, clock, key="1"), LinkLost("gone"), RuntimeError("a bug"), transfer(81, clock, key="2"))
    committed, counts = await play(tmp_path, clock, script, Origin.REAL, monkeypatch)
    values = [body.value for _origin, body in records(committed) if isinstance(body, Numeric)]
    assert values == [80, 81]
    assert counts["driver_failed"] == 1
    assert counts["link_lost"] == 3
    assert script.log == ["acknowledged"] * 2


async def test_a_goodbye_waits_for_its_turn(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the turn, as a hand-over to the next patient does, has what came before it already stored."""
    hang_up = asyncio.Event()

    class Hangs(Script):
        async def stream(self, _link: object, _context: DriverContext) -> AsyncIterator[Reading | Transfer]:
            if self.log:
                self.done.set()
                await asyncio.Event().wait()
            yield transfer(80, clock, key="1")
            self.log.append("acknowledged")
            await hang_up.wait()
            raise LinkLost("hung up")

    script = Hangs()
    seen: list[bool] = []
    sessions: list[DeviceSession] = []

    async def hand_over() -> None:
        while not script.log:
            await asyncio.sleep(0.01)
        async with sessions[0].turn:
            hang_up.set()
            await asyncio.sleep(0.05)
            seen.append(sessions[0].is_connected)

    run = DeviceSession.run

    async def running(session: DeviceSession) -> None:
        sessions.append(session)
        await run(session)

    monkeypatch.setattr(DeviceSession, "run", running)
    _, (committed, _counts) = await asyncio.gather(hand_over(), play(tmp_path, clock, script, Origin.REAL, monkeypatch))
    assert seen == [True]
    told = [body.kind for _origin, body in records(committed) if isinstance(body, DeviceEvent)]
    assert told == [EventKind.CONNECTED, EventKind.DISCONNECTED]


async def test_resent_transfer_is_acknowledged_and_not_stored_again(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(transfer(80, clock, key="1"), transfer(80, clock, key="1"))
    committed, _counts = await play(tmp_path, clock, script, Origin.REAL, monkeypatch)
    assert len([body for _origin, body in records(committed) if isinstance(body, Numeric)]) == 1
    assert script.log == ["acknowledged"] * 2


async def test_simulated_data_never_becomes_real_again(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(
        transfer(80, clock, key="1"), transfer(81, clock, key="2", simulated=True), transfer(82, clock, key="3")
    )
    committed, _counts = await play(tmp_path, clock, script, Origin.REAL, monkeypatch)
    origins = [origin for origin, body in records(committed) if isinstance(body, Numeric)]
    assert origins == [Origin.REAL, Origin.DEMO, Origin.DEMO]
    marks = [origin for origin, body in records(committed) if isinstance(body, SessionEvent)]
    assert marks == [Origin.REAL, Origin.DEMO], "the session itself is marked when it happens"
    # and after a restart nothing in this session is real again
    again, _counts = await play(tmp_path, clock, Script(transfer(83, clock, key="4")), Origin.REAL, monkeypatch)
    assert {origin for origin, _body in records(again)} == {Origin.DEMO}

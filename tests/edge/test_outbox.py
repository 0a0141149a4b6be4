import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.outbox import Outbox, Source
from edge.spool import Chunk, Facts, Memo, Spool, SpoolConfig
from tests.conftest import START_US, FakeClock
from wire.messages import Lane, decode_body, decode_record
from wire.readings import (
    Alert,
    AlertKind,
    AlertPhase,
    Body,
    Numeric,
    Origin,
    Priority,
    WaveformBlock,
)
from wire.vocabulary import Metric

SOURCE = Source("monitor", "s1", Origin.DEMO)
HEART_RATE = Numeric(Metric.HEART_RATE, 80, START_US)
WAVES = WaveformBlock("ecg", b"\x01block")
ALERT = Alert("a1", "spo2_low", AlertKind.PHYSIOLOGICAL, Priority.MEDIUM, AlertPhase.RAISED, START_US, START_US)


@asynccontextmanager
async def running(
    folder: Path, clock: FakeClock, spool: Spool | None = None, unwritten: list[Chunk] | None = None
) -> AsyncIterator[tuple[Outbox, Spool, list[Chunk]]]:
    committed: list[Chunk] = []
    spool = spool or Spool(folder, SpoolConfig(reserve_mib=0))
    await spool.open()
    outbox = Outbox(spool, clock, committed.append, unwritten.append if unwritten is not None else committed.append)
    task = asyncio.ensure_future(outbox.run())
    try:
        yield outbox, spool, committed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await spool.close()


def bodies_in(chunks: Sequence[Chunk]) -> list[tuple[Lane, int, Body]]:
    return [
        (chunk.lane, chunk.first_seq + index, decode_body(decode_record(record).body))
        for chunk in chunks
        for index, record in enumerate(chunk.records)
    ]


async def test_append_resolves_when_every_lane_is_on_disk(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, committed):
        await outbox.append(SOURCE, [HEART_RATE, WAVES, ALERT])
        for lane in Lane:
            database = sqlite3.connect(next((tmp_path / lane.value).glob("*.sqlite")))
            assert database.execute("SELECT sum(count) FROM chunk").fetchone() == (1,)
    assert sorted(bodies_in(committed), key=lambda row: row[0]) == [
        (Lane.BULK, 0, WAVES),
        (Lane.ROUTINE, 0, HEART_RATE),
        (Lane.URGENT, 0, ALERT),
    ]


async def test_sequence_numbers_are_unbroken_under_concurrent_appends(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, committed):
        await asyncio.gather(*(outbox.append(SOURCE, [HEART_RATE] * (index % 3 + 1)) for index in range(40)))
    seqs = [seq for lane, seq, _body in bodies_in(committed) if lane is Lane.ROUTINE]
    assert seqs == list(range(len(seqs)))
    assert len(seqs) == sum(index % 3 + 1 for index in range(40))


async def test_resent_transfer_is_stored_once_even_after_kill_and_restart(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, committed):
        await asyncio.gather(*(outbox.append(SOURCE, [HEART_RATE, WAVES], transfer="msg-1") for _ in range(3)))
        assert len(bodies_in(committed)) == 2
    async with running(tmp_path, clock) as (outbox, _spool, committed):
        await outbox.append(SOURCE, [HEART_RATE, WAVES], transfer="msg-1")
        assert committed == []
        await outbox.append(SOURCE, [HEART_RATE], transfer="msg-2")
        assert len(bodies_in(committed)) == 1


async def test_transfer_half_committed_at_a_kill_is_completed_by_its_resend(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, _committed):
        await outbox.append(SOURCE, [HEART_RATE], transfer="msg-1")  # the BULK half never came
    async with running(tmp_path, clock) as (outbox, _spool, committed):
        await outbox.append(SOURCE, [HEART_RATE, WAVES], transfer="msg-1")
    assert bodies_in(committed) == [(Lane.BULK, 0, WAVES)]


async def test_memo_is_read_back_after_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, _committed):
        await outbox.append(SOURCE, [ALERT], memos=[Memo(Lane.URGENT, "alarm/x", b"raised")])
        with pytest.raises(ValueError, match="alarm/y"):
            await outbox.append(SOURCE, [HEART_RATE], memos=[Memo(Lane.URGENT, "alarm/y", b"")])
    async with running(tmp_path, clock) as (_outbox, spool, _committed):
        assert spool.memo("alarm/x") == b"raised"


async def test_every_process_has_an_epoch_of_its_own(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (first, _spool, _committed):
        pass
    async with running(tmp_path, clock) as (second, _spool, _committed):
        pass
    assert first.epoch != second.epoch


async def test_body_larger_than_a_batch_is_refused_by_name(tmp_path: Path, clock: FakeClock) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, _committed):
        with pytest.raises(ValueError, match="WaveformBlock of"):
            await outbox.append(SOURCE, [WaveformBlock("ecg", b"x" * 300_000)])


async def test_what_gathers_is_cut_so_that_an_alert_never_waits_long_behind_it(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with running(tmp_path, clock) as (outbox, _spool, committed):
        sizes = [5_000] * 20 + [40_000] + [5_000]
        await outbox.append(SOURCE, [WaveformBlock("ecg", b"\x01" * size) for size in sizes])
    assert [len(one.records) for one in committed] == [6, 6, 6, 2, 1, 1]
    assert max(one.size for one in committed if len(one.records) > 1) <= 32 * 1024


class FullDisk(Spool):
    """A spool whose disk is full until told otherwise."""

    is_full = True
    refused = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SpoolConfig(reserve_mib=0))
        self.refused_four = asyncio.Event()

    async def commit(self, chunks: Sequence[Chunk], facts: Facts) -> None:
        if self.is_full:
            self.refused += 1
            if self.refused == 4:
                self.refused_four.set()
            raise sqlite3.OperationalError("database or disk is full")
        await super().commit(chunks, facts)


async def test_full_disk_holds_the_acknowledgement_back_but_not_the_alert(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.outbox._DISK_RETRY_S", 0.01)
    spool = FullDisk(tmp_path)
    sent_from_memory: list[Chunk] = []
    async with running(tmp_path, clock, spool, sent_from_memory) as (outbox, _spool, committed):
        waiting = asyncio.ensure_future(outbox.append(SOURCE, [HEART_RATE, ALERT]))
        await spool.refused_four.wait()
        assert not waiting.done()
        assert outbox.is_disk_failing
        assert committed == []
        assert [body for _lane, _seq, body in bodies_in(sent_from_memory)] == [ALERT]
        spool.is_full = False
        await waiting
        assert not outbox.is_disk_failing
    assert sorted(type(body).__name__ for _lane, _seq, body in bodies_in(committed)) == ["Alert", "Numeric"]

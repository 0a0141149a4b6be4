"""A disk that fills: alerts keep their reserve, and what has to go goes; some on a small disk of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from edge.agent import keep_budgets
from edge.outbox import Outbox
from edge.spool import Chunk, Facts, Spool, SpoolConfig
from edge.spool.room import free_bytes
from tests.conftest import FakeClock
from tests.edge.test_agent import BOX, gaps_in
from tests.edge.test_outbox import ALERT, HEART_RATE, SOURCE, bodies_in, running
from wire.messages import Lane
from wire.readings import Alert, Gap, GapReason, WaveformBlock

MIB = 1024 * 1024
DISK_MIB, RESERVE_MIB = 16, 4
WAVES = WaveformBlock("ecg", os.urandom(30_000))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.outbox._DISK_RETRY_S", 0.01)
    monkeypatch.setattr("edge.agent._NAMING_S", 0.1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "vitalwire-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("only root may mount a small disk of its own")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


def small_spool(folder: Path, read_free: Callable[[Path], int] = free_bytes) -> Spool:
    return Spool(folder / "spool", SpoolConfig(segment_mib=1, reserve_mib=RESERVE_MIB), read_free=read_free)


def fill(folder: Path) -> Path:
    """Others take all that is left."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(folder))
    return filler


async def waves_until_refused(outbox: Outbox) -> asyncio.Task[None]:
    """Appends waveforms until one waits for the disk, and returns it."""
    while True:
        last = asyncio.ensure_future(outbox.append(SOURCE, [WAVES]))
        while not last.done() and not outbox.is_disk_failing:
            await asyncio.sleep(0.001)
        if not last.done():
            return last


async def receipted(spool: Spool, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        assert await spool.receipted(chunk.lane, chunk.epoch, chunk.first_seq, chunk.last_seq)


def lost_seqs(committed: list[Chunk]) -> set[int]:
    """Waveforms that Gaps on the disk name."""
    gaps = [body for _lane, _seq, body in bodies_in(committed) if isinstance(body, Gap)]
    return {seq for gap in gaps if gap.lane == Lane.BULK for seq in range(gap.first_seq, gap.last_seq + 1)}


def is_written(committed: list[Chunk], kind: type[object]) -> bool:
    return any(isinstance(body, kind) for _lane, _seq, body in bodies_in(committed))


class Reading:
    """A free-space reading set by hand."""

    free = 100 * MIB

    def __call__(self, _folder: Path) -> int:
        return self.free


@pytest.fixture
def reading() -> Reading:
    return Reading()


async def test_below_the_reserve_readings_wait_and_alerts_are_written(
    tmp_path: Path, clock: FakeClock, reading: Reading
) -> None:
    unwritten: list[Chunk] = []
    async with running(tmp_path, clock, small_spool(tmp_path, reading), unwritten) as (outbox, _spool, committed):
        reading.free = RESERVE_MIB * MIB
        readings = asyncio.ensure_future(outbox.append(SOURCE, [HEART_RATE, WAVES]))
        await outbox.append(SOURCE, [ALERT])
        while outbox.disk_errors < 4:
            await asyncio.sleep(0.001)
        assert (readings.done(), outbox.is_disk_failing, unwritten) == (False, True, [])
        assert [type(body) for _lane, _seq, body in bodies_in(committed)] == [Alert]
        reading.free += MIB
        await readings
        assert not outbox.is_disk_failing


async def test_receipted_segments_go_although_nothing_can_be_written(disk: Path, clock: FakeClock) -> None:
    unwritten: list[Chunk] = []
    async with running(disk, clock, small_spool(disk), unwritten) as (outbox, spool, committed):
        while sum(one.size for one in committed) < 6 * MIB:
            await outbox.append(SOURCE, [WAVES])
        await receipted(spool, committed)
        fill(disk)
        alert = asyncio.ensure_future(outbox.append(SOURCE, [ALERT]))
        while not unwritten:
            await asyncio.sleep(0.001)
        assert not alert.done()
        await keep_budgets(spool, outbox, clock, BOX)
        await alert
        assert gaps_in(committed) == []
        assert free_bytes(disk) > 4 * MIB


async def test_a_full_disk_gathers_no_files_that_could_not_be_made(disk: Path, clock: FakeClock) -> None:
    async with running(disk, clock, small_spool(disk)) as (outbox, spool, _committed):
        await outbox.append(SOURCE, [WAVES] * 40)  # the next has to roll
        fill(disk)
        before = sorted((disk / "spool" / "bulk").iterdir())
        for _attempt in range(3):
            await spool.doomed(clock.now_us(), may_lose=True)
        assert sorted((disk / "spool" / "bulk").iterdir()) == before


async def test_unreceipted_waveforms_give_way_from_the_reserve_and_are_named(disk: Path, clock: FakeClock) -> None:
    unwritten: list[Chunk] = []
    async with running(disk, clock, small_spool(disk), unwritten) as (outbox, spool, committed):
        refused = await waves_until_refused(outbox)
        assert free_bytes(disk) > (RESERVE_MIB - 2) * MIB
        await outbox.append(SOURCE, [ALERT])
        await keep_budgets(spool, outbox, clock, BOX)
        await refused
        assert unwritten == []
        lost = lost_seqs(committed)
        assert lost == set(range(len(lost))), "the oldest"
        held = (await spool.holdings())[Lane.BULK].pending_records
        written = sum(len(one.records) for one in committed if one.lane is Lane.BULK)
        assert 0 < len(lost) == written - held


async def test_a_disk_that_others_filled_to_the_last_byte_is_left_again(disk: Path, clock: FakeClock) -> None:
    unwritten: list[Chunk] = []
    async with running(disk, clock, small_spool(disk), unwritten) as (outbox, spool, committed):
        refused = await waves_until_refused(outbox)
        fill(disk)
        alert = asyncio.ensure_future(outbox.append(SOURCE, [ALERT]))
        while not unwritten:
            await asyncio.sleep(0.001)
        assert not alert.done()
        await keep_budgets(spool, outbox, clock, BOX)
        await asyncio.gather(alert, refused)
        while not is_written(committed, Gap):
            await asyncio.sleep(0.001)
        assert set(gaps_in(committed)) == {(GapReason.OVERFLOW, Lane.BULK)}


async def test_the_segment_being_written_gives_way_when_readings_wait_for_its_room(
    tmp_path: Path, clock: FakeClock, reading: Reading
) -> None:
    spool = Spool(tmp_path / "spool", SpoolConfig(reserve_mib=RESERVE_MIB), read_free=reading)
    async with running(tmp_path, clock, spool) as (outbox, _spool, committed):
        await outbox.append(SOURCE, [WAVES] * 50)
        reading.free = RESERVE_MIB * MIB + 1000  # nearly short: nobody waits yet
        await keep_budgets(spool, outbox, clock, BOX)
        assert gaps_in(committed) == []
        reading.free = RESERVE_MIB * MIB - 1
        await keep_budgets(spool, outbox, clock, BOX)
        assert lost_seqs(committed) == set(range(50))
        assert (await spool.holdings())[Lane.BULK].pending_records == 0
        reading.free += 2 * MIB
        await outbox.append(SOURCE, [WAVES])


class SlowSpool(Spool):
    """A disk that takes an alert or a Gap only when told to."""

    def __init__(self, folder: Path, read_free: Callable[[Path], int]) -> None:
        super().__init__(folder / "spool", SpoolConfig(reserve_mib=RESERVE_MIB), read_free=read_free)
        self.go = asyncio.Event()

    async def commit(self, chunks: Sequence[Chunk], facts: Facts) -> None:
        if chunks[0].lane is Lane.URGENT:
            await self.go.wait()
        await super().commit(chunks, facts)


async def test_a_slow_disk_loses_nothing_before_the_gap_that_names_it_is_written(
    tmp_path: Path, clock: FakeClock, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.agent._NAMING_S", 0.01)
    spool = SlowSpool(tmp_path, reading)
    async with running(tmp_path, clock, spool) as (outbox, _spool, committed):
        await outbox.append(SOURCE, [WAVES] * 50)
        reading.free = RESERVE_MIB * MIB - 1
        keeping = asyncio.ensure_future(keep_budgets(spool, outbox, clock, BOX))
        done, _ = await asyncio.wait(
            [keeping], timeout=0.2
        )  # twenty times as long as a disk that refuses is waited for
        assert not done
        assert (await spool.holdings())[Lane.BULK].pending_records == 50
        assert gaps_in(committed) == []
        spool.go.set()
        await keeping
        assert lost_seqs(committed) == set(range(50))
        assert len(gaps_in(committed)) == 1
        assert (await spool.holdings())[Lane.BULK].pending_records == 0

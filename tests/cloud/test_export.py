"""What comes out is what went in: the same digital samples and the same gain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.export import adc_gain, export_wfdb
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.reader import StoreReader, UnknownSession
from tests.cloud.cloud_frames import BOOT, NOW_US, FakeClock, frame, record, wave
from wire.clock import ClockAnchor
from wire.messages import Lane
from wire.readings import SampleBlock, SessionEvent, SessionKind, SessionPhase

LEADS = ("I", "II", "V1")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def block(first_index: int, samples: NDArray[np.int32], *, gains: tuple[float, ...] = (2000, 1000, 200)) -> SampleBlock:
    scale = tuple(1 / gain for gain in gains)
    start_us = NOW_US + first_index * 2000
    return SampleBlock("ecg", LEADS, samples, 500.0, scale, (0.0, 0.0, -0.05), first_index, start_us)


async def store(database: Database, *blocks: SampleBlock) -> StoreReader:
    opened = record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, "Ambulance 1"))
    frames = [frame([opened], 1, lane=Lane.URGENT)]
    frames += [frame([wave(0, block=each)], seq, lane=Lane.BULK) for seq, each in enumerate(blocks, 1)]
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.x", one) for one in frames])
    await boards_consumer(database, Counters(), lambda session_id: None).catch_up()
    return StoreReader(database)


def some(seed: int, count: int = 100, high: int = 3000) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-high, high, (count, 3)).astype(np.int32)


async def test_samples_and_gain_come_back_bit_for_bit(database: Database, tmp_path: Path) -> None:
    parts = [some(seed) for seed in range(3)]
    reader = await store(database, *(block(100 * n, part) for n, part in enumerate(parts)))
    (header,) = export_wfdb(reader, "s1", tmp_path / "out")
    back = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    assert np.array_equal(back.d_signal, np.concatenate(parts))
    assert back.adc_gain == [2000, 1000, 200]
    assert back.baseline == [0, 0, 10]
    assert (back.fs, back.fmt, back.sig_name, back.units) == (500, ["16"] * 3, list(LEADS), ["mV"] * 3)
    assert back.base_date.year == 2027
    assert "origin DEMO: not a patient" in back.comments
    assert "session s1" in back.comments


async def test_a_hole_is_filled_with_the_invalid_sample(database: Database, tmp_path: Path) -> None:
    reader = await store(database, block(0, some(1)), block(150, some(2)))
    (header,) = export_wfdb(reader, "s1", tmp_path / "out")
    back = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    assert back.d_signal.shape == (250, 3)
    assert (back.d_signal[100:150] == -32768).all()
    assert np.array_equal(back.d_signal[150:], some(2))
    assert np.isnan(wfdb.rdrecord(str(header.with_suffix(""))).p_signal[120]).all()


async def test_what_was_recorded_without_a_clock_starts_where_it_was_placed(database: Database, tmp_path: Path) -> None:
    waiting = block(0, some(1))._replace(start_us=12_000_000)
    unset, known = ClockAnchor(BOOT, 10_000_000, 11_000_000, 0, False), ClockAnchor(BOOT, 60_000_000, NOW_US, 0, True)
    frames = [frame([wave(0, block=waiting)], 10, lane=Lane.BULK, anchors=(unset, known))]
    reader = await store(database)
    Appender(database, FakeClock()).append([Incoming("vw.1.gw-1.up.bulk", one) for one in frames])
    (header,) = export_wfdb(reader, "s1", tmp_path / "out")
    back = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    assert back.base_date.year == 2027
    assert f"start_us {NOW_US - 49_000_000} (UTC)" in back.comments


async def test_samples_too_large_for_16_bits_take_32(database: Database, tmp_path: Path) -> None:
    large = some(1, high=1 << 30)
    reader = await store(database, block(0, large), block(120, large))
    (header,) = export_wfdb(reader, "s1", tmp_path / "out")
    back = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    assert back.fmt == ["32"] * 3
    assert np.array_equal(back.d_signal[:100], large)
    assert (back.d_signal[100:120] == -(1 << 31)).all()


async def test_a_change_of_scale_begins_a_new_record(database: Database, tmp_path: Path) -> None:
    odd = (1716.0, 1206.0, 983.4375)
    reader = await store(database, block(0, some(1)), block(100, some(2), gains=odd), block(200, some(3), gains=odd))
    first, second = export_wfdb(reader, "s1", tmp_path / "out")
    assert wfdb.rdrecord(str(first.with_suffix("")), physical=False).sig_len == 100
    back = wfdb.rdrecord(str(second.with_suffix("")), physical=False)
    assert back.adc_gain == list(odd)
    assert np.array_equal(back.d_signal, np.concatenate([some(2), some(3)]))


@pytest.mark.parametrize("gain", [2000, 1000, 200, 1716, 1206, 983.4375, 0.1, 7, 3.3, 32767, 1e9, 204.8])
def test_a_gain_survives_its_scale(gain: float) -> None:
    assert adc_gain(1 / gain) == gain


async def test_an_unknown_session_names_those_there_are(database: Database, tmp_path: Path) -> None:
    reader = await store(database)
    with pytest.raises(UnknownSession, match="no session 'nobody'; the newest are: s1"):
        export_wfdb(reader, "nobody", tmp_path)

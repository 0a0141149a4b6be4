import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
import wfdb

from firmware_sim.network.hl7_monitor import Hl7Monitor
from firmware_sim.replay import Recording, ReplayError, canonical_lead, open_recording
from firmware_sim.truth import Truth, TruthWriter
from firmware_sim.waves import MISSING_SAMPLE
from tests.firmware_sim.receiver import SelfMovingClock, groups, leads, receiving

RECORDINGS = Path(os.environ.get("VITALWIRE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def write(folder: Path, counts: np.ndarray, *, rate: float = 333, units: str = "mV", fmt: str = "16") -> Path:
    names = ["i", "AVR", "MLII", "v1"][: counts.shape[1]]
    wfdb.wrsamp(
        "rec",
        fs=rate,
        units=[units] * len(names),
        sig_name=names,
        d_signal=counts.astype(np.int64),
        fmt=[fmt] * len(names),
        adc_gain=[200.0, 1716.0, 1000.0, 3.7][: len(names)],
        baseline=[1024, -6, 0, 2][: len(names)],
        write_dir=str(folder),
    )
    return folder / "rec"


def some_counts(samples: int, signals: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(-2000, 2000, (samples, signals))


async def read_all(recording: Recording, block: int) -> np.ndarray:
    (stream,) = recording.streams
    blocks = []
    while len(piece := await recording.read(stream, block)):
        blocks.append(piece)
    return np.vstack(blocks)


async def test_record_is_sent_once_bit_exact_with_gain_and_baseline_per_lead(tmp_path: Path) -> None:
    counts = some_counts(1201)
    counts[7, 2] = -(2**15)  # invalid in format 16
    recording = open_recording(write(tmp_path, counts))
    (stream,) = recording.streams
    clock = SelfMovingClock()
    async with receiving() as receiver:
        with TruthWriter(tmp_path / "truth") as truth:
            twin = Hl7Monitor(
                vehicle="AMB-01",
                address=("127.0.0.1", receiver.port),
                waves=recording,
                numbers=lambda _time_s: [],
                truth=truth,
                clock=clock,
                sleep=clock.sleep,
            )
            await twin.run(asyncio.Event(), 6)
    counts[7, 2] = MISSING_SAMPLE
    assert stream.leads == ("I", "aVR", "MLII", "V1")
    sent = [leads(message) for message in receiver.messages]
    names = ["MDC_ECG_ELEC_POTL_I", "MDC_ECG_ELEC_POTL_AVR", "MLII", "MDC_ECG_ELEC_POTL_V1"]
    received = np.array([np.concatenate([block[name] for block in sent]) for name in names]).T
    assert (received == counts).all()
    # 333 Hz: 166 and 167 samples take turns, and the rest of the record is a short last block.
    assert [len(block["MLII"]) for block in sent] == [166, 167, 166, 167, 166, 167, 166, 36]
    read = Truth.read(tmp_path / "truth").streams["ecg"]
    assert (read.samples == counts).all()
    assert read.scale == (1 / 200, 1 / 1716, 1 / 1000, 1 / 3.7)
    assert read.offset == (-1024 / 200, 6 / 1716, 0.0, -2 / 3.7)
    rows = groups(receiver.messages[0])["69121"]
    facets = {(row[3].split("^")[0], ".".join(row[4].split(".")[:4])): float(row[5]) for row in rows if row[2] == "NM"}
    assert [facets["67945", f"1.5.1.{k}"] for k in (1, 2, 3, 4)] == list(read.scale)
    assert [facets.get(("VW_SAMPLE_OFFSET", f"1.5.1.{k}"), 0.0) for k in (1, 2, 3, 4)] == list(read.offset)
    assert facets["68320", "1.5.1"] == 333
    assert not any("VW_BAND" in row[3] for row in rows)  # nobody declared the band of a recording


@pytest.mark.parametrize(("fmt", "lowest"), [("16", -32768), ("212", -2048), ("24", -(2**23)), ("32", -(2**31))])
async def test_long_record_read_in_chunks_is_the_whole_record(tmp_path: Path, fmt: str, lowest: int) -> None:
    counts = some_counts(5003, 3)
    counts[::97, 1] = lowest
    recording = open_recording(write(tmp_path, counts, rate=100, fmt=fmt))
    counts[::97, 1] = MISSING_SAMPLE
    assert (await read_all(recording, 50) == counts).all()


def test_microvolts_are_written_in_millivolts(tmp_path: Path) -> None:
    (stream,) = open_recording(write(tmp_path, some_counts(100), units="uV")).streams
    assert stream.scale[:2] == (1 / 200 / 1000, 1 / 1716 / 1000)
    assert stream.offset[0] == -1024 / 200 / 1000


def test_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"nope: no such record, nope\.hea is missing"):
        open_recording(tmp_path / "nope")


def test_missing_signal_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, some_counts(100))
    (tmp_path / "rec.dat").unlink()
    with pytest.raises(ReplayError, match=r"rec: the signal file rec\.dat is missing"):
        open_recording(path)


def test_short_signal_file_says_how_short(tmp_path: Path) -> None:
    path = write(tmp_path, some_counts(100))
    whole = (tmp_path / "rec.dat").read_bytes()
    (tmp_path / "rec.dat").write_bytes(whole[:-9])
    with pytest.raises(ReplayError, match=r"rec\.dat is too short, it holds 98 of 100 samples"):
        open_recording(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("rec 0 360 100\n", "no signals"),
        ("rec 2 360 100\nrec.dat 16 200 16 0 0 0 0 I\n", "cannot be read|announces 2 signals"),
        ("rec 2 360 100\nrec.dat 16x4 200 16 0 0 0 0 I\nrec.dat 16 200 16 0 0 0 0 II\n", "several frequencies"),
        ("rec/2 2 360 200\na 100\nb 100\n", "several segments"),
        ("rec 1 360 100\nrec.dat 99 200 16 0 0 0 0 I\n", "cannot be read|unsupported"),
        ("rec 1 360 100\nrec.dat 16 200/mmHg 16 0 0 0 0 ABP\n", "no signal is in mV, uV or V; it has ABP"),
        ("rec 1 360 0\nrec.dat 16 200 16 0 0 0 0 I\n", "no samples|cannot be read"),
        ("", "cannot be read"),
        ("what is this?\n", "cannot be read"),
    ],
)
def test_broken_header_is_one_sentence_naming_the_record(tmp_path: Path, header: str, said: str) -> None:
    (tmp_path / "rec.hea").write_text(header)
    (tmp_path / "rec.dat").write_bytes(bytes(4000))
    with pytest.raises(ReplayError, match=said) as raised:
        open_recording(tmp_path / "rec")
    assert str(raised.value).startswith(str(tmp_path / "rec"))
    assert "\n" not in str(raised.value)


def test_signals_not_in_volts_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["rec 3 125 100", *(f"rec.dat 16 200/{u} 16 0 0 0 0 {n}" for u, n in (("mV", "II"), ("NU", "PLETH")))]
    (tmp_path / "rec.hea").write_text("\n".join([*lines, "rec.dat 16 200/mV 16 0 0 0 0 II"]) + "\n")
    (tmp_path / "rec.dat").write_bytes(np.arange(300, dtype="<i2").tobytes())
    recording = open_recording(tmp_path / "rec")
    assert recording.streams[0].leads == ("II", "II_2")
    assert (recording.counts(0, 2) == [[0, 2], [3, 5]]).all()
    assert "PLETH [NU]" in caplog.text


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("i", "I"), ("avr", "aVR"), ("AVL", "aVL"), ("v6", "V6"), ("MLII", "MLII"), ("vx", "vx"), (" III ", "III")],
)
def test_lead_names_are_canonical(written: str, canonical: str) -> None:
    assert canonical_lead(written) == canonical


@pytest.mark.parametrize("name", ["mitdb/101", "ludb/1", "ptbxl/00001_hr", "cinc2017/A00002"])
async def test_real_recording_plays_bit_exact(name: str) -> None:
    if not (RECORDINGS / f"{name}.hea").exists():
        pytest.skip(f"no recording {name} in VITALWIRE_DATA ({RECORDINGS})")
    recording = open_recording(RECORDINGS / name)
    length = min(recording.length, 20_000)
    (stream,) = recording.streams
    played = await recording.read(stream, length)
    record = wfdb.rdrecord(str(RECORDINGS / name), sampto=length, physical=False)
    assert (played == record.d_signal).all()
    assert stream.scale == tuple(1 / gain for gain in record.adc_gain)
    physical = played * np.array(stream.scale) + np.array(stream.offset)
    assert np.allclose(physical, record.dac(), rtol=0, atol=1e-9)

from pathlib import Path

import numpy as np

from firmware_sim.truth import Answered, End, EventTruth, NumericTruth, Truth, TruthWriter
from firmware_sim.waves import Stream

STREAM = Stream("ecg", ("I", "II"), 500.0, (0.00244, 1 / 1716), (0.0, -5.12))


def block(first: int, n: int) -> np.ndarray:
    return (np.arange(n * 2, dtype=np.int32) + first).reshape(n, 2)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    with TruthWriter(tmp_path / "truth") as truth:
        truth.write_samples(STREAM, block(0, 3), first_index=900, start_us=1_000_000, message="m1")
        truth.write(NumericTruth("heart_rate", 84.0, "20260101", 5, "m1"))
        truth.write_samples(STREAM, block(6, 2), first_index=903, start_us=1_006_000, message="m2")
        truth.write(EventTruth("leads_off", 7, ("II",)))
        truth.write(Answered("m1"))
        truth.write(End(samples=10, numerics=1, unanswered=1))
    read = Truth.read(tmp_path / "truth")
    ecg = read.streams["ecg"]
    assert (ecg.samples == np.vstack((block(0, 3), block(6, 2)))).all()
    assert (ecg.first_index, ecg.leads, ecg.scale, ecg.offset) == (900, ("I", "II"), STREAM.scale, STREAM.offset)
    assert [(b.first_index, b.n, b.message_id) for b in ecg.blocks] == [(900, 3, "m1"), (903, 2, "m2")]
    assert read.numerics[0].value == 84
    assert read.events[0].leads == ("II",)
    assert read.answered == {"m1"}
    assert read.end is not None
    assert read.end.unanswered == 1


def test_truth_is_readable_while_it_is_written(tmp_path: Path) -> None:
    with TruthWriter(tmp_path) as truth:
        truth.write_samples(STREAM, block(0, 3), first_index=0, start_us=0, message="m1")
        with (tmp_path / "truth.jsonl").open("ab") as half_a_line:
            half_a_line.write(b'{"kind":"answ')
        read = Truth.read(tmp_path)
    assert len(read.streams["ecg"].samples) == 3
    assert read.end is None


def test_twins_of_a_scene_are_read_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with TruthWriter(tmp_path / name) as truth:
            truth.write(Answered(name))
    assert {name: truth.answered for name, truth in Truth.read_scene(tmp_path).items()} == {"a": {"a"}, "b": {"b"}}

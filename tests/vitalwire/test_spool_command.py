"""`vitalwire spool` beside a spool that is in use."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

import pytest

from edge.spool import Chunk, Facts, spool_folder
from edge.spool.cipher import load_cipher
from edge.spool.lane import LaneSpool
from tests.conftest import FakeClock
from vitalwire.__main__ import main
from wire.clock import anchor
from wire.messages import Lane, encode_record
from wire.readings import Numeric, Origin
from wire.vocabulary import Metric

EPOCH = b"e" * 16


def record(clock: FakeClock, value: float) -> bytes:
    numeric = Numeric(Metric.SPO2, value, clock.now_us())
    place = {"boot_id": clock.boot_id(), "mono_us": clock.monotonic_us()}
    return encode_record(numeric, device_id="oximeter", session_id="1" * 16, origin=Origin.TEST, **place)


@pytest.fixture
def box(tmp_path: Path, clock: FakeClock) -> Path:
    """A box's configuration; its spool holds five encrypted records, two of them receipted, and is still open."""
    assert main(["spool", "key", str(tmp_path / "spool.key")]) == 0
    config = tmp_path / "edge.toml"
    config.write_text(
        f'gateway = "box-1"\nstate_dir = "{tmp_path}/state"\n[spool]\nkey_file = "{tmp_path}/spool.key"\n'
    )
    cipher = load_cipher(str(tmp_path / "spool.key"))
    lane = LaneSpool(spool_folder(f"{tmp_path}/state") / "routine", Lane.ROUTINE, segment_bytes=1 << 20, cipher=cipher)
    for first, count in ((0, 2), (2, 3)):
        records = tuple(record(clock, 90 + first + offset) for offset in range(count))
        lane.commit([Chunk(EPOCH, Lane.ROUTINE, first, records, anchor(clock))], Facts())
    lane.receipted(EPOCH, 0, 1)
    lane.flush_receipts()
    return config


def test_show_tells_what_waits_and_which_key_it_needs(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", "show", "-c", str(box)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("routine"))
    assert line.split()[3:5] == ["5", "3"]
    assert len(line.split()[-1]) == 8  # the key's id


def test_verify_reads_everything(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", "verify", "-c", str(box)]) == 0
    assert "5 records can be read, 0 segments cannot" in capsys.readouterr().out


def test_verify_names_what_was_changed(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (segment,) = (box.parent / "state" / "spool" / "routine").glob("*.sqlite")
    with sqlite3.connect(segment) as database:
        database.execute("UPDATE chunk SET records = CAST(substr(records, 1, 30) || zeroblob(9) AS BLOB) WHERE id = 2")
    assert main(["spool", "verify", "-c", str(box)]) == 1
    assert "routine/0000000001.sqlite: chunk 2: not what was written here" in capsys.readouterr().out


@pytest.mark.parametrize(("pending", "values"), [([], [90, 91, 92, 93, 94]), (["--pending"], [92, 93, 94])])
def test_export_writes_records_for_their_owner_alone(box: Path, pending: list[str], values: list[int]) -> None:
    out = box.parent / "out.jsonl"
    assert main(["spool", "export", str(out), "-c", str(box), *pending]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["body"]["value"] for one in records] == values
    assert {one["origin"] for one in records} == {"TEST"}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_nothing_is_overwritten(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = box.parent / "out.jsonl"
    out.write_text("mine")
    assert main(["spool", "export", str(out), "-c", str(box)]) == 2
    assert main(["spool", "key", str(box.parent / "spool.key")]) == 2
    assert out.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


def test_a_missing_key_and_a_missing_spool_are_said(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = box.parent / "spool.key"
    key.write_text("00" * 32)
    assert main(["spool", "verify", "-c", str(box)]) == 2
    assert "is needed to read what is spooled" in capsys.readouterr().err
    box.write_text(f'gateway = "box-1"\nstate_dir = "{box.parent}/none"\n')
    assert main(["spool", "show", "-c", str(box)]) == 2
    assert "no spool in" in capsys.readouterr().err

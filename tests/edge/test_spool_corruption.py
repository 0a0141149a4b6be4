"""Bytes that flip under the spool: what it offers is what was committed, whatever else is set aside by name."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench._flips import flip_bytes
from edge.spool.chunk import Facts
from edge.spool.cipher import Cipher
from edge.spool.lane import LaneSpool
from tests.conftest import FakeClock
from tests.edge.test_spool import CIPHER, chunk, open_lane
from wire.runs import RunSet

EPOCH = b"e" * 16


def filled(folder: Path, clock: FakeClock, cipher: Cipher) -> LaneSpool:
    """A lane with several closed segments, none receipted."""
    spool = open_lane(folder, cipher=cipher)
    for seq in range(24):
        spool.commit([chunk(EPOCH, seq, 1, clock, size=9_000)], Facts((("memo", b"value"),), (bytes([seq]) * 16,)))
    return spool


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("is_encrypted", [False, True])
def test_flipped_bytes_of_a_closed_segment_are_never_offered(is_encrypted: bool, is_open: bool, tmp_path: Path) -> None:
    for seed in range(6):
        flip_and_drain(tmp_path / str(seed), random.Random(seed), CIPHER if is_encrypted else Cipher(), is_open)


def flip_and_drain(folder: Path, chance: random.Random, cipher: Cipher, is_open: bool) -> None:
    """Everything offered is what was committed, and what is not offered was set aside."""
    clock = FakeClock()
    spool = filled(folder, clock, cipher)
    closed = sorted(folder.glob("*.sqlite"))[:-1]
    if not is_open:
        spool.close()
    flip_bytes(chance.choice(closed), chance)
    if not is_open:
        spool = open_lane(folder, cipher=cipher)
    busy: dict[bytes, RunSet] = {}
    offered: set[int] = set()
    while chunks := spool.backlog(busy, 20_000):
        for one in chunks:
            assert one == chunk(EPOCH, one.first_seq, 1, clock, size=9_000)
            busy.setdefault(one.epoch, RunSet()).add(one.first_seq, one.last_seq)
            offered.add(one.first_seq)
    assert offered == set(range(24)) or spool.corrupt
    for budget_bytes in (1 << 30, 1):
        segments = spool.doomed(budget_bytes=budget_bytes, keep_after_us=clock.now_us() + 1, give_up_before_us=0)
        assert all(lost.epoch == EPOCH for segment in segments for lost in segment.lost_runs())
        spool.unlink(segments)
    spool.flush_receipts()
    spool.commit([chunk(EPOCH, 24, 1, clock)], Facts())
    spool.close()


def test_segment_of_the_release_before_is_read_without_digests(tmp_path: Path) -> None:
    clock = FakeClock()
    spool = filled(tmp_path, clock, Cipher())
    spool.close()
    for path in tmp_path.glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE chunk DROP COLUMN digest")
            database.execute("PRAGMA user_version = 1")
    again = open_lane(tmp_path, cipher=Cipher())
    again.commit([chunk(EPOCH, 24, 1, clock)], Facts())
    assert again.pending_records() == 25
    assert [one.first_seq for one in again.backlog({}, 1 << 20)] == list(range(25))

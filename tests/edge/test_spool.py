import sqlite3
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.spool.chunk import Chunk, Facts
from edge.spool.cipher import Cipher
from edge.spool.lane import LaneSpool
from tests.conftest import START_US, FakeClock
from wire.clock import MICROSECONDS, anchor
from wire.messages import Lane
from wire.runs import RunSet

SEGMENT_BYTES = 64 * 1024
HOUR_US = 3600 * MICROSECONDS


def chunk(epoch: bytes, first_seq: int, count: int, clock: FakeClock, size: int = 10) -> Chunk:
    # A record is any MessagePack value: here a byte string that names itself.
    records = tuple(
        b"\xc6" + size.to_bytes(4, "big") + bytes([seq % 251]) * size for seq in range(first_seq, first_seq + count)
    )
    return Chunk(epoch, Lane.BULK, first_seq, records, anchor(clock))


CIPHER = Cipher((b"k" * 32,))


def open_lane(folder: Path, lane: Lane = Lane.BULK, cipher: Cipher = CIPHER) -> LaneSpool:
    return LaneSpool(folder, lane, segment_bytes=SEGMENT_BYTES, cipher=cipher)


def doomed(
    spool: LaneSpool, budget_bytes: int = 1 << 40, keep_after_us: int = 0, give_up_before_us: int = 0
) -> list[tuple[int, int]]:
    segments = spool.doomed(budget_bytes=budget_bytes, keep_after_us=keep_after_us, give_up_before_us=give_up_before_us)
    lost = [(run.first_seq, run.last_seq) for segment in segments for run in segment.lost_runs()]
    spool.unlink(segments)
    return lost


class SpoolMachine(RuleBasedStateMachine):
    """A lane of the spool against a plain set, through restarts."""

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.spool = open_lane(self.folder)
        self.epoch = 0
        self.next_seq = 0
        self.pending: set[tuple[bytes, int]] = set()
        self.committed_us: dict[tuple[bytes, int], int] = {}
        self.memos: dict[str, bytes] = {}

    def epoch_bytes(self) -> bytes:
        return bytes([self.epoch]) * 16

    @rule(count=st.integers(1, 5), size=st.sampled_from([1, 3000, 9000]), memo=st.sampled_from(["", "alarm", "offset"]))
    def commit(self, count: int, size: int, memo: str) -> None:
        self.clock.advance_s(1)
        made = chunk(self.epoch_bytes(), self.next_seq, count, self.clock, size)
        value = str(self.next_seq).encode()
        self.spool.commit([made], Facts(((memo, value),) if memo else (), (value.rjust(16, b"-"),)))
        for seq in range(self.next_seq, self.next_seq + count):
            self.pending.add((self.epoch_bytes(), seq))
            self.committed_us[self.epoch_bytes(), seq] = self.clock.monotonic_us()
        self.next_seq += count
        if memo:
            self.memos[memo] = value

    @rule(first=st.integers(0, 40), length=st.integers(0, 8))
    def receipt(self, first: int, length: int) -> None:
        ours = self.spool.receipted(self.epoch_bytes(), first, first + length)
        assert ours == (first < self.next_seq)
        self.pending -= {(self.epoch_bytes(), seq) for seq in range(first, first + length + 1)}

    @precondition(lambda self: self.epoch < 5)
    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = open_lane(self.folder)
        self.epoch += 1
        self.next_seq = 0

    @rule()
    def drop_what_is_settled(self) -> None:
        assert doomed(self.spool, keep_after_us=START_US + HOUR_US) == []

    @invariant()
    def backlog_offers_exactly_what_is_pending(self) -> None:
        assert self.spool.pending_records() == len(self.pending)
        offered: set[tuple[bytes, int]] = set()
        busy: dict[bytes, RunSet] = {}
        while chunks := self.spool.backlog(busy, 20_000):
            assert sum(one.size for one in chunks) <= 20_000 or len(chunks) == 1
            for one in chunks:
                assert one.epoch == chunks[0].epoch
                busy.setdefault(one.epoch, RunSet()).add(one.first_seq, one.last_seq)
                offered |= {(one.epoch, seq) for seq in range(one.first_seq, one.last_seq + 1)}
        assert self.pending <= offered
        assert self.spool.memos == self.memos

    @invariant()
    def oldest_is_the_first_commit_that_waits(self) -> None:
        oldest = self.spool.oldest()
        expected = min((self.committed_us[one] for one in self.pending), default=None)
        assert (oldest and oldest.mono_us) == expected

    @rule()
    def offer_again_to_another_store(self) -> None:
        self.spool.flush_receipts()
        self.spool.reoffer()
        self.pending = {
            (epoch, seq)
            for segment in self.spool._segments
            for epoch, runs in segment.pending.items()
            for first, last in runs
            for seq in range(first, last + 1)
        }

    def teardown(self) -> None:
        import shutil

        self.spool.close()
        shutil.rmtree(self.folder)


SpoolMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestSpoolMachine = pytest.mark.timeout(60)(SpoolMachine.TestCase)


def test_commit_is_on_disk_when_another_process_looks(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    spool.commit([chunk(b"e" * 16, 0, 3, clock)], Facts())
    other = sqlite3.connect(next(tmp_path.glob("*.sqlite")))
    assert other.execute("SELECT first_seq, count FROM chunk").fetchall() == [(0, 3)]
    assert spool._segments[-1]._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_chunks_of_one_commit_come_together_or_not_at_all(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path, cipher=Cipher())
    bad = Facts(memos=(("name", None),))  # type: ignore[arg-type]  # NOT NULL fails after the chunks are written
    with pytest.raises(sqlite3.IntegrityError):
        spool.commit([chunk(b"e" * 16, 0, 3, clock), chunk(b"e" * 16, 3, 3, clock)], bad)
    assert spool.pending_records() == 0
    spool.close()
    assert open_lane(tmp_path).pending_records() == 0


def test_memos_and_transfers_survive_rolling_and_unlinking(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    spool.commit([chunk(b"e" * 16, 0, 1, clock)], Facts((("alarm", b"on"),), (b"k" * 16,)))
    for seq in range(1, 12):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    spool.receipted(b"e" * 16, 0, 100)
    clock.advance_s(7200)
    doomed(spool, keep_after_us=clock.now_us())
    assert len(list(tmp_path.glob("*.sqlite"))) == 1
    spool.close()
    again = open_lane(tmp_path)
    assert again.memos == {"alarm": b"on"}
    assert again.knows_transfer(b"k" * 16)


def test_over_budget_receipted_segments_go_before_unreceipted_ones(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    for seq in range(20):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    last_of_second = max(last for _first, last in spool._segments[1].pending[b"e" * 16])
    spool.receipted(b"e" * 16, len(spool._segments[0].pending[b"e" * 16].missing(0, 0)), last_of_second)
    before = spool.bytes()
    lost = doomed(spool, budget_bytes=before - 1)
    assert lost == [] or lost[0][0] == 0
    spool.receipted(b"e" * 16, 0, 2)
    lost = doomed(spool, budget_bytes=1)
    assert lost, "unreceipted segments go when nothing else is left, and are named"


def test_urgent_is_never_given_up(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path, Lane.URGENT)
    for seq in range(20):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    assert doomed(spool, budget_bytes=1, give_up_before_us=clock.now_us() + HOUR_US) == []
    assert spool.pending_records() == 20


def test_corrupt_segment_is_set_aside_and_the_rest_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    for seq in range(8):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    held = spool.pending_records()
    spool.close()
    broken = sorted(tmp_path.glob("*.sqlite"))[0]
    broken.write_bytes(b"\xff" * 4096 + broken.read_bytes()[4096:])
    again = open_lane(tmp_path)
    assert [path.name for path in again.corrupt] == [broken.with_suffix(".quarantined").name]
    assert 0 < again.pending_records() < held
    again.commit([chunk(b"f" * 16, 0, 1, clock)], Facts())


def test_broken_payload_is_set_aside_when_it_is_read(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    for seq in range(8):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    newest = spool._segments[-1]
    newest._db.execute("UPDATE chunk SET records = x'c1'")
    offered = [one.first_seq for one in spool.backlog({}, 1 << 30)]
    assert offered == list(range(len(offered)))
    assert 0 < len(offered) < 8
    assert spool.corrupt == [newest.path.with_suffix(".quarantined")]
    spool.commit([chunk(b"f" * 16, 0, 1, clock)], Facts())
    assert spool.pending_records() == len(offered) + 1


def test_a_segment_set_aside_while_its_gap_was_written_stays_aside(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    for seq in range(8):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    going = spool.doomed(budget_bytes=0, keep_after_us=0, give_up_before_us=0)
    going[0]._db.execute("UPDATE chunk SET records = x'c1'")
    spool.backlog({}, 1 << 30)
    spool.unlink(going)
    assert [path.exists() for path in spool.corrupt] == [True]
    assert len(list(tmp_path.glob("*.sqlite"))) == 1


def test_what_loses_nothing_is_told_apart(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    for seq in range(12):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    spool.receipted(b"e" * 16, 0, 4)
    harmless = spool.doomed(budget_bytes=0, keep_after_us=0, give_up_before_us=0, may_lose=False)
    assert harmless
    assert [segment.lost_runs() for segment in harmless] == [[]] * len(harmless)
    assert len(spool.doomed(budget_bytes=0, keep_after_us=0, give_up_before_us=0)) > len(harmless)


def test_nothing_is_written_to_a_sealed_segment_after_the_newest_was_set_aside(
    tmp_path: Path, clock: FakeClock
) -> None:
    spool = open_lane(tmp_path)
    for seq in range(5):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    spool.close()
    newest = sorted(tmp_path.glob("*.sqlite"))[-1]
    newest.write_bytes(b"\xff" * 4096)
    again = open_lane(tmp_path)
    again.commit([chunk(b"f" * 16, 0, 3, clock)], Facts())
    pending = again.pending_records()
    again.close()
    assert open_lane(tmp_path).pending_records() == pending


def test_box_that_booted_in_1970_does_not_age_its_backlog_out(tmp_path: Path, clock: FakeClock) -> None:
    clock.wall_us = 60_000_000
    spool = open_lane(tmp_path)
    for seq in range(8):
        spool.commit([chunk(b"e" * 16, seq, 1, clock, size=20_000)], Facts())
    assert doomed(spool, keep_after_us=START_US, give_up_before_us=START_US) == []


def test_another_store_is_offered_everything_still_held(tmp_path: Path, clock: FakeClock) -> None:
    spool = open_lane(tmp_path)
    spool.commit([chunk(b"e" * 16, 0, 5, clock)], Facts())
    spool.receipted(b"e" * 16, 0, 4)
    assert spool.backlog({}, 10_000) == []
    spool.flush_receipts()
    spool.reoffer()
    assert [one.first_seq for one in spool.backlog({}, 10_000)] == [0]
    spool.close()
    assert open_lane(tmp_path).pending_records() == 5

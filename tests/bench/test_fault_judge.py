"""The laboratory's oracles notice what they are there for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bench._fault_judge import is_drained, named_losses, verdict
from bench._fault_kinds import KINDS, claims, schedule
from bench._fault_parts import POISONS, BentClock, Poison, new_poison
from bench._fault_stage import FaultStage
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from edge.outbox import Source
from edge.spool.chunk import Chunk, Facts
from edge.spool.cipher import Cipher
from edge.spool.lane import LaneSpool
from tests.cloud.cloud_frames import FakeClock, frame, heart_rate, record
from tests.conftest import FakeClock as BoxClock
from vitalwire.judge import RunKey
from wire.clock import SystemClock, anchor
from wire.messages import Lane
from wire.readings import Gap, GapReason, Origin
from wire.runs import RunSet

BOXES = ["amb-07", "home-01"]
EPOCH = b"e" * 16
LOST: dict[RunKey, RunSet] = {(EPOCH, "bulk"): RunSet()}
LOST[EPOCH, "bulk"].add(0, 4)
LOST[EPOCH, "bulk"].add(7, 11)


class Scene:
    """A stage after its run, with one box, and a store to put things into."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "store.sqlite")
        self.spool = folder / "amb-07" / "spool" / "bulk"
        self.spool.mkdir(parents=True)
        names: dict[str, object] = {"boxes": ["amb-07"], "monitors": {}, "corrupted": [], "poisons": []}
        self.stage = cast(
            FaultStage, SimpleNamespace(folder=folder, store_file=folder / "store.sqlite", truth=folder, **names)
        )

    def store(self, *records: bytes, lane: Lane = Lane.URGENT) -> None:
        """As if amb-07 had sent them."""
        body = frame(records, 0, lane=lane, epoch=b"other" + bytes(11))
        Appender(self.database, FakeClock()).append([Incoming(f"vw.1.amb-07.up.{lane.value}", body)])

    def store_gap(self, lane: Lane) -> None:
        self.store(record(Gap(GapReason.DISK, 0, 1, lane=lane.value)))

    def corrupt(self, folder: Path) -> None:
        """A segment with two runs of five records that wait for their receipt was copied and set aside."""
        lane = LaneSpool(folder, Lane.BULK, segment_bytes=1 << 20, cipher=Cipher())
        for first_seq, count in ((0, 5), (5, 2), (7, 5)):
            chunk = Chunk(EPOCH, Lane.BULK, first_seq, (heart_rate(1),) * count, anchor(BoxClock()))
            lane.commit([chunk], Facts())
        lane.receipted(EPOCH, 5, 6)
        lane.flush_receipts()
        lane.close()
        self.stage.corrupted.append(folder)
        (self.spool / "0000000001.quarantined").touch()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_corrupted_segment_is_excused_by_its_gap_alone(scene: Scene, tmp_path: Path) -> None:
    scene.corrupt(tmp_path / "0.amb-07.bulk")
    found = verdict(scene.stage, LOST)
    assert (found.lost, found.findings) == (
        11,
        ["accepted records not stored: 10", "corrupted segments set aside without a Gap: 1"],
    )
    assert not is_drained(scene.stage, LOST, scene.database)
    scene.store_gap(Lane.ROUTINE)  # another lane's says nothing
    assert verdict(scene.stage, LOST).lost == 11


def test_a_gap_excuses_what_lay_in_the_segment_and_nothing_more(scene: Scene, tmp_path: Path) -> None:
    scene.corrupt(tmp_path / "0.amb-07.bulk")
    scene.store_gap(Lane.BULK)
    (loss,) = named_losses(scene.stage, scene.database)
    assert (loss.runs, len(loss.bodies)) == (LOST, 10)
    assert is_drained(scene.stage, LOST, scene.database)
    assert verdict(scene.stage, LOST).lost == 0
    more = {(EPOCH, "bulk"): RunSet()}
    more[EPOCH, "bulk"].add(0, 13)
    assert verdict(scene.stage, more).lost == 4


@pytest.mark.parametrize("kind", POISONS)
def test_poison_is_kept_by_the_cloud_and_its_loss_is_noticed(scene: Scene, kind: str) -> None:
    kept, dropped = new_poison(kind), Poison(kind, "never sent")
    scene.stage.poisons.extend([kept, dropped])
    source = Source("poison", "poison", Origin.TEST)
    scene.store(heart_rate(80), kept.encoded(source, SystemClock()), lane=Lane.ROUTINE)
    assert verdict(scene.stage, {}).findings == ["poison records not kept: 1"]


def test_the_same_seed_plays_the_same_faults_and_every_kind() -> None:
    first, again, other = (schedule(seed, 580, 75, BOXES) for seed in (7, 7, 8))
    assert first == again != other
    assert {fault.kind for fault in first} == set(KINDS)
    assert all(0 <= fault.at_s <= 580 - fault.given.for_s for fault in first)


def test_faults_claim_in_one_order_what_they_need() -> None:
    for fault in schedule(1, 580, 75, BOXES):
        found = claims(fault, BOXES)
        assert found == sorted(found)
        assert found
    slow = next(fault for fault in schedule(1, 580, 75, BOXES) if fault.kind == "slow_ingest")
    assert len(claims(slow, BOXES)) == 5


def test_a_bent_clock_jumps_and_drifts() -> None:
    assert BentClock().bend(1_000) == 1_000
    assert BentClock(offset_us=-500).bend(1_000) == 500
    assert BentClock(drift_ppm=200.0, since_us=0).bend(1_000_000) == 1_000_200

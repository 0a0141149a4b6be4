"""What the fault laboratory believes instead of counters: ledgers and truth against the store, copies of what was
corrupted against the gaps, marks of poison against what the cloud kept aside, measurements against alarms.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bench._fault_alarms import Span, Step, judge_alarms
from bench._fault_parts import Poison
from bench._fault_stage import FaultStage
from clinical.alarm_limits import AlarmLimits
from cloud.store import account
from cloud.store.database import Database
from cloud.store.reader import entries_after
from edge.spool.cipher import Cipher
from edge.spool.lane import LaneSpool
from firmware_sim.truth import Truth
from vitalwire.judge import RunKey, Verdict, judge, missing_records
from vitalwire.stage import MONITOR_ID
from wire.clock import SystemClock
from wire.configuration import load
from wire.messages import DecodeError, Lane, decode_body, decode_record
from wire.readings import Alert, AlertKind, Body, GapReason
from wire.runs import RunSet

_POLL_S = 0.5
# The backlog of a copied segment in one piece.
_ANY_BYTES = 1 << 40
_ALL_ENTRIES = 1 << 40


@dataclass
class FaultVerdict(Verdict):
    """`alarms_missing` count as lost as well, `alarms_doubled` as duplicates; `due`: raises and clears looked for."""

    alarms_due: int = 0
    alarms_missing: int = 0
    alarms_doubled: int = 0


class _Given(NamedTuple):
    """What lay in one corrupted segment."""

    box: str
    lane: str
    runs: dict[RunKey, RunSet]
    bodies: list[Body]


@cache
def _read(copy: Path) -> _Given:
    """What waited for its receipt in the copy of a segment; the folder is named after its box and lane."""
    _number, box, name = copy.name.split(".")
    lane = LaneSpool(copy, Lane(name), segment_bytes=_ANY_BYTES, cipher=Cipher())
    found: dict[bytes, RunSet] = {}
    bodies: list[Body] = []
    # One run at a time: a restart or a receipt in between ends a run.
    while chunks := lane.backlog(found, _ANY_BYTES):
        for chunk in chunks:
            found.setdefault(chunk.epoch, RunSet()).add(chunk.first_seq, chunk.last_seq)
            bodies += _bodies(chunk.records)
    lane.close()
    return _Given(box, name, {(epoch, name): runs for epoch, runs in found.items()}, bodies)


def _bodies(records: Iterable[bytes]) -> Iterator[Body]:
    """What the monitor said in them."""
    for raw in records:
        with suppress(DecodeError):  # poison
            record = decode_record(raw)
            if record.device_id == MONITOR_ID:
                yield decode_body(record.body)


def named_losses(stage: FaultStage, database: Database) -> list[_Given]:
    """Corrupted segments for which a Gap of the same box and lane is stored: as many as there are such gaps."""
    named = _named(database)
    found = []
    for given in map(_read, stage.corrupted):
        if named[given.box, given.lane] > 0:
            named[given.box, given.lane] -= 1
            found.append(given)
    return found


def _named(database: Database) -> Counter[tuple[str, str]]:
    """How often a gap says of a box's lane that its disk lost something."""
    gaps = account.gateway_gaps(database)
    return Counter((gateway, gap.lane) for gateway, gap in gaps if gap.reason is GapReason.DISK)


def without(accepted: Mapping[RunKey, RunSet], losses: Iterable[_Given]) -> dict[RunKey, RunSet]:
    """What has to be stored once the losses are named."""
    left = {key: runs.copy() for key, runs in accepted.items()}
    for loss in losses:
        for key, runs in loss.runs.items():
            for first, last in runs:
                if key in left:
                    left[key].remove(first, last)
    return left


def is_drained(stage: FaultStage, accepted: Mapping[RunKey, RunSet], database: Database) -> bool:
    """Whether all that was accepted is stored or named by a Gap."""
    return not missing_records(without(accepted, named_losses(stage, database)), database)


async def wait_until_drained(stage: FaultStage, accepted: Mapping[RunKey, RunSet], limit_s: float) -> bool:
    """Until what was accepted is stored or named; False when the time for it is over."""
    database = await asyncio.to_thread(Database, stage.store_file)
    try:
        async with asyncio.timeout(limit_s):
            # Another process fills the database: there is no event to wait for.
            while not await asyncio.to_thread(is_drained, stage, accepted, database):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return False
    finally:
        database.close()
    return True


def verdict(stage: FaultStage, accepted: Mapping[RunKey, RunSet]) -> FaultVerdict:
    """The judgement over everything accepted and sent, poison and alarms included."""
    database = Database(stage.store_file)
    try:
        losses = named_losses(stage, database)
        given_up: dict[str, list[Body]] = {}
        for loss in losses:
            given_up.setdefault(loss.box, []).extend(loss.bodies)
        truths = {gateway: Truth.read(stage.truth / twin) for twin, gateway in stage.monitors.items()}
        found = FaultVerdict(**vars(judge(database, without(accepted, losses), truths, MONITOR_ID, given_up)))
        found.lost += found.blame("poison records not kept", _not_kept(database, stage.poisons))
        found.lost += found.blame("corrupted segments set aside without a Gap", _unnamed(stage, database))
        for gateway, truth in truths.items():
            _judge_alarms(found, stage, database, gateway, truth)
        return found
    finally:
        database.close()


def _judge_alarms(found: FaultVerdict, stage: FaultStage, database: Database, gateway: str, truth: Truth) -> None:
    """A box whose URGENT segment was corrupted is not judged: its alarms' memory may have lain there."""
    if any(copy.name.endswith(f".{gateway}.{Lane.URGENT.value}") for copy in stage.corrupted):
        return
    disturbed = [Span(from_us, to_us) for box, from_us, to_us in stage.disturbed if box == gateway]
    limits = load(stage.alarm_limits, AlarmLimits)
    alarms = judge_alarms(limits, truth, _limit_steps(database, gateway), disturbed)
    found.alarms_due += alarms.due
    for what in alarms.missing:
        found.alarms_missing += found.blame(f"{gateway}: alarm {what}", 1)
    for what in alarms.doubled:
        found.alarms_doubled += found.blame(f"{gateway}: alarm {what}", 1)
    found.lost += len(alarms.missing)
    found.duplicates += len(alarms.doubled)


def _limit_steps(database: Database, gateway: str) -> list[Step]:
    """Of the box's monitor, at true times: every box runs on this machine's monotonic clock."""
    clock = SystemClock()
    ahead_us = clock.now_us() - clock.monotonic_us()
    steps = []
    for entry in database.read_now(lambda connection: entries_after(connection, 0, _ALL_ENTRIES)):
        if entry.kind == "alert" and (entry.gateway, entry.device_id) == (gateway, MONITOR_ID):
            alert = decode_body(entry.body)
            assert isinstance(alert, Alert)
            if alert.kind is AlertKind.PHYSIOLOGICAL:
                steps.append(Step(alert.alert_id, alert.condition, alert.phase, entry.mono_us + ahead_us))
    return steps


def _not_kept(database: Database, poisons: list[Poison]) -> int:
    """Poison records that the cloud neither kept as unread nor as dead letters."""
    kept = account.kept_aside(database)
    return sum(not any(poison.mark.encode() in raw for raw in kept) for poison in poisons)


def _unnamed(stage: FaultStage, database: Database) -> int:
    """Segments lying aside on the boxes' disks beyond those that gaps name."""
    aside = Counter(
        (box, path.parent.name)
        for box in stage.boxes
        for path in (stage.folder / box / "spool").glob("*/*.quarantined")
    )
    named = _named(database)
    return (aside - named).total()

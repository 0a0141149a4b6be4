"""The faults the laboratory knows: what each does to the stage, with which parameters, and what it needs for itself."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from bench._bad_net import FAIR, Weather
from bench._fault_judge import wait_until_drained
from bench._fault_parts import POISONS, BentClock, new_poison
from bench._fault_stage import FaultStage
from bench._flips import flip_bytes
from cloud.store.backup import BackupRefused, back_up, restore
from vitalwire.judge import accepted_runs
from wire.clock import MICROSECONDS

_log = logging.getLogger(__name__)

# Long enough for a box to have several batches accepted by a broker that nobody reads from.
_INGEST_STOPPED_S = 2.0
_CLOSED_SEGMENT_S = 90.0
_POISON_S = 30.0
_DRAINED_S = 30.0
_RESTORE_S = 60.0
_LOOK_S = 0.25


class NotInjected(Exception):
    """The stage gave no occasion for this fault: it does not count."""


class Parameters(NamedTuple):
    """What one fault of a schedule was drawn with; `amount` and `other` are 0 … 1, each kind scales its own."""

    box: str
    for_s: float
    amount: float
    other: float

    def between(self, least: float, most: float) -> float:
        """`amount` on a scale."""
        return least + self.amount * (most - least)

    def chance(self) -> random.Random:
        """For what needs more than two numbers."""
        return random.Random(f"{self.amount}/{self.other}")


Act = Callable[[FaultStage, Parameters], Awaitable[None]]


class Kind(NamedTuple):
    """One kind of fault: how long it lasts, and what no other fault may touch meanwhile."""

    act: Act
    for_s: tuple[float, float] = (0.0, 0.0)
    needs: tuple[str, ...] = ()


async def _kill_edge(stage: FaultStage, given: Parameters) -> None:
    stage.parts[given.box].kill()


async def _kill_cloud(stage: FaultStage, _given: Parameters) -> None:
    stage.parts["cloud"].kill()


async def _kill_broker(stage: FaultStage, _given: Parameters) -> None:
    os.kill(await stage.running_broker_pid(), signal.SIGKILL)


async def _wipe_broker(stage: FaultStage, _given: Parameters) -> None:
    """The broker acknowledges what nobody has stored yet, then it, its disk and the cloud's memory are gone."""
    async with _ingest_stopped(stage):
        await asyncio.sleep(_INGEST_STOPPED_S)
        os.kill(await stage.running_broker_pid(), signal.SIGKILL)
        shutil.rmtree(stage.cloud_state / "broker")
        stage.parts["cloud"].kill()


@asynccontextmanager
async def _ingest_stopped(stage: FaultStage) -> AsyncIterator[None]:
    cloud = await stage.running_cloud()
    cloud.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if cloud.returncode is None:
            cloud.send_signal(signal.SIGCONT)


def _weather(make: Callable[[Parameters], Weather]) -> Act:
    async def act(stage: FaultStage, given: Parameters) -> None:
        net = stage.nets[given.box]
        net.weather = make(given)
        try:
            await asyncio.sleep(given.for_s)
        finally:
            net.weather = FAIR

    return act


async def _flap(stage: FaultStage, given: Parameters) -> None:
    net, chance = stage.nets[given.box], given.chance()
    until_s = time.monotonic() + given.for_s
    while time.monotonic() < until_s:
        net.reset()
        await asyncio.sleep(chance.uniform(0.3, 2.0))


async def _reset(stage: FaultStage, given: Parameters) -> None:
    stage.nets[given.box].reset()


def _clock(bent: Callable[[Parameters], BentClock], *, boots: bool = False) -> Act:
    async def act(stage: FaultStage, given: Parameters) -> None:
        stage.bend_clock(given.box, bent(given))
        if boots:
            stage.parts[given.box].kill()
        try:
            await asyncio.sleep(given.for_s)
        finally:
            stage.bend_clock(given.box, BentClock())

    return act


def _now_us() -> int:
    return time.time_ns() // 1000


def _jump(sign: int) -> Callable[[Parameters], BentClock]:
    # A second to a day, as likely small as large.
    return lambda given: BentClock(offset_us=sign * round(86400**given.amount * MICROSECONDS))


def _drift(given: Parameters) -> BentClock:
    return BentClock(drift_ppm=200.0 if given.amount < 0.5 else -200.0, since_us=_now_us())


def _year_1970(given: Parameters) -> BentClock:
    offset_us = -_now_us() + round(given.between(0, 100) * MICROSECONDS)
    return BentClock(offset_us, boot_id=given.chance().randbytes(16), is_synchronised=False)


async def _fill_disk(stage: FaultStage, given: Parameters) -> None:
    if not stage.has_disks:
        raise NotInjected("no disk of its own: needs root")
    stage.fill_disk(given.box)
    try:
        await asyncio.sleep(given.for_s)
    finally:
        stage.free_disk(given.box)


async def _corrupt_segment(stage: FaultStage, given: Parameters) -> None:
    """The link is silent until the box has closed a segment; bytes of it flip while the box is down."""
    net, chance = stage.nets[given.box], given.chance()
    before = set(stage.closed_segments(given.box))
    net.weather = Weather(is_up_dead=True, is_down_dead=True)
    try:
        try:
            async with asyncio.timeout(_CLOSED_SEGMENT_S):
                while not (closed := [one for one in stage.closed_segments(given.box) if one not in before]):
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise NotInjected("the box closed no segment in time") from None
        await asyncio.sleep(1.0)  # it is summed up right after the next one is opened
        stage.signal_box(given.box, signal.SIGSTOP)  # from here on it neither writes nor reads: as good as down
        chosen = chance.choice(closed)
        stage.keep_copy(chosen)
        flip_bytes(chosen, chance)
        stage.signal_box(given.box, signal.SIGKILL)
    finally:
        net.weather = FAIR
        stage.signal_box(given.box, signal.SIGCONT)


async def _poison(stage: FaultStage, given: Parameters) -> None:
    kind = POISONS[int(given.amount * len(POISONS))]
    if not await stage.poison(given.box, new_poison(kind), _POISON_S):
        raise NotInjected("the box took no record in time")


async def _clone(stage: FaultStage, given: Parameters) -> None:
    part = await stage.clone(given.box)
    try:
        await asyncio.sleep(given.for_s)
    finally:
        part.kill()


async def _slow_ingest(stage: FaultStage, given: Parameters) -> None:
    """Ten times as slow, from a quiet moment on; what boxes publish meanwhile is measured."""
    await wait_until_drained(stage, accepted_runs(stage.ledgers()), _DRAINED_S)
    before = {box: (net.traffic.published, net.traffic.fresh) for box, net in stage.nets.items()}
    stage.slow_ingest(10.0, given.between(0.3, 1.5))
    try:
        await asyncio.sleep(given.for_s)
    finally:
        stage.hurry_ingest()
    for box, net in stage.nets.items():
        published, fresh = before[box]
        stage.slow_traffic.published += net.traffic.published - published
        stage.slow_traffic.fresh += net.traffic.fresh - fresh


async def _restore_cloud(stage: FaultStage, given: Parameters) -> None:
    """The cloud's disk is lost and a backup of some seconds ago restored: boxes have seen receipts for what is gone.

    Nothing else happens until they have filled the hole: a box's disk that fails as well would be one loss too many.
    """
    backup = stage.folder / f"backup-{_now_us()}.sqlite"
    await asyncio.to_thread(back_up, stage.store_file, backup)
    await asyncio.sleep(given.for_s)
    async with asyncio.timeout(_RESTORE_S):
        while True:
            stage.parts["cloud"].kill()
            try:
                await asyncio.to_thread(restore, backup, stage.store_file, now_us=_now_us())
                break
            except BackupRefused:  # started again already, and has its store open
                await asyncio.sleep(0.1)
    await wait_until_drained(stage, accepted_runs(stage.ledgers()), _DRAINED_S)


_LINK, _BOX, _CLOUD = ("link",), ("box",), ("cloud",)
KINDS: Mapping[str, Kind] = {
    "kill_edge": Kind(_kill_edge, needs=_BOX),
    "kill_cloud": Kind(_kill_cloud, needs=_CLOUD),
    "kill_broker": Kind(_kill_broker, needs=_CLOUD),
    "broker_disk_wiped": Kind(_wipe_broker, needs=_CLOUD),
    "link_delay": Kind(_weather(lambda given: Weather(delay_s=given.between(0.1, 2.0))), (5, 15), _LINK),
    "link_loss": Kind(_weather(lambda given: Weather(loss=given.between(0.02, 0.2))), (5, 15), _LINK),
    "link_bandwidth": Kind(_weather(lambda given: Weather(bytes_per_s=given.between(2e3, 50e3))), (5, 15), _LINK),
    "link_half_open": Kind(_weather(lambda _given: Weather(is_up_dead=True, is_down_dead=True)), (5, 15), _LINK),
    "link_up_dead": Kind(_weather(lambda _given: Weather(is_up_dead=True)), (5, 15), _LINK),
    "link_down_dead": Kind(_weather(lambda _given: Weather(is_down_dead=True)), (5, 15), _LINK),
    "link_flapping": Kind(_flap, (5, 15), _LINK),
    "link_reset": Kind(_reset, needs=_LINK),
    "puback_and_drop": Kind(_weather(lambda _given: Weather(answers_batches=True)), (5, 15), _LINK),
    "clock_forward": Kind(_clock(_jump(1)), (3, 12), _BOX),
    "clock_back": Kind(_clock(_jump(-1)), (3, 12), _BOX),
    "clock_drift": Kind(_clock(_drift), (10, 30), _BOX),
    "boot_in_1970": Kind(_clock(_year_1970, boots=True), (8, 15), _BOX),
    "disk_full": Kind(_fill_disk, (4, 12), _BOX),
    "corrupted_segment": Kind(_corrupt_segment, needs=(*_LINK, *_BOX)),
    "poison_record": Kind(_poison, needs=_BOX),
    "cloned_box": Kind(_clone, (8, 15), (*_LINK, *_BOX)),
    "slow_ingest": Kind(_slow_ingest, (15, 20), (*_LINK, *_BOX, *_CLOUD)),
    "cloud_restored": Kind(_restore_cloud, (3, 10), (*_LINK, *_BOX, *_CLOUD)),
}
# Kinds that stand for everybody, so that no other fault may be under way anywhere.
EXCLUSIVE = frozenset({"slow_ingest", "cloud_restored"})


def disturbs(kind: str) -> bool:
    """Whether the fault is the box's own, so that it may have to watch its patient anew."""
    return "box" in KINDS[kind].needs and kind not in EXCLUSIVE


class Fault(NamedTuple):
    """One entry of a schedule."""

    at_s: float
    kind: str
    given: Parameters

    def __str__(self) -> str:
        given = self.given
        return (
            f"{self.at_s:6.1f} s  {self.kind:18} {given.box:8} for {given.for_s:4.1f} s "
            f"({given.amount:.3f}, {given.other:.3f})"
        )


def schedule(seed: int, within_s: float, count: int, boxes: list[str]) -> list[Fault]:
    """`count` faults at random instants, every kind as often as any other; the same seed, the same schedule."""
    chance = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(sorted(KINDS), len(KINDS))
    faults = []
    for kind in kinds[:count]:
        for_s = chance.uniform(*KINDS[kind].for_s)
        given = Parameters(chance.choice(boxes), for_s, chance.random(), chance.random())
        # Only a box with a monitor writes enough to close a segment.
        if kind == "corrupted_segment":
            given = given._replace(box=boxes[0])
        faults.append(Fault(chance.uniform(0, max(0.0, within_s - for_s)), kind, given))
    return sorted(faults)


def claims(fault: Fault, boxes: list[str]) -> list[str]:
    """What the fault needs for itself, in the one order in which everybody claims."""
    concerned = boxes if fault.kind in EXCLUSIVE else [fault.given.box]
    needs = KINDS[fault.kind].needs
    found = {f"{need} {box}" for need in needs if need != "cloud" for box in concerned}
    return sorted(found | {need for need in needs if need == "cloud"})

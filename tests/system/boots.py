"""Plays a scene in which two boxes boot in 1970, and learn the time one way or the other.

One box is deaf until then: what it sends is stored, and no receipt comes back. The other one's link takes its batches
and throws them away.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench._bad_net import FAIR, Weather
from bench._fault_judge import wait_until_drained
from bench._fault_parts import BentClock
from bench._fault_stage import FaultStage
from tests.system.row_versions import RowKey, row_versions
from vitalwire.judge import RunKey, accepted_runs
from vitalwire.stage import on_stage
from wire.clock import MICROSECONDS
from wire.runs import RunSet

AMBULANCE, HOME = "amb-07", "home-01"
FOR_S = 6.0
_PATIENCE_S = 60.0  # for a machine that has better things to do

_SCENE = f"""
title = "Two boxes that boot in 1970"

[[monitor]]
name = "monitor"
vehicle = "AMB-07"
scenario = "SCENARIO"
utc_offset_minutes = 480

[[strap]]
name = "SIM HRM"
address = "F0:00:00:00:19:70"
home = "{HOME}"
"""
# The first cuff pressure rings at once; a lead that falls off later rings when the clock is set.
_SCENARIO = """
title = "A low pressure in 1970"

[baseline]
systolic_mmhg = 60
diastolic_mmhg = 40

[nibp]
first_s = 1

[[lead_off]]
from_s = 2.5
to_s = 3
leads = ["V6"]
"""


class BootStage(FaultStage):
    """Two boxes whose machines have just booted, with clocks that were never set and kernels that know it."""

    def __init__(self, folder: Path) -> None:
        (folder / "scenario.toml").write_text(_SCENARIO)
        (folder / "scene.toml").write_text(_SCENE.replace("SCENARIO", str(folder / "scenario.toml")))
        super().__init__(folder / "stage", str(folder / "scene.toml"), seed=1)
        self.offset_us = 100 * MICROSECONDS - time.time_ns() // 1000

    def box_settings(self, gateway: str) -> Mapping[str, Mapping[str, object]]:
        settings = super().box_settings(gateway)
        # A box that has nothing else to say tells its new time with the next heartbeat.
        return {**settings, "": {**settings[""], "heartbeat_s": 1.0}}

    def boot(self, box: str) -> None:
        """How the box's next start finds its clock and its link."""
        self.bend_clock(box, BentClock(self.offset_us, boot_id=boot_id(box), is_synchronised=False))
        self.nets[box].weather = Weather(answers_batches=True)

    def set_clock(self, box: str) -> None:
        """As a network time server would."""
        self.bend_clock(box, BentClock(boot_id=boot_id(box), is_synchronised=True))

    def mend_link(self, box: str) -> None:
        """From now on receipts come."""
        self.nets[box].weather = FAIR
        self.nets[box].reset()

    def count(self, rows: str, *values: object) -> int:
        """How many rows the store has of some kind, in SQL."""
        with closing(sqlite3.connect(self.store_file)) as connection:
            (number,) = connection.execute(f"SELECT count(*) FROM {rows}", values).fetchone()
        return int(number)

    def is_placed(self, box: str) -> bool:
        """Whether the store knows when the box's boot was."""
        return self.count("placement WHERE boot_id = ?", boot_id(box)) == 1

    def has_stored_without_a_clock(self, box: str) -> bool:
        """Whether every kind of row of this box lies in the store."""
        unplaced = ["numeric WHERE placed = 0", "entry WHERE placed = 0 AND kind = 'session'"]
        if box == AMBULANCE:
            unplaced += ["waveform WHERE placed = 0", "entry WHERE placed = 0 AND kind = 'alert'"]
        return all(map(self.count, unplaced))


def boot_id(box: str) -> bytes:
    """Every box is a machine of its own."""
    return box.encode().ljust(16)


class Played(NamedTuple):
    """What is known of a scene after its end."""

    stage: BootStage
    before: dict[RowKey, bytes]  # the versions of all rows while the deaf box had no clock
    accepted: dict[RunKey, RunSet]
    simulator_exit: int


Learn = Callable[[BootStage, str], Awaitable[None]]


def play(folder: Path, deaf: str, learn: Learn) -> Played:
    """The scene from both boots until all is stored and placed; `learn` is how they get the time, and mends links."""
    stage = BootStage(folder)

    async def run() -> Played:
        async with stage.set():
            for box in (AMBULANCE, HOME):
                stage.boot(box)
            return await on_stage(stage, lambda: _act(stage, deaf, learn))

    return asyncio.run(run())


async def _act(stage: BootStage, deaf: str, learn: Learn) -> Played:
    simulator = await stage.start_simulator(record=None, for_s=FOR_S)
    await until(lambda: stage.nets[deaf].dropped_batches > 0)  # it is connected
    stage.nets[deaf].weather = Weather(is_down_dead=True)
    await until(lambda: stage.has_stored_without_a_clock(deaf))
    before = row_versions(stage.store_file)
    assert not stage.is_placed(deaf)
    await learn(stage, deaf)
    assert simulator.process is not None
    async with asyncio.timeout(_PATIENCE_S):
        code = await simulator.process.wait()
    # The account closes here: what boxes accept from now on (heartbeats) is not waited for.
    accepted = accepted_runs(stage.ledgers())
    assert await wait_until_drained(stage, accepted, _PATIENCE_S)
    await until(lambda: all(map(stage.is_placed, (AMBULANCE, HOME))))
    return Played(stage, before, accepted, code)


async def until(is_so: Callable[[], bool]) -> None:
    """Looks until it is so: other processes have no event to wait for."""
    async with asyncio.timeout(_PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.05)

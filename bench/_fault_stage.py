"""The stage of the fault laboratory: every box behind a bad network, on a small disk of its own, with a clock that can
be bent, and room for copies of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

import configs
from bench._bad_net import FAIR, BadNet, Traffic, listening
from bench._fault_alarms import RECOVERY_US
from bench._fault_parts import SLOW_INGEST, BentClock, Poison, clock_file, poison_file
from vitalwire.stage import DEMO_MARK, Part, Stage, free_port, write_toml
from wire.clock import SystemClock

_log = logging.getLogger(__name__)

_DISK_MIB = 256
_MOUNT_S = 10.0
_COPIES = "copies"


class FaultStage(Stage):
    """As the demo's, with what faults need at hand. `mutant` as there; parts not in it get a hand inside."""

    def __init__(
        self,
        folder: Path,
        scene: str,
        *,
        seed: int,
        mutant: Mapping[str, Sequence[str]] = MappingProxyType({}),
        alarm_limits: Path = configs.ROOT / "alarm_limits.toml",
    ) -> None:
        from firmware_sim.scene import load_scene

        described = load_scene(scene)
        boxes = [twin.vehicle.lower() for twin in described.monitor] + [twin.home.lower() for twin in described.strap]
        self.control = folder / "control"
        hand = ("-m", "bench._fault_parts", str(self.control))
        super().__init__(folder, scene, port=free_port(), mutant={**dict.fromkeys(["cloud", *boxes], hand), **mutant})
        self.boxes = boxes
        self.nets: dict[str, BadNet] = {}
        self.has_disks = False  # a disk of its own for every box
        self.poisons: list[Poison] = []
        self.corrupted: list[Path] = []  # folders with copies of spool segments as they were before
        self.clones: list[str] = []
        self.slow_traffic = Traffic()  # while ingest was slow
        self.disturbed: list[tuple[str, int, int]] = []  # a box, and from when to when it may have been blind, true µs
        self.alarm_limits = alarm_limits
        self._seed = seed
        self._clock = SystemClock()

    def box_settings(self, gateway: str) -> Mapping[str, Mapping[str, object]]:
        """Segments small enough to be closed in a short run; the judge's ledger not on the disk that is filled."""
        return {
            "": {"ledger_file": str(self.ledger(gateway)), "alarm_limits_file": str(self.alarm_limits)},
            "uplink": {"endpoints": [f"mqtt://127.0.0.1:{self.nets[gateway].port}"]},
            "spool": {"segment_mib": 1, "reserve_mib": 0},
        }

    def ledger(self, box: str) -> Path:
        """The independent account of what a box, or a copy of one, accepted."""
        return self.folder / "ledgers" / f"{box}.jsonl"

    def ledgers(self) -> list[Path]:
        """Of every box, not of copies."""
        return [self.ledger(box) for box in self.boxes]

    @asynccontextmanager
    async def set(self) -> AsyncIterator[None]:
        """Links and disks, before anything starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / DEMO_MARK).touch()
        for name in ("control", "ledgers", _COPIES):
            (self.folder / name).mkdir()
        async with AsyncExitStack() as held:
            for number, box in enumerate(self.boxes):
                net = listening(self.mqtt_port, seed=self._seed * 1000 + number)
                self.nets[box] = await held.enter_async_context(net)
            self.has_disks = os.geteuid() == 0 and all(self._mount(box, held) for box in self.boxes)
            yield

    def _mount(self, box: str, held: AsyncExitStack) -> bool:
        folder = self.folder / box
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m,mode=700", "vitalwire-faults", str(folder)]
        if subprocess.run(mount, stderr=subprocess.DEVNULL, timeout=_MOUNT_S, check=False).returncode:
            return False
        held.callback(subprocess.run, ["umount", "--lazy", str(folder)], timeout=_MOUNT_S, check=False)
        return True

    @contextmanager
    def disturbing(self, box: str) -> Iterator[None]:
        """While something happens to the box itself, and until it has recovered."""
        from_us = self._clock.now_us()
        try:
            yield
        finally:
            self.disturbed.append((box, from_us, self._clock.now_us() + RECOVERY_US))

    def signal_box(self, box: str, number: signal.Signals) -> None:
        """Sends a signal to a box; one that is just down gets none."""
        process = self.parts[box].process
        if process is not None and process.returncode is None:
            process.send_signal(number)

    def bend_clock(self, box: str, clock: BentClock) -> None:
        """From now on the box's wall clock does this."""
        _replace(clock_file(self.control, box), msgspec.json.encode(clock))

    async def poison(self, box: str, poison: Poison, within_s: float) -> bool:
        """Has the box accept a record that no cloud can read; False when it did not take it in time."""
        file = poison_file(self.control, box)
        _replace(file, msgspec.json.encode(poison))
        try:
            async with asyncio.timeout(within_s):
                while file.exists():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            file.unlink(missing_ok=True)
            return False
        self.poisons.append(poison)
        return True

    def slow_ingest(self, factor: float, least_s: float) -> None:
        """Every commit of the cloud takes so many times as long, and at least so much longer."""
        _replace(self.control / SLOW_INGEST, f"{factor} {least_s}".encode())

    def hurry_ingest(self) -> None:
        """The cloud stores as fast as it can."""
        (self.control / SLOW_INGEST).unlink(missing_ok=True)

    def fill_disk(self, box: str) -> None:
        """Nothing more fits on the box's disk."""
        filler = self._filler(box)
        stat = os.statvfs(filler.parent)
        with filler.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize)
            except OSError as error:  # the box took the last page meanwhile: what is left is next to nothing
                _log.debug("filling: %s", error)
                file.write(bytes(4096))

    def free_disk(self, box: str) -> None:
        """There is room again."""
        self._filler(box).unlink(missing_ok=True)

    def _filler(self, box: str) -> Path:
        return self.folder / box / "filler"

    def closed_segments(self, box: str) -> list[Path]:
        """Segments of a box's spool that it will only read from now on."""
        spool = self.folder / box / "spool"
        return [path for lane in sorted(spool.glob("*")) for path in sorted(lane.glob("*.sqlite"))[:-1]]

    def keep_copy(self, segment: Path) -> Path:
        """A segment as it is, for the judge."""
        box, lane = segment.parents[2].name, segment.parent.name
        copy = self.folder / _COPIES / f"{len(self.corrupted)}.{box}.{lane}"
        copy.mkdir()
        for suffix in ("", "-wal"):
            if (part := segment.with_name(segment.name + suffix)).exists():
                shutil.copy(part, copy)
        self.corrupted.append(copy)
        return copy

    async def clone(self, box: str) -> Part:
        """Starts a second box from a copy of the first one's disk, as an image put on another machine would."""
        name = f"{box}-copy-{len(self.clones) + 1}"
        self.signal_box(box, signal.SIGSTOP)  # an image of one moment
        try:
            shutil.copytree(self.folder / box / "spool", self.folder / name / "spool")
        finally:
            self.signal_box(box, signal.SIGCONT)
        config = tomllib.loads((self.folder / f"{box}.toml").read_text())
        config |= {"state_dir": str(self.folder / name), "ledger_file": str(self.ledger(name))}
        for device in config["device"]:
            if "listen" in device["link"]:
                device["link"]["listen"] = f"127.0.0.1:{free_port()}"
        path = write_toml(self.folder / f"{name}.toml", _tables(config))
        self.clones.append(name)
        hand = ["-m", "bench._fault_parts", str(self.control)]
        return await self.start_part(name, [sys.executable, *hand, "edge", "-c", str(path)])

    def heal(self) -> None:
        """Everything is well from now on."""
        for box in self.boxes:
            self.nets[box].weather = FAIR
            self.bend_clock(box, BentClock())
            self.free_disk(box)
            self.signal_box(box, signal.SIGCONT)
        self.hurry_ingest()


def _tables(config: dict[str, Any]) -> list[tuple[str, Mapping[str, object]]]:  # Any: whatever TOML holds
    """A configuration read from TOML, for writing."""
    plain = {key: value for key, value in config.items() if not isinstance(value, dict) and key != "device"}
    named = [(key, value) for key, value in config.items() if isinstance(value, dict)]
    return [("", plain), *named, *(("[device]", device) for device in config["device"])]


def _replace(path: Path, content: bytes) -> None:
    """Writes a file that another process watches, never half written."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)

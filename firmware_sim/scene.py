"""A scene: which twins run, with which scenario, connecting where. Entry of `vitalwire sim SCENE`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from firmware_sim.faults import NO_FAULTS, BadLink, Faults, Sleep
from firmware_sim.network.hl7_monitor import Hl7Monitor
from firmware_sim.physiology.patient import Measured, Patient
from firmware_sim.replay import ReplayError, open_recording
from firmware_sim.scenario import LeadOff, Scenario, curve, load_scenario, packaged
from firmware_sim.truth import End, TruthWriter
from firmware_sim.waves import SyntheticWaves, WaveSource
from wire.clock import MICROSECONDS, Clock, SystemClock
from wire.configuration import ConfigError, load
from wire.vocabulary import Metric

_log = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 5.0

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class MonitorTwin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One patient monitor; `connect` is host:port and defaults to where the command says."""

    name: Name
    vehicle: Name
    scenario: str = "first_light"
    connect: str = ""
    utc_offset_minutes: Annotated[int, Meta(ge=-720, le=840)] = 0
    faults: Faults = NO_FAULTS


class StrapTwin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One chest strap on the virtual radio, worn in a home."""

    name: Annotated[str, Meta(min_length=1, max_length=26)]
    address: Annotated[str, Meta(pattern=r"^[0-9A-F]{2}(:[0-9A-F]{2}){5}$")]
    home: Name
    scenario: str = "calm"
    faults: Faults = NO_FAULTS


class Scene(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs together. A new kind of twin is a new table here and a line in `_twins`."""

    title: str
    monitor: tuple[MonitorTwin, ...] = ()
    strap: tuple[StrapTwin, ...] = ()


class Twin(Protocol):
    """A running simulated device."""

    async def run(self, stop: asyncio.Event, for_s: float | None = None) -> End:
        """Until `stop`, or `for_s` seconds from its first reading and then until everything is answered."""
        ...

    def progress(self) -> str:
        """How it stands, for one line of a log."""
        ...


class Surroundings(NamedTuple):
    """What the command gives to every twin of a scene."""

    record: Path | None
    truth: Path | None
    monitor_address: str
    radio_address: str
    clock: Clock
    sleep: Sleep = asyncio.sleep


def load_scene(name_or_path: str) -> Scene:
    """A shipped scene by name, or any file by path (it ends in .toml). Raises ConfigError."""
    path = packaged("scenes", name_or_path)
    scene = load(path, Scene)
    names = [*(twin.name for twin in scene.monitor), *(twin.home for twin in scene.strap)]
    if len(set(names)) != len(names):
        raise ConfigError(f"{path}: monitor.name and strap.home must differ; got {', '.join(names)}")
    return scene


async def run(
    name_or_path: str,
    *,
    record: Path | None = None,
    truth: Path | None = None,
    monitor_address: str,
    radio_address: str = "",
    stop: asyncio.Event,
    for_s: float | None = None,
) -> dict[str, End]:
    """Runs a scene to its end: `stop`, or `for_s` seconds from the first sample and the drain after it.

    With `record` the first monitor plays this WFDB record once. With `truth` each twin writes what it sent to
    `truth/<name of the monitor, or home of the strap>/`. Returns how each twin ended. Raises ConfigError before
    anything starts, ReplayError.
    """
    scene = load_scene(name_or_path)
    return await run_scene(
        scene, Surroundings(record, truth, monitor_address, radio_address, SystemClock()), stop, for_s
    )


async def run_scene(
    scene: Scene, surroundings: Surroundings, stop: asyncio.Event, for_s: float | None
) -> dict[str, End]:
    """Composes the twins and waits for them."""
    with contextlib.ExitStack() as held:
        twins = dict(_twins(scene, surroundings, held))
        straps = [(strap, _writer(strap.home, surroundings, held)) for strap in scene.strap]
        _log.info("scene %r: %s", scene.title, ", ".join(twins))
        try:
            async with asyncio.TaskGroup() as tasks:
                reporter = tasks.create_task(_report(twins), name="progress of the scene")
                radio = tasks.create_task(_radio(straps, surroundings), name="virtual radio")
                running = {name: tasks.create_task(twin.run(stop, for_s), name=name) for name, twin in twins.items()}
                await asyncio.wait(running.values())
                reporter.cancel()
                radio.cancel()
        except* ReplayError as failures:
            broken = failures
        else:
            return {name: task.result() for name, task in running.items()}
    raise _first(broken)


def _twins(scene: Scene, surroundings: Surroundings, held: contextlib.ExitStack) -> Iterator[tuple[str, Twin]]:
    """Builds every twin; what they hold open is closed with `held`."""
    for number, description in enumerate(scene.monitor):
        writer = _writer(description.name, surroundings, held)
        record = surroundings.record if number == 0 else None
        yield description.name, _monitor(description, record, writer, surroundings)


def _writer(name: str, surroundings: Surroundings, held: contextlib.ExitStack) -> TruthWriter | None:
    if surroundings.truth is None:
        return None
    return held.enter_context(TruthWriter(surroundings.truth / name))


def _monitor(
    description: MonitorTwin, record: Path | None, writer: TruthWriter | None, surroundings: Surroundings
) -> Hl7Monitor:
    scenario = load_scenario(description.scenario)
    patient = Patient(scenario)
    waves: WaveSource
    numbers: Callable[[float], list[Measured]]
    lead_off: tuple[LeadOff, ...]
    if record is None:
        waves, numbers, lead_off = SyntheticWaves(patient, scenario.lead_off), patient.numbers, scenario.lead_off
    else:
        waves, numbers, lead_off = open_recording(record), _without_heart_rate(patient), ()
    return Hl7Monitor(
        vehicle=description.vehicle,
        address=_address(description.connect or surroundings.monitor_address),
        waves=waves,
        numbers=numbers,
        truth=writer,
        clock=surroundings.clock,
        sleep=surroundings.sleep,
        lead_off=lead_off,
        utc_offset_minutes=description.utc_offset_minutes,
        bad_link=BadLink(description.faults, surroundings.sleep),
    )


def _without_heart_rate(patient: Patient) -> Callable[[float], list[Measured]]:
    """A scripted heart rate would contradict the recording that is played."""
    return lambda time_s: [number for number in patient.numbers(time_s) if number.metric is not Metric.HEART_RATE]


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"monitor address {text!r}: host:port expected, such as 127.0.0.1:2575")
    return host.strip("[]"), int(port)


async def _radio(straps: Sequence[tuple[StrapTwin, TruthWriter | None]], surroundings: Surroundings) -> None:
    """The straps on the air until cancelled; they notify whoever listens and wait for nobody."""
    if not straps:
        return
    from firmware_sim.ble.heart_rate import HeartRateSensor, Notified  # a scene without a radio loads no stack
    from firmware_sim.radio import run as run_radio

    started_us = surroundings.clock.monotonic_us()

    def beats(scenario: Scenario) -> Callable[[], float]:
        rate = curve(scenario, "heart_rate")
        return lambda: rate.at((surroundings.clock.monotonic_us() - started_us) / MICROSECONDS)

    def telling(writer: TruthWriter) -> Callable[[Notified], None]:
        def tell(notified: Notified) -> None:
            for line in notified.truth():
                writer.write(line)

        return tell

    sensors = [
        HeartRateSensor(
            surroundings.clock,
            beats(load_scenario(strap.scenario)),
            name=strap.name,
            address=strap.address,
            bad_link=BadLink(strap.faults),
            truth=None if writer is None else telling(writer),
        )
        for strap, writer in straps
    ]
    await run_radio(surroundings.radio_address, sensors)


async def _report(twins: dict[str, Twin]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_EVERY_S)
        for name, twin in twins.items():
            _log.info("%s: %s", name, twin.progress())


def _first(group: BaseExceptionGroup[ReplayError]) -> ReplayError:
    """The first error inside, however deep."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first

"""What happens to the simulated patient over time: one TOML file, one frozen struct, smooth curves out of it.

A stretch names only what changes at `from_s`; everything else holds. Changed values are reached after `over_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from wire.configuration import ConfigError, load
from wire.vocabulary import TWELVE_LEADS


class Rhythm(StrEnum):
    """What sets the beat."""

    SINUS = "sinus"
    ATRIAL_FIBRILLATION = "atrial_fibrillation"
    VENTRICULAR_TACHYCARDIA = "ventricular_tachycardia"


Seconds = Annotated[float, Meta(ge=0)]
# Wide enough for any patient, narrow enough that a slip of the keyboard (8.4, 840) is an error.
HeartRate = Annotated[float, Meta(ge=20, le=300)]
Percent = Annotated[float, Meta(ge=0, le=100)]
BreathsPerMinute = Annotated[float, Meta(ge=2, le=80)]
Pressure = Annotated[float, Meta(ge=10, le=300)]
Celsius = Annotated[float, Meta(ge=20, le=45)]


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the patient is at the start: /min, %, mmHg, °C."""

    heart_rate: HeartRate = 72
    rhythm: Rhythm = Rhythm.SINUS
    spo2_percent: Percent = 97
    respiratory_rate: BreathsPerMinute = 15
    systolic_mmhg: Pressure = 122
    diastolic_mmhg: Pressure = 78
    temperature_celsius: Celsius = 36.8


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change: from `from_s`, the named values move to these within `over_s`; the rhythm changes at once."""

    from_s: Seconds
    over_s: Seconds = 5
    heart_rate: HeartRate | None = None
    rhythm: Rhythm | None = None
    spo2_percent: Percent | None = None
    respiratory_rate: BreathsPerMinute | None = None
    systolic_mmhg: Pressure | None = None
    diastolic_mmhg: Pressure | None = None
    temperature_celsius: Celsius | None = None


class LeadOff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Leads without contact for a while."""

    from_s: Seconds
    to_s: Seconds
    leads: tuple[str, ...]


class Nibp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the cuff measures."""

    first_s: Seconds = 5
    every_s: Annotated[float, Meta(ge=30)] = 150  # a cuff needs about 30 s to measure and let the arm rest


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One script; `seed` fixes every random choice of the patient."""

    title: str
    seed: int = 0
    baseline: Baseline = Baseline()
    stretch: tuple[Stretch, ...] = ()
    lead_off: tuple[LeadOff, ...] = ()
    nibp: Nibp = Nibp()


class Curve:
    """One quantity over time: constant pieces joined by smooth ramps (no corner that a real body would not have)."""

    def __init__(self, start: float, changes: Sequence[tuple[float, float, float]]) -> None:
        """`changes`: (from_s, over_s, target), ascending."""
        self._from = np.array([-np.inf])
        self._over = np.array([0.0])
        self._before = np.array([start])
        self._target = np.array([start])
        for from_s, over_s, target in changes:
            before = self.at(from_s)
            self._from = np.append(self._from, from_s)
            self._over = np.append(self._over, over_s)
            self._before = np.append(self._before, before)
            self._target = np.append(self._target, target)

    def at(self, time_s: float) -> float:
        """The value at one moment."""
        return float(self.over(np.array([time_s]))[0])

    def over(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values at many moments, shape as given."""
        piece = np.searchsorted(self._from, times_s, side="right") - 1
        ramp = self._over[piece]
        start = np.where(np.isfinite(self._from[piece]), self._from[piece], 0.0)
        done = np.where(ramp > 0, np.clip((times_s - start) / np.where(ramp > 0, ramp, 1.0), 0.0, 1.0), 1.0)
        smooth = done * done * (3 - 2 * done)
        values: NDArray[np.float64] = self._before[piece] + (self._target[piece] - self._before[piece]) * smooth
        return values


QUANTITIES = (
    "heart_rate",
    "spo2_percent",
    "respiratory_rate",
    "systolic_mmhg",
    "diastolic_mmhg",
    "temperature_celsius",
)


def curve(scenario: Scenario, quantity: str) -> Curve:
    """One of QUANTITIES as a curve over the seconds of the scenario."""
    changes = [
        (stretch.from_s, stretch.over_s, target)
        for stretch in scenario.stretch
        if (target := getattr(stretch, quantity)) is not None
    ]
    return Curve(getattr(scenario.baseline, quantity), changes)


def rhythm_at(scenario: Scenario, time_s: float) -> Rhythm:
    """The rhythm that rules at a moment."""
    rhythm = scenario.baseline.rhythm
    for stretch in scenario.stretch:
        if stretch.from_s <= time_s and stretch.rhythm is not None:
            rhythm = stretch.rhythm
    return rhythm


def load_scenario(name_or_path: str) -> Scenario:
    """A shipped scenario by name, or any file by path (it ends in .toml). Raises ConfigError."""
    path = packaged("scenarios", name_or_path)
    scenario = load(path, Scenario)
    _check(scenario, str(path))
    return scenario


def packaged(folder: str, name_or_path: str) -> Path:
    """Where a shipped TOML file or a file of the user's lies. Raises ConfigError naming what is shipped."""
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    files = [Path(str(item)) for item in (resources.files("firmware_sim") / folder).iterdir()]
    shipped = {file.stem: file for file in files if file.suffix == ".toml"}
    if name_or_path not in shipped:
        raise ConfigError(
            f"{name_or_path!r} is not in {folder}; allowed: {', '.join(sorted(shipped))}, or a .toml file"
        )
    return shipped[name_or_path]


def _check(scenario: Scenario, where: str) -> None:
    starts = [stretch.from_s for stretch in scenario.stretch]
    if starts != sorted(starts):
        raise ConfigError(f"{where}: stretch.from_s must not go back in time; got {starts}")
    for number, off in enumerate(scenario.lead_off):
        key = f"{where}: lead_off[{number}]"
        if off.to_s <= off.from_s:
            raise ConfigError(f"{key}.to_s must be after from_s = {off.from_s}; got {off.to_s}")
        if unknown := [lead for lead in off.leads if lead not in TWELVE_LEADS]:
            raise ConfigError(f"{key}.leads: {', '.join(unknown)} unknown; allowed: {', '.join(TWELVE_LEADS)}")

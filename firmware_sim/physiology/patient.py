"""The synthetic patient: a scenario becomes sampled waves and the numbers a monitor would show.

Streams are read in order, in blocks of any size; the sizes do not change the samples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_sim.physiology import ecg, pleth
from firmware_sim.physiology.beats import BeatTrain
from firmware_sim.scenario import QUANTITIES, Rhythm, Scenario, curve
from wire.vocabulary import Metric

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

ECG_RATE_HZ = 500
ECG_MV_PER_COUNT = 0.00244  # 2.44 µV, the resolution of common monitor front ends
ECG_BAND_HZ = (0.05, 150.0)
PLETH_RATE_HZ = 100  # whole samples in every half second, so both streams share their block times
PLETH_PER_COUNT = 0.001

_ECG_NOISE_MV = 0.006  # rms: electrode and amplifier noise of a good recording
_MAINS_MV = 0.003  # what the notch filter leaves of 50 Hz
_BREATH_WANDER_MV = np.array([0.035, 0.05, -0.04])  # baseline along X, Y, Z
_DRIFT_MV = np.array([0.02, -0.03, 0.025])


class Measured(NamedTuple):
    """One number of the monitor, measured at `at_s` of the scenario; an episodic one is repeated until the next."""

    metric: Metric
    value: float
    at_s: float
    episodic: bool = False


class Patient:
    """One simulated body. The waves and the numbers come from the same beats."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._beats = BeatTrain(scenario)
        self._curves = {quantity: curve(scenario, quantity) for quantity in QUANTITIES}
        self._ecg_noise = np.random.default_rng([scenario.seed, 2])
        self._ecg_samples = 0
        self._pleth_samples = 0
        self._ecg_breath = 0.0
        self._pleth_breath = 0.0

    def ecg(self, count: int) -> Counts:
        """The next samples of the twelve leads, int32, shape (count, 12), ECG_MV_PER_COUNT a count."""
        times_s = (self._ecg_samples + np.arange(count)) / ECG_RATE_HZ
        self._ecg_samples += count
        if count == 0:
            return np.empty((0, 12), np.int32)
        breath, self._ecg_breath = self._breathing(times_s, ECG_RATE_HZ, self._ecg_breath)
        beats = self._beats.between(times_s[0] - ecg.AFTER_R_S, times_s[-1] + ecg.BEFORE_R_S)
        vector = ecg.dipole(beats, times_s, 1 + 0.05 * breath)
        vector += breath[:, None] * _BREATH_WANDER_MV
        vector += np.sin(2 * np.pi * 0.07 * times_s)[:, None] * _DRIFT_MV
        fibrillates = self._fibrillates(times_s)
        if fibrillates.any():
            vector += ecg.fibrillation(times_s) * fibrillates[:, None]
        eight = ecg.eight_leads(vector)
        eight += self._ecg_noise.standard_normal((count, 8)) * _ECG_NOISE_MV
        eight += (_MAINS_MV * np.sin(2 * np.pi * 50 * times_s))[:, None]
        return np.rint(ecg.twelve_leads(eight) / ECG_MV_PER_COUNT).astype(np.int32)

    def pleth(self, count: int) -> Counts:
        """The next samples of the pleth wave, int32, shape (count, 1), PLETH_PER_COUNT a.u. a count."""
        times_s = (self._pleth_samples + np.arange(count)) / PLETH_RATE_HZ
        self._pleth_samples += count
        if count == 0:
            return np.empty((0, 1), np.int32)
        breath, self._pleth_breath = self._breathing(times_s, PLETH_RATE_HZ, self._pleth_breath)
        beats = self._beats.between(times_s[0] - pleth.AFTER_R_S, times_s[-1])
        wave = pleth.pulse_wave(beats, times_s, breath)
        return np.rint(wave / PLETH_PER_COUNT).astype(np.int32)[:, None]

    def numbers(self, time_s: float) -> list[Measured]:
        """What the monitor shows at a moment; episodic values as last measured, none before the first."""
        shown = []
        if (rate := self._beats.rate_at(time_s)) is not None:
            shown.append(Measured(Metric.HEART_RATE, round(rate), time_s))
        shown.append(Measured(Metric.SPO2, round(self._curves["spo2_percent"].at(time_s)), time_s))
        if (pulse := self._beats.rate_at(time_s - pleth.TRANSIT_S)) is not None:
            shown.append(Measured(Metric.PULSE_RATE_PLETH, round(pulse), time_s))
        breaths = round(self._curves["respiratory_rate"].at(time_s))
        shown.append(Measured(Metric.RESPIRATORY_RATE_IMPEDANCE, breaths, time_s))
        warmth = round(self._curves["temperature_celsius"].at(time_s), 1)
        shown.append(Measured(Metric.TEMPERATURE, warmth, time_s))
        return shown + self._cuff(time_s)

    def _cuff(self, time_s: float) -> list[Measured]:
        nibp = self._scenario.nibp
        if time_s < nibp.first_s:
            return []
        number = math.floor((time_s - nibp.first_s) / nibp.every_s)
        at_s = nibp.first_s + number * nibp.every_s
        # ±2 mmHg: what two cuff readings of the same pressure differ by; drawn per measurement, not per report.
        wobble = np.random.default_rng([self._scenario.seed, 3, number]).integers(-2, 3, size=2)
        systolic = round(self._curves["systolic_mmhg"].at(at_s)) + int(wobble[0])
        diastolic = min(round(self._curves["diastolic_mmhg"].at(at_s)) + int(wobble[1]), systolic - 5)
        mean = round(diastolic + (systolic - diastolic) / 3)
        return [
            Measured(Metric.NIBP_SYSTOLIC, systolic, at_s, episodic=True),
            Measured(Metric.NIBP_DIASTOLIC, diastolic, at_s, episodic=True),
            Measured(Metric.NIBP_MEAN, mean, at_s, episodic=True),
        ]

    def _breathing(self, times_s: Floats, rate_hz: float, phase: float) -> tuple[Floats, float]:
        """The sine of the breathing phase and the phase reached; summed sample by sample whatever the block size."""
        steps = self._curves["respiratory_rate"].over(times_s) * (2 * np.pi / 60 / rate_hz)
        steps[0] += phase
        phases = np.cumsum(steps)
        return np.sin(phases), float(phases[-1])

    def _fibrillates(self, times_s: Floats) -> NDArray[np.bool_]:
        marks = [0.0, *(stretch.from_s for stretch in self._scenario.stretch if stretch.rhythm is not None)]
        rhythms = [self._scenario.baseline.rhythm, *(s.rhythm for s in self._scenario.stretch if s.rhythm is not None)]
        fibrillating = np.array([rhythm is Rhythm.ATRIAL_FIBRILLATION for rhythm in rhythms])
        ruling: NDArray[np.bool_] = fibrillating[np.searchsorted(marks, times_s, side="right") - 1]
        return ruling

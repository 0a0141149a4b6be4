"""When the heart beats: R-peak times from the scripted rate and rhythm, with the variability a real heart has."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from firmware_sim.scenario import Rhythm, Scenario, curve, rhythm_at

# Shorter than any conducted interval: atrial fibrillation draws its intervals at random and needs a floor.
_SHORTEST_RR_S = 0.22
# Respiratory sinus arrhythmia and beat-to-beat jitter as fractions of the interval; they fade as the rate climbs.
_ARRHYTHMIA = 0.03
_JITTER = 0.008
_AF_SPREAD = 0.20  # AF: coefficient of variation of RR about 0.2
_RATE_WINDOW_S = 6.0  # monitors average the rate over some seconds
_KEPT_BEATS = 128
# The heart beat before the recording began, so that a rate can be measured from the first second on.
FIRST_BEAT_S = -10.0


class Beat(NamedTuple):
    """One R peak, seconds of the scenario; `rr_s` is the interval before it."""

    at_s: float
    rr_s: float
    rhythm: Rhythm


class BeatTrain:
    """The beats of one patient in order, generated as far as asked, remembered for a while."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._rate = curve(scenario, "heart_rate")
        self._breathing = curve(scenario, "respiratory_rate")
        self._random = np.random.default_rng([scenario.seed, 1])
        first_rr_s = 60 / self._rate.at(0)
        self._beats: deque[Beat] = deque([Beat(FIRST_BEAT_S, first_rr_s, scenario.baseline.rhythm)], _KEPT_BEATS)
        self._breath_phase = 0.0

    def between(self, from_s: float, to_s: float) -> list[Beat]:
        """The beats of from_s ≤ R peak < to_s. Times may not lie further back than about the last 100 beats."""
        while self._beats[-1].at_s < to_s:
            self._beats.append(self._next(self._beats[-1]))
        return [beat for beat in self._beats if from_s <= beat.at_s < to_s]

    def rate_at(self, time_s: float) -> float | None:
        """Heart rate /min as a monitor measures it: mean interval of the last seconds; None with too few beats."""
        recent = self.between(time_s - _RATE_WINDOW_S, time_s)
        if len(recent) < 3:
            return None
        return 60 * (len(recent) - 1) / (recent[-1].at_s - recent[0].at_s)

    def _next(self, last: Beat) -> Beat:
        rhythm = rhythm_at(self._scenario, last.at_s)
        mean_rr_s = 60 / self._rate.at(last.at_s)
        self._breath_phase += 2 * np.pi * self._breathing.at(last.at_s) / 60 * mean_rr_s
        noise = float(self._random.standard_normal())
        if rhythm is Rhythm.ATRIAL_FIBRILLATION:
            # Log-normal, its mean kept at the scripted interval.
            factor = float(np.exp(_AF_SPREAD * noise - _AF_SPREAD**2 / 2))
        elif rhythm is Rhythm.VENTRICULAR_TACHYCARDIA:
            factor = 1 + _JITTER * noise
        else:
            fade = min(1.0, mean_rr_s / 0.8) ** 2
            factor = 1 + fade * (_ARRHYTHMIA * float(np.sin(self._breath_phase)) + _JITTER * noise)
        rr_s = max(_SHORTEST_RR_S, mean_rr_s * factor)
        return Beat(last.at_s + rr_s, rr_s, rhythm)

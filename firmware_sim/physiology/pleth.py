"""The pleth wave: one pulse a heartbeat, arriving at the finger after its transit time, with a dicrotic notch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firmware_sim.physiology.beats import Beat

Floats = NDArray[np.float64]

TRANSIT_S = 0.24  # R peak to the foot of the pulse at the finger
# How far after its R peak a beat still moves the wave.
AFTER_R_S = 1.8


def pulse_wave(beats: Sequence[Beat], times_s: Floats, breath: Floats) -> Floats:
    """Arbitrary units around 0.2 to 1, shape (n,). `breath` is the sine of the breathing phase, shape (n,)."""
    wave = np.zeros(len(times_s))
    for beat in beats:
        stretch = min(1.0, beat.rr_s) ** 0.5
        # A short interval fills the ventricle less: smaller pulse, seen clearly in atrial fibrillation.
        height = min(1.0, 0.35 + 0.75 * beat.rr_s)
        since = times_s - beat.at_s - TRANSIT_S
        systolic = np.exp(-0.5 * ((since - 0.12 * stretch) / np.where(since < 0.12 * stretch, 0.050, 0.105)) ** 2)
        dicrotic = 0.32 * np.exp(-0.5 * ((since - 0.40 * stretch) / (0.095 * stretch)) ** 2)
        wave += height * (systolic + dicrotic)
    return 0.2 + 0.62 * wave * (1 + 0.05 * breath) + 0.02 * breath

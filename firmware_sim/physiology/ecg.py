"""Twelve leads from one moving heart dipole: Gaussian waves in Frank X, Y, Z, projected by Dower's matrix.

III, aVR, aVL and aVF are computed from I and II, so Einthoven's and Goldberger's relations hold before rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_sim.physiology.beats import Beat
from firmware_sim.scenario import Rhythm

Floats = NDArray[np.float64]

# Dower 1980: leads I, II, V1…V6 from Frank X (left), Y (down), Z (back).
_DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)


class Wave(NamedTuple):
    """One Gaussian: peak relative to R (s), width before and after the peak (s, standard deviations), X Y Z in mV."""

    at_s: float
    rise_s: float
    fall_s: float
    xyz: tuple[float, float, float]


# How far a beat reaches around its R peak; beyond it every wave is below a microvolt.
BEFORE_R_S = 0.35
AFTER_R_S = 0.80

_SEPTAL = Wave(-0.024, 0.007, 0.007, (-0.12, -0.06, -0.26))
_MAIN = Wave(0.0, 0.010, 0.010, (1.15, 0.82, 0.12))
_BASAL = Wave(0.021, 0.012, 0.013, (-0.12, -0.12, 0.62))
_BROAD = Wave(0.0, 0.034, 0.040, (0.95, -1.05, 0.80))  # VT: slow spread from the apex of the right ventricle


def waves_of(beat: Beat) -> list[Wave]:
    """The waves of one beat; PR and QT shorten as the rate climbs."""
    if beat.rhythm is Rhythm.VENTRICULAR_TACHYCARDIA:
        return [_BROAD, Wave(0.55 * beat.rr_s, 0.055, 0.045, (-0.42, 0.46, -0.36))]
    # Fridericia: QT = 0.40 s at 60/min, falling with the cube root of the interval.
    qt_s = 0.40 * min(beat.rr_s, 1.5) ** (1 / 3)
    stretch = qt_s / 0.40
    t_wave = Wave(qt_s - 0.125 * stretch, 0.052 * stretch, 0.034 * stretch, (0.32, 0.23, -0.17))
    if beat.rhythm is Rhythm.ATRIAL_FIBRILLATION:
        return [_SEPTAL, _MAIN, _BASAL, t_wave]
    p_at_s = -(0.105 + 0.055 * min(beat.rr_s, 1.0))  # P peak: PR about 0.16 s at 60/min, 0.13 s at 150/min
    right_atrium = Wave(p_at_s, 0.018, 0.018, (0.03, 0.07, -0.05))
    left_atrium = Wave(p_at_s + 0.026, 0.018, 0.018, (0.05, 0.05, 0.03))
    return [right_atrium, left_atrium, _SEPTAL, _MAIN, _BASAL, t_wave]


def dipole(beats: Sequence[Beat], times_s: Floats, loudness: Floats) -> Floats:
    """The heart vector, mV, shape (n, 3). `loudness` scales it (breathing moves the heart), shape (n,)."""
    vector = np.zeros((len(times_s), 3))
    for beat in beats:
        for wave in waves_of(beat):
            reach_s = 5 * max(wave.rise_s, wave.fall_s)
            centre_s = beat.at_s + wave.at_s
            first, last = np.searchsorted(times_s, (centre_s - reach_s, centre_s + reach_s))
            if first == last:
                continue
            delta = times_s[first:last] - centre_s
            width = np.where(delta < 0, wave.rise_s, wave.fall_s)
            vector[first:last] += np.exp(-0.5 * (delta / width) ** 2)[:, None] * np.array(wave.xyz)
    vector *= loudness[:, None]
    return vector


def fibrillation(times_s: Floats) -> Floats:
    """The f waves of a fibrillating atrium, mV, shape (n, 3): largest in V1."""
    swing = np.sin(2 * np.pi * 5.9 * times_s) + 0.6 * np.sin(2 * np.pi * 4.7 * times_s + 1.3)
    drift = 1 + 0.4 * np.sin(2 * np.pi * 0.31 * times_s)
    waves: Floats = (0.045 * swing * drift)[:, None] * np.array([0.2, 0.45, -0.9])
    return waves


def eight_leads(vector: Floats) -> Floats:
    """I, II, V1…V6 in mV, shape (n, 8), from the dipole."""
    leads: Floats = vector @ _DOWER.T
    return leads


def twelve_leads(eight: Floats) -> Floats:
    """The standard twelve in display order, shape (n, 12), from I, II, V1…V6."""
    lead_i, lead_ii = eight[:, 0], eight[:, 1]
    limb = (lead_i, lead_ii, lead_ii - lead_i, -(lead_i + lead_ii) / 2, lead_i - lead_ii / 2, lead_ii - lead_i / 2)
    return np.column_stack((*limb, eight[:, 2:]))

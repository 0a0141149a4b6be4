"""Where a simulated monitor takes its waves from: the synthetic patient, or a recording (replay.py)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_sim.physiology.patient import (
    ECG_BAND_HZ,
    ECG_MV_PER_COUNT,
    ECG_RATE_HZ,
    PLETH_PER_COUNT,
    PLETH_RATE_HZ,
    Patient,
)
from firmware_sim.scenario import LeadOff
from wire.vocabulary import TWELVE_LEADS

# What a sample that does not exist is sent as (CLINICAL.md §7); it never stands for a voltage.
MISSING_SAMPLE = 197378

Counts = NDArray[np.int32]


class Stream(NamedTuple):
    """One group of leads sampled together; value of lead k = count * scale[k] + offset[k] (mV, or a.u. for pleth)."""

    name: str
    leads: tuple[str, ...]
    sample_rate_hz: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    band_hz: tuple[float, float] | None = None

    def sample_at(self, time_s: Fraction) -> int:
        """How many whole samples lie before `time_s` seconds after the first one."""
        return int(Fraction(self.sample_rate_hz) * time_s)


class WaveSource(Protocol):
    """Gives each stream in order, block by block."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What it gives."""
        ...

    async def read(self, stream: Stream, count: int) -> Counts:
        """The next samples, int32, shape (n, leads); n < count means the stream has ended."""
        ...


class SyntheticWaves:
    """The waves of the synthetic patient: they never end; leads that are off carry no voltage."""

    def __init__(self, patient: Patient, lead_off: Sequence[LeadOff]) -> None:
        self._patient = patient
        self._lead_off = lead_off
        self._ecg_samples = 0
        leads = len(TWELVE_LEADS)
        self._ecg = Stream(
            "ecg", TWELVE_LEADS, float(ECG_RATE_HZ), (ECG_MV_PER_COUNT,) * leads, (0.0,) * leads, ECG_BAND_HZ
        )
        self._pleth = Stream("pleth", ("pleth",), float(PLETH_RATE_HZ), (PLETH_PER_COUNT,), (0.0,))

    @property
    def streams(self) -> tuple[Stream, ...]:
        return (self._ecg, self._pleth)

    async def read(self, stream: Stream, count: int) -> Counts:
        if stream is self._pleth:
            return self._patient.pleth(count)
        samples = self._patient.ecg(count)
        times_s = (self._ecg_samples + np.arange(count)) / ECG_RATE_HZ
        self._ecg_samples += count
        for off in self._lead_off:
            silent = (times_s >= off.from_s) & (times_s < off.to_s)
            for lead in off.leads:
                samples[silent, TWELVE_LEADS.index(lead)] = MISSING_SAMPLE
        return samples

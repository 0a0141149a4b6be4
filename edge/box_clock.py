"""The box's clock: the machine's own while that can be right, else the cloud's, learnt from receipts.

A receipt carries the cloud's time at the commit, which lies between the sending of the batch and the receipt's arrival:
half a round trip is the error, and it is known. Needs no NTP and no battery behind the clock.
"""

from __future__ import annotations

from typing import NamedTuple

from wire.clock import MICROSECONDS, Clock, ClockState

# An own clock nearer to the cloud's than this is left alone: its steps would cost more than they mend.
_RIGHT_ENOUGH_US = MICROSECONDS // 2
# Quartz drifts up to 200 ppm apart (DESIGN: ±200 ppm is to be borne): an older sample says less.
_DRIFT = 200e-6


class _Sample(NamedTuple):
    """The cloud's time at one moment of the monotonic clock, to within `error_us` then."""

    mono_us: int
    cloud_us: int
    error_us: int

    def error_at(self, mono_us: int) -> int:
        return self.error_us + round(abs(mono_us - self.mono_us) * _DRIFT)

    def at(self, mono_us: int) -> int:
        return self.cloud_us + mono_us - self.mono_us


class BoxClock:
    """A Clock over the machine's own."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._best: _Sample | None = None
        self._followed: _Sample | None = None  # the sample the wall clock goes by, None: the machine's own

    def now_us(self) -> int:
        """µs since 1970 UTC, which steps when a wrong clock is found out."""
        if self._followed is None or self._machine.state().synchronised:
            return self._machine.now_us()
        return self._followed.at(self._machine.monotonic_us())

    def monotonic_us(self) -> int:
        """The machine's."""
        return self._machine.monotonic_us()

    def boot_id(self) -> bytes:
        """The machine's."""
        return self._machine.boot_id()

    def state(self) -> ClockState:
        """Synchronised by the kernel's word, or by the cloud's."""
        kernel = self._machine.state()
        if kernel.synchronised or self._best is None:
            return kernel
        mono_us = self._machine.monotonic_us()
        return ClockState(True, abs(self.now_us() - self._best.at(mono_us)) + self._best.error_at(mono_us))

    def cloud_said(self, cloud_us: int, sent_us: int, received_us: int) -> None:
        """A batch sent once at monotonic `sent_us` was committed at `cloud_us`, its receipt came at `received_us`."""
        half_us = (received_us - sent_us) // 2
        sample = _Sample(sent_us + half_us, cloud_us, half_us)
        if self._best is not None and self._best.error_at(sample.mono_us) <= half_us:
            return
        self._best = sample
        if abs(self._machine.now_us() - sample.at(self._machine.monotonic_us())) <= _RIGHT_ENOUGH_US + half_us:
            self._followed = None
        elif self._followed is None or self._is_off(self._followed, sample):
            self._followed = sample

    def _is_off(self, followed: _Sample, sample: _Sample) -> bool:
        """Whether what is followed lies outside what the sample allows: within it, a step would mend nothing."""
        return abs(followed.at(sample.mono_us) - sample.cloud_us) > sample.error_us

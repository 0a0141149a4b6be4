"""The box's clock: the machine's own while that can be right, else the cloud's, learnt from receipts.

A receipt carries the cloud's time at the commit, which lies between the sending of the batch and the receipt's arrival:
half a round trip is the error, and it is known. Needs no NTP and no battery behind the clock. A clock never set follows
once that error is small: what is captured until then waits, and is placed for good by what the clock is set to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS, Clock, ClockState

# An own clock nearer to the cloud's than this is left alone: its steps would cost more than they mend.
_RIGHT_ENOUGH_US = MICROSECONDS // 2
# Half of the 50 ms a reading may lie beside its place: the rest is for its way from the device.
_GOOD_ERROR_US = 25_000
# On a link that gives no better a clock never set follows the best of so long: twenty round trips or more, and a ward
# that sees nothing of the box meanwhile.
_SETTLING_US = 10 * MICROSECONDS
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
        self._settled_us = math.inf  # monotonic time from which a clock never set follows

    def now_us(self) -> int:
        """µs since 1970 UTC, which steps when a wrong clock is found out."""
        machine_us = self._machine.now_us()
        if self._followed is None or self._machine.state().synchronised:
            return machine_us
        mono_us = self._machine.monotonic_us()
        return self._followed.at(mono_us) if self._is_settled(machine_us, mono_us) else machine_us

    def monotonic_us(self) -> int:
        """The machine's."""
        return self._machine.monotonic_us()

    def boot_id(self) -> bytes:
        """The machine's."""
        return self._machine.boot_id()

    def state(self) -> ClockState:
        """Synchronised by the kernel's word, or by the cloud's."""
        kernel = self._machine.state()
        mono_us = self._machine.monotonic_us()
        if kernel.synchronised or self._best is None or not self._is_settled(self._machine.now_us(), mono_us):
            return kernel
        return ClockState(True, abs(self.now_us() - self._best.at(mono_us)) + self._best.error_at(mono_us))

    def cloud_said(self, cloud_us: int, sent_us: int, received_us: int) -> None:
        """A batch sent once at monotonic `sent_us` was committed at `cloud_us`, its receipt came at `received_us`."""
        half_us = (received_us - sent_us) // 2
        sample = _Sample(sent_us + half_us, cloud_us, half_us)
        if self._best is not None and self._best.error_at(sample.mono_us) <= half_us:
            return
        self._best = sample
        machine_us, mono_us = self._machine.now_us(), self._machine.monotonic_us()
        if abs(machine_us - sample.at(mono_us)) <= _RIGHT_ENOUGH_US + half_us:
            self._followed = None
        elif (
            self._followed is None or not self._is_settled(machine_us, mono_us) or self._is_off(self._followed, sample)
        ):
            self._followed = sample
        waits_us = 0 if half_us <= _GOOD_ERROR_US else _SETTLING_US
        self._settled_us = min(self._settled_us, received_us + waits_us)

    def _is_settled(self, machine_us: int, mono_us: int) -> bool:
        return machine_us >= EARLIEST_PLAUSIBLE_US or mono_us >= self._settled_us

    def _is_off(self, followed: _Sample, sample: _Sample) -> bool:
        """Whether what is followed lies outside what the sample allows: within it, a step would mend nothing."""
        return abs(followed.at(sample.mono_us) - sample.cloud_us) > sample.error_us

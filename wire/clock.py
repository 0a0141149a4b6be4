"""Time: the only place that asks the machine what time it is."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

MICROSECONDS = 1_000_000
# 2020-01-01: no box of ours was made before it, so an earlier wall clock has never been set (a boot in 1970).
EARLIEST_PLAUSIBLE_US = 1_577_836_800 * MICROSECONDS


class ClockState(NamedTuple):
    """How far the wall clock may be trusted: synchronised by the kernel's word, and its error bound in µs."""

    synchronised: bool
    uncertainty_us: int


class Clock(Protocol):
    """Wall and monotonic time of one process; tests pass a clock they move by hand."""

    def now_us(self) -> int:
        """µs since 1970 UTC by the machine's wall clock, which may jump."""
        ...

    def monotonic_us(self) -> int:
        """µs on a clock that never jumps; comparable only within one boot."""
        ...

    def boot_id(self) -> bytes:
        """16 bytes naming this boot of the machine."""
        ...

    def state(self) -> ClockState:
        """How far `now_us` may be trusted at this moment."""
        ...


class ClockAnchor(msgspec.Struct, frozen=True, array_like=True):
    """One moment seen on both clocks, so that monotonic times of a boot can be placed in history."""

    boot_id: bytes
    mono_us: int
    wall_us: int
    uncertainty_us: int
    synchronised: bool


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot_id = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000

    def boot_id(self) -> bytes:
        return self._boot_id

    def state(self) -> ClockState:
        return _kernel_clock_state()


def anchor(clock: Clock) -> ClockAnchor:
    """The clocks as they stand now."""
    state = clock.state()
    wall_us = clock.now_us()
    return ClockAnchor(
        boot_id=clock.boot_id(),
        mono_us=clock.monotonic_us(),
        wall_us=wall_us,
        uncertainty_us=state.uncertainty_us,
        synchronised=state.synchronised and wall_us >= EARLIEST_PLAUSIBLE_US,
    )


class _Timex(ctypes.Structure):
    """The head of Linux `struct timex` (adjtimex(2)); the tail is room the kernel may write."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("tail", ctypes.c_byte * 512),
    ]


_libc = ctypes.CDLL(None, use_errno=True)
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def _kernel_clock_state() -> ClockState:
    timex = _Timex()
    timex.modes = 0  # read only
    result = _libc.adjtimex(ctypes.byref(timex))
    if result < 0:
        return ClockState(synchronised=False, uncertainty_us=0)
    return ClockState(synchronised=result != _TIME_ERROR, uncertainty_us=int(timex.maxerror))

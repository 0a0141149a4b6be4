"""What every test may use: a clock moved by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from wire.clock import ClockState

# pytest's own limit stands over each test; a busy machine is no failure of the property.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

ROOT = Path(__file__).parent.parent

START_US = 1_795_000_000_000_000


class FakeClock:
    """A Clock that stands still until it is moved."""

    def __init__(self, now_us: int = START_US) -> None:
        self.wall_us = now_us
        self.mono_us = 1_000_000
        self.boot = b"boot" * 4
        self.synchronised = True

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_us(self) -> int:
        return self.mono_us

    def boot_id(self) -> bytes:
        return self.boot

    def state(self) -> ClockState:
        return ClockState(self.synchronised, 1000)

    def advance_s(self, seconds: float) -> None:
        """Moves both clocks on."""
        self.wall_us += round(seconds * 1e6)
        self.mono_us += round(seconds * 1e6)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()

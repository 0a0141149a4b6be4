"""How long readings are kept, by class: what a site may set."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from cloud.store.retention import Kept
from wire.clock import MICROSECONDS
from wire.readings import Origin

_DAY_US = 86_400 * MICROSECONDS
_YEAR_US = 366 * _DAY_US  # never a day too early

_Days = Annotated[int, Meta(ge=0, le=36_500)]
_Years = Annotated[int, Meta(ge=0, le=200)]


class RetentionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long readings are kept, by class; 0 is for ever. Patients' are, until the site says otherwise."""

    demo_days: _Days = 30
    test_days: _Days = 30
    reading_years: _Years = 0
    waveform_years: _Years = 0

    def classes(self, now_us: int) -> tuple[Kept, ...]:
        """What is too old now."""

        def before(count: int, unit_us: int) -> int | None:
            return now_us - count * unit_us if count else None

        demo, test = before(self.demo_days, _DAY_US), before(self.test_days, _DAY_US)
        return (
            Kept(Origin.DEMO, demo, demo),
            Kept(Origin.TEST, test, test),
            Kept(Origin.REAL, before(self.reading_years, _YEAR_US), before(self.waveform_years, _YEAR_US)),
        )

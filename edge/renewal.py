"""Renews the box's certificate when two thirds of its life are over, and again until it has the next one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from edge.enrolment import EnrolmentFailed, renew
from edge.identity import Identity, IdentityError
from wire.backoff import Backoff
from wire.clock import EARLIEST_PLAUSIBLE_US, Clock

_log = logging.getLogger(__name__)

# Of 30 days the last ten remain to mend what keeps a box from its cloud.
DUE_AT = 2 / 3
_LOOK_S = 60.0
# A next certificate that did not get in for so long never will: another is asked for, with another key.
_UNTRIED_US = 24 * 3600 * 1_000_000
# A fleet enrolled in one hour must not come back in one: waits are drawn at random up to these.
_FIRST_S, _LONGEST_S = 30.0, 3600.0


class Renewal:
    """Runs beside the uplink, which tries what this brings."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self.counts: Counter[str] = Counter()
        self._identity, self._clock = identity, clock
        self._given_us: int | None = None  # monotonic: when this process was last given one

    def is_due(self) -> bool:
        """Whether it is time to ask; a clock that was never set cannot tell. Raises OSError, IdentityError."""
        now_us = self._clock.now_us()
        if now_us < EARLIEST_PLAUSIBLE_US:
            return False
        try:
            if now_us < self._identity.next_us + _UNTRIED_US:
                return False
            if self._given_us is not None and self._clock.monotonic_us() < self._given_us + _UNTRIED_US:
                return False  # by the cloud's clock it is older, which is no reason to ask every minute
        except (FileNotFoundError, IdentityError):
            pass  # there is none, which is the usual case, or one that the disk spoilt
        validity = self._identity.validity()
        return now_us >= validity.from_us + (validity.until_us - validity.from_us) * DUE_AT

    def renew_if_due(self) -> bool:
        """Whether there is a next certificate since just now. Waits, raises as `enrol`."""
        if not self.is_due():
            return False
        renew(self._identity, self._clock)
        self._given_us = self._clock.monotonic_us()
        return True

    async def run(self) -> None:
        """Looks and renews until cancelled."""
        backoff = Backoff(first_s=_FIRST_S, cap_s=_LONGEST_S)
        is_failing = False
        while True:
            wait_s = _LOOK_S
            try:
                if await asyncio.to_thread(self.renew_if_due):
                    self.counts["renewals"] += 1
                    is_failing = False
                    backoff.reset()
                    _log.info("a next certificate is here: it is tried with the next connection")
            except (EnrolmentFailed, IdentityError, OSError, ValueError) as error:  # ValueError: a spoilt key
                self.counts["renewals_failed"] += 1
                if not is_failing:
                    _log.error("the certificate cannot be renewed yet: %s", error)
                is_failing, wait_s = True, backoff.next_s()
            await asyncio.sleep(wait_s)

"""Keeps the broker's users what the register says, whoever changed it: this process or a command beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from cloud.bus.broker_config import Certified
from cloud.enrolment.authority import Authority
from cloud.enrolment.notes import read_notes, write_notes
from cloud.enrolment.register import Register
from cloud.store.database import StoreUnavailable
from cloud.store.enrolment import VALID
from wire.clock import Clock

_log = logging.getLogger(__name__)

# How long a revocation on the command line may take to reach the broker: one row is read so often.
_LOOK_S = 0.25
# A certificate whose time is over takes no new connection by itself; this ends the ones it has.
_LOOK_AT_TIMES_US = 60 * 1_000_000


class EnrolmentKeeper:
    """`certify` is told all valid certificates whenever they change, and at the start, when the notes are read."""

    def __init__(
        self,
        register: Register,
        authority: Authority,
        certify: Callable[[Iterable[Certified]], None],
        clock: Clock,
        renewed: Callable[[], None],
    ) -> None:
        """`renewed` is called when the cloud's own certificate is another one."""
        self._register, self._authority, self._clock = register, authority, clock
        self._certify, self._renewed = certify, renewed
        self._applied: list[Certified] | None = None
        self._seen = -1
        self._looked_us: int | None = None
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Looks until cancelled; a store that does not answer changes nothing."""
        is_failing = False
        while True:
            try:
                await self.look()
                is_failing = False
            except (StoreUnavailable, OSError) as error:
                if not is_failing:
                    _log.error("enrolment: who is valid cannot be read or told to the broker: %s", error)
                is_failing = True
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Applies what changed since the last look. Raises StoreUnavailable, OSError, at first also ConfigError."""
        async with self._one_at_a_time:
            if self._looked_us is None:
                await self._make_good()
            changes, now_us = await self._register.changes(), self._clock.monotonic_us()
            is_due = self._looked_us is None or now_us - self._looked_us >= _LOOK_AT_TIMES_US
            if changes == self._seen and not is_due:
                return
            is_renewed = await asyncio.to_thread(self._authority.keep_server_certificate)
            living = await self._register.living()
            time_us = self._clock.now_us()
            valid = [
                Certified(one.gateway, one.serial) for one in living if one.state == VALID and one.expires_us > time_us
            ]
            if valid != self._applied or is_renewed:
                await asyncio.to_thread(self._certify, valid)
                self._applied = valid
                _log.info("enrolment: %d certificates are valid", len(valid))
            if is_renewed:
                self._renewed()
            if changes != self._seen:
                await asyncio.to_thread(write_notes, self._authority.notes_file, living)
            self._seen, self._looked_us = changes, now_us

    async def _make_good(self) -> None:
        noted = await asyncio.to_thread(read_notes, self._authority.notes_file)
        if missed := await self._register.merge(noted):
            _log.warning("enrolment: the store is an older one: %d certificates put right from the notes", missed)

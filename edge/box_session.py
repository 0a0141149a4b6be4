"""The session this box's readings belong to: kept through restarts, marked for good once anything is simulated.

It is one patient's: a command ends it and begins the next, which inherits no alert and no routing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from edge.config import EdgeConfig
from edge.outbox import Outbox, Source
from edge.spool import Memo, Spool
from wire.clock import MICROSECONDS, Clock
from wire.messages import Lane
from wire.readings import Body, CommandOutcome, Origin, SessionEvent, SessionPhase

if TYPE_CHECKING:
    from edge.device_session import DeviceSession

_MEMO = "session"
# A device keeps its turn while the disk is full; whoever waits at the desk is told instead.
_TURNS_S = 10.0
_CERTAIN_US = 600 * MICROSECONDS
_STEP_US = MICROSECONDS


class Before(NamedTuple):
    """The session of the patient before and when it ended.

    `is_certain`: a device whose clock we follow says reliably what it measured earlier. Long after, or once a clock was
    set, the other explanation is likelier: that the device's clock was.
    """

    session_id: str
    ended_us: int
    is_certain: bool


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of the session."""

    session_id: str
    origin: Origin
    previous_id: str = ""
    # When the one before ended, on both clocks: the monotonic one holds within its boot however the other is set.
    began_us: int = 0
    boot_id: bytes = b""
    began_mono_us: int = 0


class BoxSession:
    """One session; `open` continues the one from before a restart or begins a new one."""

    def __init__(self, config: EdgeConfig, spool: Spool, outbox: Outbox, clock: Clock) -> None:
        self._config = config
        self._outbox = outbox
        self._clock = clock
        self.devices: list[DeviceSession] = []  # each adds itself
        saved = spool.memo(_MEMO)
        self._is_new = saved is None
        self._known = msgspec.msgpack.decode(saved, type=_Known) if saved else _Known(secrets.token_hex(8), Origin.REAL)

    @property
    def source(self) -> Source:
        """The box itself as a source of records."""
        return Source("", self._known.session_id, self._known.origin)

    @property
    def before(self) -> Before | None:
        """The session before, by the clock as it is set now; None without one, or if nobody can say when it ended."""
        known, now_us = self._known, self._clock.now_us()
        if not known.previous_id:
            return None
        if known.boot_id != self._clock.boot_id():
            # A clock that lies would place what is measured now before the hand-over.
            return None if now_us < known.began_us else Before(known.previous_id, known.began_us, is_certain=False)
        passed_us = self._clock.monotonic_us() - known.began_mono_us
        was_set = abs(now_us - known.began_us - passed_us) > _STEP_US
        return Before(known.previous_id, now_us - passed_us, is_certain=not was_set and passed_us < _CERTAIN_US)

    async def open(self, origin: Origin) -> None:
        """Begins or continues with readings of this origin."""
        if self._is_new:
            self._is_new = False
            await self._announce(origin)
        else:
            await self.raise_origin(origin)

    async def raise_origin(self, origin: Origin) -> None:
        """Marks the session when its readings are less real than was known; it never becomes more real again."""
        if origin > self._known.origin:
            await self._announce(origin)

    async def _announce(self, origin: Origin) -> None:
        self._known = msgspec.structs.replace(self._known, origin=origin)
        await self._outbox.append(self.source, [self._step(SessionPhase.OPENED)], memos=[self._memo()])

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Meanwhile no device has anything on its way to the disk. Raises TimeoutError."""
        async with AsyncExitStack() as turns:
            async with asyncio.timeout(_TURNS_S):
                for device in self.devices:
                    await turns.enter_async_context(device.turn)
            yield

    async def renew(self, outcome: CommandOutcome, memos: Sequence[Memo]) -> None:
        """Closes the session and opens the next one; all of it is in one commit with why. Within `held`."""
        now_us, closing = self._clock.now_us(), self.source
        over = [(device, device.hand_over(now_us)) for device in self.devices]
        parts: list[tuple[Source, Sequence[Body]]] = [
            (Source(device.device.id, closing.session_id, device.origin), each.ended) for device, each in over
        ]
        parts.append((closing, [self._step(SessionPhase.CLOSED)]))
        # A device that once said it is simulated is never a patient's again.
        origin = max((device.origin for device in self.devices), default=closing.origin)
        began_mono_us, boot_id = self._clock.monotonic_us(), self._clock.boot_id()
        self._known = _Known(secrets.token_hex(8), origin, closing.session_id, now_us, boot_id, began_mono_us)
        parts.append((self.source, [self._step(SessionPhase.OPENED), outcome]))
        for device, each in over:
            parts.append((Source(device.device.id, self._known.session_id, device.origin), each.begun))
        of_devices = [memo for _device, each in over for memo in each.memos]
        await self._outbox.append_together(parts, memos=[self._memo(), *of_devices, *memos])

    def _step(self, phase: SessionPhase) -> SessionEvent:
        session = self._config.session
        label = session.label or self._config.gateway
        return SessionEvent(self._known.session_id, session.kind, phase, self._clock.now_us(), label=label)

    def _memo(self) -> Memo:
        return Memo(Lane.URGENT, _MEMO, msgspec.msgpack.encode(self._known))

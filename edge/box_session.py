"""The session this box's readings belong to: kept through restarts, marked for good once anything is simulated."""

from __future__ import annotations

import secrets

import msgspec

from edge.config import EdgeConfig
from edge.outbox import Outbox, Source
from edge.spool import Memo, Spool
from wire.clock import Clock
from wire.messages import Lane
from wire.readings import Origin, SessionEvent, SessionPhase

_MEMO = "session"


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of the session."""

    session_id: str
    origin: Origin


class BoxSession:
    """One session; `open` continues the one from before a restart or begins a new one."""

    def __init__(self, config: EdgeConfig, spool: Spool, outbox: Outbox, clock: Clock) -> None:
        self._config = config
        self._outbox = outbox
        self._clock = clock
        saved = spool.memo(_MEMO)
        self._is_new = saved is None
        self._known = msgspec.msgpack.decode(saved, type=_Known) if saved else _Known(secrets.token_hex(8), Origin.REAL)

    @property
    def source(self) -> Source:
        """The box itself as a source of records."""
        return Source("", self._known.session_id, self._known.origin)

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
        self._known = _Known(self._known.session_id, origin)
        session = self._config.session
        opened = SessionEvent(
            self._known.session_id,
            session.kind,
            SessionPhase.OPENED,
            self._clock.now_us(),
            label=session.label or self._config.gateway,
        )
        memo = Memo(Lane.URGENT, _MEMO, msgspec.msgpack.encode(self._known))
        await self._outbox.append(self.source, [opened], memos=[memo])

"""The agent process, put together: devices → outbox → spool → uplink."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from edge.config import Resolved
from edge.device_session import DeviceSession
from edge.heartbeat import Heartbeat
from edge.ledger import Ledger
from edge.outbox import Outbox, Source
from edge.pipeline import Pipeline
from edge.spool import Chunk, Memo, Spool
from edge.uplink import Uplink
from wire.clock import Clock, SystemClock
from wire.messages import Lane
from wire.readings import Gap, GapReason, Origin, SessionEvent, SessionPhase

_log = logging.getLogger(__name__)

_SESSION_MEMO = "session"
_STORE_MEMO = "store"
_UPKEEP_S = 2.0


async def run(resolved: Resolved, *, clock: Clock | None = None, ready: Callable[[], None] | None = None) -> None:
    """Runs one box until cancelled. `ready` is called when its devices may connect."""
    config, clock = resolved.config, clock or SystemClock()
    folder = Path(config.state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    spool = Spool(folder / "spool", config.spool)
    ledger = Ledger(Path(config.ledger_file)) if config.ledger_file else None
    await spool.open()

    def committed(chunk: Chunk) -> None:
        if ledger is not None:
            ledger.committed(chunk)
        uplink.offer(chunk)

    outbox = Outbox(spool, clock, committed)
    release = version("vitalwire")
    store = _KnownStore(spool)
    uplink = Uplink(config.gateway, config.uplink, spool, clock, version=release, store_changed=store.changed)
    origin = max((device.origin for device in resolved.devices), default=Origin.REAL)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(outbox.run(), name="outbox")
            tasks.create_task(uplink.run(), name="uplink")
            session_id = await _open_session(resolved, spool, outbox, clock, origin)
            box = Source("", session_id, origin)
            sessions = [
                DeviceSession(
                    device,
                    Pipeline(device.id, has_clock=device.driver.has_clock, limits=resolved.limits, saved=spool.memo),
                    outbox,
                    clock,
                    session_id,
                )
                for device in resolved.devices
            ]
            heartbeat = Heartbeat(clock, outbox, spool, uplink, sessions, version=release, folder=folder)
            tasks.create_task(heartbeat.run(box, config.heartbeat_s, store.memos), name="heartbeat")
            tasks.create_task(_upkeep(spool, outbox, clock, box), name="upkeep")
            for session in sessions:
                tasks.create_task(session.run(), name=f"session {session.device.id}")
            if ready is not None:
                ready()
    finally:
        await spool.close()
        if ledger is not None:
            ledger.close()


async def _open_session(resolved: Resolved, spool: Spool, outbox: Outbox, clock: Clock, origin: Origin) -> str:
    """The session this box is in: the one it was in before a restart, or a new one."""
    if (known := spool.memo(_SESSION_MEMO)) is not None:
        return known.decode()
    session_id = secrets.token_hex(8)
    config = resolved.config.session
    opened = SessionEvent(
        session_id, config.kind, SessionPhase.OPENED, clock.now_us(), label=config.label or resolved.config.gateway
    )
    await outbox.append(
        Source("", session_id, origin), [opened], memos=[Memo(Lane.URGENT, _SESSION_MEMO, session_id.encode())]
    )
    return session_id


class _KnownStore:
    """The cloud's store as this box knows it; another one means that what was receipted may be gone."""

    def __init__(self, spool: Spool) -> None:
        self._store_id = self._saved = spool.memo(_STORE_MEMO)

    def changed(self, store_id: bytes) -> bool:
        """Takes note of a store id; whether it differs from the one before."""
        before, self._store_id = self._store_id, store_id
        return before is not None and before != store_id

    def memos(self) -> list[Memo]:
        """What is to be written with the next heartbeat."""
        if self._store_id is None or self._store_id == self._saved:
            return []
        self._saved = self._store_id
        return [Memo(Lane.ROUTINE, _STORE_MEMO, self._store_id)]


async def _upkeep(spool: Spool, outbox: Outbox, clock: Clock, box: Source) -> None:
    """Keeps the disk within its budgets: a Gap names what is given up before it goes."""
    while True:
        await asyncio.sleep(_UPKEEP_S)
        doomed = await spool.doomed(clock.now_us())
        gaps = [
            Gap(
                GapReason.OVERFLOW,
                lost.from_us,
                lost.to_us,
                lost.epoch,
                lost.lane.value,
                lost.first_seq,
                lost.last_seq,
            )
            for lost in doomed.lost
        ]
        if gaps:
            _log.warning("spool over budget: %d runs given up, named by gaps", len(gaps))
            await outbox.append(box, gaps)
        await spool.unlink(doomed)

"""The agent process, put together: devices → outbox → spool → uplink."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import msgspec

from edge.box_clock import BoxClock
from edge.box_session import BoxSession
from edge.commands import Commands, RestartWanted
from edge.config import EdgeConfig, Resolved
from edge.configuration import ConfigurationFile
from edge.device_session import DeviceSession
from edge.heartbeat import Heartbeat
from edge.identity import Identity
from edge.ledger import Ledger
from edge.outbox import Outbox, Source
from edge.pipeline import Pipeline
from edge.renewal import Renewal
from edge.spool import Chunk, Memo, Spool, spool_folder
from edge.uplinks import Uplinks
from wire.clock import Clock, SystemClock
from wire.configuration import ConfigError
from wire.messages import Lane
from wire.readings import Gap, GapReason, Origin
from wire.service import Service

_log = logging.getLogger(__name__)

_STORE_MEMO = "store"
_UNREADABLE_MEMO = "unreadable"
_UPKEEP_S = 2.0
# Five tries of the outbox: a disk that has no room for a Gap by then gets none but from what the Gap names.
_NAMING_S = 5.0
# A person who has just enrolled the box stands beside it.
_IDENTITY_S = 5.0
# What the unit gives a box to open its spool at the start (TimeoutStartSec); again it may take as long.
_OPENING_S = 900.0


async def keep(
    path: Path,
    *,
    clock: Clock | None = None,
    ready: Callable[[], None] | None = None,
    service: Service | None = None,
) -> None:
    """Runs one box as its configuration file says, again and again as commands change it, until cancelled.

    `ready` is called whenever its devices may connect; the watchdog of `service` is fed while loop and disk work.
    Raises ConfigError, the first time before anything starts.
    """
    box_clock = BoxClock(clock or SystemClock())
    configuration = ConfigurationFile(path, box_clock)
    while True:
        resolved, disk = configuration.start(), _Disk()
        # A task of its own: being told to end while it ends by itself is then not lost in the group within.
        async with asyncio.TaskGroup() as tasks:
            agent = tasks.create_task(_run(resolved, configuration, box_clock, ready, disk), name="agent")
            if service is not None:
                # Around the opening and closing of the spool too, which may take longer than the watchdog waits.
                _end_with(agent, tasks.create_task(service.feed_watchdog(disk.answer), name="watchdog"))
        _log.info("starting again with the configuration that is in force now")


def _end_with(task: asyncio.Task[None], other: asyncio.Task[None]) -> None:
    task.add_done_callback(lambda _: other.cancel())


async def _run(
    resolved: Resolved,
    configuration: ConfigurationFile,
    clock: BoxClock,
    ready: Callable[[], None] | None,
    disk: _Disk,
) -> None:
    """Runs until cancelled, or returns when the configuration is another one."""
    config = resolved.config
    folder = Path(config.state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    spool = Spool(spool_folder(config.state_dir), config.spool)
    ledger = Ledger(Path(config.ledger_file)) if config.ledger_file else None
    identity = _identity(config)
    is_cut_off = config.identity_dir is not None and identity is None
    await spool.open()
    disk.opened(spool)

    def committed(chunk: Chunk) -> None:
        if ledger is not None:
            ledger.committed(chunk)
        uplink.offer(chunk)

    outbox = Outbox(spool, clock, committed, lambda chunk: uplink.offer(chunk))
    release = version("vitalwire")
    store = _KnownStore(spool)
    renewal = Renewal(identity, clock) if identity else None
    commands = Commands(spool, outbox, clock, configuration, identity)
    # Without its command key a box cannot tell who speaks to it, whichever way it is reached: it takes none.
    ways = [] if is_cut_off else [one for one in (config.uplink, config.second_uplink) if one is not None]
    uplink = Uplinks(
        config.gateway,
        ways,
        spool,
        clock,
        version=release,
        store_changed=store.changed,
        cloud_said=clock.cloud_said,
        on_command=commands.receive,
        identity=identity,
    )
    origin = max((device.origin for device in resolved.devices), default=Origin.REAL)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(outbox.run(), name="outbox")
            tasks.create_task(uplink.run(), name="uplink")
            if renewal is not None:
                tasks.create_task(renewal.run(), name="renewal")
            session = BoxSession(config, spool, outbox, clock)
            tasks.create_task(_upkeep(spool, outbox, clock, session), name="upkeep")  # opening may wait for its room
            await session.open(origin)
            sessions = [
                DeviceSession(
                    device,
                    Pipeline(device.id, has_clock=device.driver.has_clock, limits=resolved.limits, saved=spool.memo),
                    outbox,
                    clock,
                    session,
                )
                for device in resolved.devices
            ]
            heartbeat = Heartbeat(
                clock, outbox, spool, uplink, commands, sessions, version=release, folder=folder, renewal=renewal
            )
            tasks.create_task(heartbeat.run(session, config.heartbeat_s, store.memos), name="heartbeat")
            tasks.create_task(commands.run(session, uplink), name="commands")
            tasks.create_task(commands.watch_trial(session, uplink), name="trial")
            tasks.create_task(_watch_unreadable(spool, outbox, clock, session), name="unreadable")
            if is_cut_off:
                outbox.counts["identity_unusable"] += 1
                tasks.create_task(_watch_identity(config), name="identity")
            for device_session in sessions:
                tasks.create_task(device_session.run(), name=f"session {device_session.device.id}")
            if ready is not None:
                ready()
    except* RestartWanted:
        pass
    finally:
        disk.closing()
        await spool.close()
        if ledger is not None:
            ledger.close()


def _identity(config: EdgeConfig) -> Identity | None:
    """Who the box is; a spoilt folder is said and must not keep it from measuring and ringing."""
    try:
        return Identity(Path(config.identity_dir), config.gateway) if config.identity_dir else None
    except ConfigError as error:
        _log.error("no uplink, nothing reaches the cloud: %s", error)
        return None


async def _watch_identity(config: EdgeConfig) -> None:
    """Raises RestartWanted once the folder is good: a person enrolled the box, or its disk is back."""
    assert config.identity_dir is not None
    while True:
        await asyncio.sleep(_IDENTITY_S)
        with suppress(ConfigError):
            await asyncio.to_thread(Identity, Path(config.identity_dir), config.gateway)
            raise RestartWanted


class _Disk:
    """What the watchdog asks: the spool while it is open, and before and after that the loop alone, for so long."""

    def __init__(self) -> None:
        self._is_open = asyncio.Event()
        self.closing()

    def opened(self, spool: Spool) -> None:
        """From now on this one is to answer."""
        self._spool = spool
        self._is_open.set()

    def closing(self) -> None:
        """The next has its time to open, in which nothing is asked of the disk."""
        self._is_open.clear()
        self._due_s = asyncio.get_running_loop().time() + _OPENING_S

    async def answer(self) -> None:
        """Returns while all is well."""
        if not self._is_open.is_set() and asyncio.get_running_loop().time() < self._due_s:
            return
        await self._is_open.wait()
        await self._spool.answer()


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


async def name_unreadable(spool: Spool, outbox: Outbox, clock: Clock, source: Source) -> None:
    """A Gap for every segment set aside, once, also when the box is killed in between."""
    saved = spool.memo(_UNREADABLE_MEMO)
    named = set(msgspec.msgpack.decode(saved, type=list[str])) if saved else set()
    aside = {f"{lane.value}/{path.stem}": lane for lane, path in spool.quarantined()}
    gaps = [
        Gap(GapReason.DISK, 0, clock.now_us(), lane=lane.value) for name, lane in aside.items() if name not in named
    ]
    if gaps:
        memo = Memo(Lane.URGENT, _UNREADABLE_MEMO, msgspec.msgpack.encode(sorted(aside)))
        await outbox.append(source, gaps, memos=[memo])


async def _watch_unreadable(spool: Spool, outbox: Outbox, clock: Clock, session: BoxSession) -> None:
    """Apart from upkeep: on a full disk it waits for the room that upkeep makes."""
    while True:
        await asyncio.sleep(_UPKEEP_S)
        await name_unreadable(spool, outbox, clock, session.source)


async def _upkeep(spool: Spool, outbox: Outbox, clock: Clock, session: BoxSession) -> None:
    while True:
        await asyncio.sleep(_UPKEEP_S)
        await keep_budgets(spool, outbox, clock, session.source)


async def keep_budgets(spool: Spool, outbox: Outbox, clock: Clock, source: Source) -> None:
    """Keeps the disk within its budgets once: what loses nothing goes at once, the rest after a Gap has named it.

    The Gap has the reserve for its room. If others have filled even that, it waits in memory, and is sent from there
    too, while what it names goes: only a kill within that second loses silently, and a box that waits on loses all.
    """
    await spool.unlink(await spool.doomed(clock.now_us(), may_lose=False))
    doomed = await spool.doomed(clock.now_us(), may_lose=True)
    gaps = [
        Gap(GapReason.OVERFLOW, lost.from_us, lost.to_us, lost.epoch, lost.lane.value, lost.first_seq, lost.last_seq)
        for lost in doomed.lost
    ]
    if gaps:
        _log.warning("spool over budget: %d runs given up, named by gaps", len(gaps))
        await _name(outbox, source, gaps)
    await spool.unlink(doomed)


async def _name(outbox: Outbox, source: Source, gaps: list[Gap]) -> None:
    """Returns when the Gaps are on disk, or wait in memory for a disk that refuses them. A slow one is waited for."""
    queued = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        naming = tasks.create_task(outbox.append(source, gaps, queued=queued), name="name losses")
        while not naming.done():
            await asyncio.wait([naming], timeout=_NAMING_S)
            if queued.is_set() and outbox.refuses(Lane.URGENT):
                naming.cancel()  # only the waiting ends: what is queued stays queued

"""Keeps one device in use: opens its link, runs its driver, stores what it yields, and starts again when it fails.

This is a restart barrier: one bad sensor must not stop the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from drivers.driver import DriverContext, LinkKind, LinkLost, Transfer
from edge.box_session import Before, BoxSession
from edge.config import Device, MllpOptions
from edge.outbox import Outbox, Source
from edge.pipeline import HandOver, Output, Pipeline
from wire.backoff import Backoff
from wire.clock import MICROSECONDS, Clock
from wire.readings import DeviceEvent, DeviceState, EventKind, Origin, Reading

_log = logging.getLogger(__name__)

# Slewing moves the wall clock by 0.05 % at most: this much between two arrivals is a clock that was set.
_STEP_US = MICROSECONDS

# A monitor sends at least every second or two: ten seconds of nothing is a fact a person must see.
SILENCE_ALARM_S = 10.0


class DeviceSession:
    """One configured device for the life of the agent."""

    def __init__(self, device: Device, pipeline: Pipeline, outbox: Outbox, clock: Clock, session: BoxSession) -> None:
        self.device = device
        self.context = DriverContext(clock, device.options)
        self.counts: Counter[str] = Counter()
        self.is_connected = False
        self._pipeline = pipeline
        self._outbox = outbox
        self._clock = clock
        self._session = session
        # A session once marked stays so: after a restart its devices are not more real than it.
        self.origin = max(device.origin, session.source.origin)
        self.turn = asyncio.Lock()  # the pipeline's state is one reader's at a time, and its output kept in order
        self._wall_ahead_us: int | None = None  # of the monotonic clock, at the last arrival
        self._last_heard_mono_us = clock.monotonic_us()
        self._has_spoken = False
        session.devices.append(self)

    def hand_over(self, now_us: int) -> HandOver:
        """Another patient from here on. Whoever calls it holds the turn."""
        return self._pipeline.hand_over(now_us)

    @property
    def pipeline_counts(self) -> Counter[str]:
        """What the pipeline dropped, by reason."""
        return self._pipeline.counts

    @property
    def state(self) -> DeviceState:
        """How the device is now, for the heartbeat."""
        silent_s = (self._clock.monotonic_us() - self._last_heard_mono_us) / MICROSECONDS if self._has_spoken else None
        return DeviceState(self.device.id, self.device.driver.name, self.is_connected, silent_s)

    async def run(self) -> None:
        """Until cancelled: the device, its silence watched."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_open(), name=f"device {self.device.id}")
            tasks.create_task(self._watch_silence(), name=f"silence {self.device.id}")

    async def _keep_open(self) -> None:
        backoff = Backoff(first_s=0.5, cap_s=30.0)
        while True:
            try:
                await self._serve(backoff)
            except LinkLost as error:
                await self._lost(error)
            except Exception:
                self.counts["driver_failed"] += 1
                _log.exception("device %s: driver %s failed", self.device.id, self.device.driver.name)
                await self._said_goodbye()
            await asyncio.sleep(backoff.next_s())

    async def _serve(self, backoff: Backoff) -> None:
        # Any: the link's type belongs to the driver's kind of link.
        opened: AbstractAsyncContextManager[Any] = open_link(self.device, self._clock)
        async with opened as link:
            while True:
                try:
                    await self._read(link, backoff)
                except LinkLost as error:
                    # A listening socket serves the next monitor: closing it would turn away one that is waiting.
                    if self.device.driver.link is not LinkKind.MLLP:
                        raise
                    await self._lost(error)

    async def _read(self, link: Any, backoff: Backoff) -> None:
        stream: AsyncIterator[Reading | Transfer] = self.device.driver.stream(link, self.context)
        async with aclosing(stream) as items:  # type: ignore[type-var]  # drivers are generators
            async for item in items:
                backoff.reset()
                await self._take(item)
        raise LinkLost("the driver ended")

    async def _lost(self, error: LinkLost) -> None:
        self.counts["link_lost"] += 1
        _log.info("device %s: link lost: %s", self.device.id, error)
        await self._said_goodbye()

    async def _take(self, item: Reading | Transfer) -> None:
        """Stores one item; when this returns the driver may acknowledge it."""
        transfer = item if isinstance(item, Transfer) else Transfer((item,))
        arrival_us = self._clock.now_us()
        self._last_heard_mono_us = self._clock.monotonic_us()
        self._notice_step(arrival_us - self._last_heard_mono_us)
        self._has_spoken = True
        async with self.turn:
            if transfer.simulated and self.origin is not Origin.DEMO:
                _log.warning("device %s says its data is simulated: carried as DEMO", self.device.id)
                self.origin = Origin.DEMO  # never back: simulated is never a patient
                await self._session.raise_origin(Origin.DEMO)
            # What the arrival itself means is stored apart: a resend's own records may be on disk already.
            heard = self._pipeline.heard(arrival_us)
            if not self.is_connected:
                self.is_connected = True
                heard.bodies.insert(0, DeviceEvent(EventKind.CONNECTED, arrival_us))
            await self._store(heard)
            # Encoding twelve leads takes longer than the event loop may wait.
            before = self._session.before
            output = await asyncio.to_thread(self._pipeline.process, transfer.readings, arrival_us, before)
            await self._store(output, transfer.key, before)

    def _notice_step(self, wall_ahead_us: int) -> None:
        """Tells the pipeline when the wall clock was set, which the monotonic one shows."""
        before_us, self._wall_ahead_us = self._wall_ahead_us, wall_ahead_us
        if before_us is not None and abs(wall_ahead_us - before_us) > _STEP_US:
            _log.info("device %s: the box's clock was set by %.1f s", self.device.id, (wall_ahead_us - before_us) / 1e6)
            self._pipeline.clock_stepped(wall_ahead_us - before_us)

    async def _store(self, output: Output, key: str | None = None, before: Before | None = None) -> None:
        if not output.bodies and not output.of_before:
            return
        source = Source(self.device.id, self._session.source.session_id, self.origin)
        others = None
        if before is not None and output.of_before:
            others = (Source(self.device.id, before.session_id, self.origin), output.of_before)
        await self._outbox.append(source, output.bodies, transfer=key, memos=output.memos, others=others)

    async def _said_goodbye(self) -> None:
        async with self.turn:
            if self.is_connected:
                self.is_connected = False
                await self._store(Output([DeviceEvent(EventKind.DISCONNECTED, self._clock.now_us())]))

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            silent_us = self._clock.monotonic_us() - self._last_heard_mono_us
            if silent_us >= SILENCE_ALARM_S * MICROSECONDS:
                async with self.turn:
                    await self._store(self._pipeline.silent(self._clock.now_us()))


def open_link(device: Device, clock: Clock) -> AbstractAsyncContextManager[Any]:
    """The device's link, not yet open; Any because each kind has its own type. Stacks load only where used."""
    if isinstance(device.link, MllpOptions):
        from drivers.links.mllp import open_mllp

        link = device.link
        return open_mllp(link.listen, clock, silence_s=link.silence_s, peers=link.peers)
    from drivers.links.gatt import GattOptions, open_gatt

    assert isinstance(device.link, GattOptions)
    return open_gatt(device.link, clock)

"""No, one or two ways to the cloud at once: alerts take every one, the rest the first that is up; commands come by any.

The cloud keeps once what comes twice, and the box does once what it is told twice: two ways never double anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from edge.identity import Identity
from edge.spool import Chunk, Spool
from edge.uplink import Uplink, UplinkConfig
from wire.clock import Clock
from wire.messages import Lane


class Uplinks:
    """The uplinks of one box, in order of preference."""

    def __init__(
        self,
        gateway: str,
        configs: Sequence[UplinkConfig],
        spool: Spool,
        clock: Clock,
        *,
        version: str,
        store_changed: Callable[[bytes], bool],
        cloud_said: Callable[[int, int, int], None] = lambda _cloud_us, _sent_us, _received_us: None,
        on_command: Callable[[bytes], None] = lambda _frame: None,
        identity: Identity | None = None,
    ) -> None:
        self.is_receipted = asyncio.Event()  # set by the first receipt of this process: a way up and back works
        self._spool = spool
        self.links = [
            Uplink(
                gateway,
                config,
                spool,
                clock,
                number=number,
                version=version,
                store_changed=store_changed,
                may_backfill=partial(self._leads, number),
                look_everywhere=self._look_for_backlog,
                cloud_said=cloud_said,
                receipted=self.is_receipted.set,
                on_command=on_command,
                identity=identity,
            )
            for number, config in enumerate(configs)
        ]

    @property
    def counts(self) -> Counter[str]:
        """What all of them counted."""
        total: Counter[str] = Counter()
        for link in self.links:
            total.update(link.counts)
        return total

    @property
    def is_connected(self) -> bool:
        """Whether any of them is up."""
        return any(link.is_connected for link in self.links)

    @property
    def receipted_mono_us(self) -> int | None:
        """When the cloud last said "stored", by the monotonic clock."""
        return max((at for link in self.links if (at := link.receipted_mono_us) is not None), default=None)

    def _leading(self) -> int:
        """The first that is up; the first of all when none is."""
        return next((number for number, link in enumerate(self.links) if link.is_connected), 0)

    def _leads(self, number: int) -> bool:
        return number == self._leading()

    def offer(self, chunk: Chunk) -> None:
        """A chunk just committed."""
        leading = self._leading()
        for link in self.links if chunk.lane is Lane.URGENT else self.links[leading : leading + 1]:
            link.offer(chunk)

    async def offer_again(self, lanes: Sequence[Lane]) -> None:
        """Sends everything still held of these lanes once more. Raises SpoolUnavailable."""
        await self._spool.reoffer(lanes)
        self._look_for_backlog()

    def _look_for_backlog(self) -> None:
        for link in self.links:
            link.look_for_backlog()

    async def run(self) -> None:
        """Runs all of them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number, link in enumerate(self.links, 1):
                tasks.create_task(link.run(), name=f"uplink {number}")

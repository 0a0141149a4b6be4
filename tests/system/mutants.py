"""Parts broken on purpose, to show that the system tests would notice: `python -m tests.system.mutants NAME PART …`."""

from __future__ import annotations

import sys

from vitalwire.__main__ import main


def skip_receipt_check() -> None:
    """Takes a batch as receipted as soon as it is published: the broker's word instead of the store's."""
    from edge.spool import Chunk
    from edge.uplink import Uplink, _Lane
    from wire.messages import Lane

    publish = Uplink._publish

    async def trusting(self: Uplink, client: object, name: Lane, lane: _Lane, chunks: list[Chunk]) -> None:
        await publish(self, client, name, lane, chunks)  # type: ignore[arg-type]
        for chunk in chunks:
            await self._spool.receipted(name, chunk.epoch, chunk.first_seq, chunk.last_seq)
            lane.window.receipted(chunk.epoch, chunk.first_seq, chunk.last_seq, self._clock.monotonic_us())

    Uplink._publish = trusting  # type: ignore[method-assign]


def forget_transfers() -> None:
    """Does not recognise what a device sends again."""
    from edge.spool import Spool

    Spool.knows_transfer = lambda self, lane, key: False  # type: ignore[method-assign]


def acknowledge_before_disk() -> None:
    """Answers the device as soon as its readings are in memory."""
    import asyncio

    from edge.outbox import Outbox

    append = Outbox.append
    under_way: set[asyncio.Future[None]] = set()

    async def hasty(self: Outbox, *arguments: object, **options: object) -> None:
        task = asyncio.ensure_future(append(self, *arguments, **options))  # type: ignore[arg-type]
        under_way.add(task)

    Outbox.append = hasty  # type: ignore[method-assign]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))

"""The box of `bench drain`: a live monitor, and behind it a backlog that is let go after a while.

`python -m bench._drain_box CLOUD.toml FOLDER RECORDS ALONE_S`

Prints a line at each step: `live`, `draining`, then `drained SECONDS`; ends after that when it is told to.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench._ambulances import Template, feed, gateway_id
from bench._box import Box
from bench._numbered import Numbered
from cloud.config import CloudConfig
from edge.ledger import Ledger
from edge.spool import Chunk, Facts
from wire.clock import MICROSECONDS, anchor
from wire.configuration import load
from wire.messages import EPOCH_BYTES, Lane, encode_record

LEDGER = "ledger.jsonl"
# As a monitor with twelve leads and a few numerics: each second of it was one commit.
_RECORDS_A_SECOND = 20
_SPACING_US = MICROSECONDS // _RECORDS_A_SECOND
_CHUNKS_A_COMMIT = 2000
_SETTLE_S = 3.0
_LOOK_S = 0.2


class _Past:
    """An earlier life of the box, with no link: its records as they lie in the spool."""

    def __init__(self, box: Box, ledger: Ledger, records: int) -> None:
        self._box = box
        self._ledger = ledger
        self._records = records
        self._epoch = secrets.token_bytes(EPOCH_BYTES)
        self._next_seq = dict.fromkeys(Lane, 0)

    async def write(self) -> None:
        """Puts all of them on the disk, many seconds in one transaction, and into the ledger."""
        ready: dict[Lane, list[Chunk]] = {lane: [] for lane in Lane}
        for chunk in self._chunks():
            chunks = ready[chunk.lane]
            chunks.append(chunk)
            if len(chunks) == _CHUNKS_A_COMMIT:
                await self._commit(chunks)
        for chunks in ready.values():
            if chunks:
                await self._commit(chunks)

    async def _commit(self, chunks: list[Chunk]) -> None:
        await self._box.spool.commit(chunks, Facts())
        for chunk in chunks:
            self._ledger.committed(chunk)
        chunks.clear()

    def _chunks(self) -> Iterator[Chunk]:
        numbered = Numbered()
        clock, source = self._box.clock, self._box.source
        now_us, boot_id, mono_us = clock.now_us(), clock.boot_id(), clock.monotonic_us()
        for first in range(0, self._records, _RECORDS_A_SECOND):
            gathered: dict[Lane, list[bytes]] = {}
            for number in range(first, min(first + _RECORDS_A_SECOND, self._records)):
                ago_us = (self._records - number) * _SPACING_US
                record = encode_record(
                    numbered.body(number, now_us - ago_us),
                    device_id=source.device_id,
                    session_id=source.session_id,
                    origin=source.origin,
                    boot_id=boot_id,
                    mono_us=max(0, mono_us - ago_us),
                )
                gathered.setdefault(numbered.lane(number), []).append(record)
            yield from (self._chunk(lane, records) for lane, records in gathered.items())

    def _chunk(self, lane: Lane, records: list[bytes]) -> Chunk:
        first_seq = self._next_seq[lane]
        self._next_seq[lane] += len(records)
        return Chunk(self._epoch, lane, first_seq, tuple(records), anchor(self._box.clock))


async def _main(config_path: str, folder: Path, records: int, alone_s: float) -> None:
    config = load(Path(config_path), CloudConfig)
    released = asyncio.Event()
    ledger = Ledger(folder / LEDGER)
    box = Box(config, gateway_id(0), folder / "spool", may_backfill=released.is_set)

    async def act() -> None:
        await _Past(box, ledger, records).write()
        await box.open_session()
        async with asyncio.TaskGroup() as tasks:
            # A screen knows a live block by its place behind all that it has seen.
            tasks.create_task(feed(box, Template(), first_block=records))
            await asyncio.sleep(_SETTLE_S)
            print("live", flush=True)
            await asyncio.sleep(alone_s)
            print("draining", flush=True)
            began = time.monotonic()
            released.set()
            box.uplink.look_for_backlog()
            while await _behind(box) > 0:
                await asyncio.sleep(_LOOK_S)
            print(f"drained {time.monotonic() - began:.2f}", flush=True)

    await box.live(act)


async def _behind(box: Box) -> int:
    """Records on the disk without a receipt, but for those that are live."""
    holdings = await box.spool.holdings()
    live = 4  # a block and a numeric under way, and those that were appended while the rest was counted
    return max(0, sum(lane.pending_records for lane in holdings.values()) - live)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

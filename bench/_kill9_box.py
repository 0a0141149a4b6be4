"""The box of `bench kill9`: appends numbered records at a rate and keeps an account of those whose append resolved.

`python -m bench._kill9_box CLOUD.toml FOLDER RATE`

Started again after a kill it goes on as a device would: what was never acknowledged is sent again under the same
transfer key. SIGTERM ends the appending; the process then drains and exits 0.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from bench._ambulances import gateway_id
from bench._box import Box
from bench._numbered import Numbered
from cloud.config import CloudConfig
from edge.ledger import Ledger
from wire.configuration import load

ACCOUNT = "accepted.txt"
LEDGER = "ledger.jsonl"
SPOOL = "spool"
# Full-policy: wait. A device has so many transfers unanswered at most; far more than one commit takes.
_UNANSWERED = 512
_DRAIN_LIMIT_S = 300.0


def accepted(folder: Path) -> set[int]:
    """The numbers whose append has resolved."""
    path = folder / ACCOUNT
    if not path.exists():
        return set()
    return {int(line) for line in path.read_text(encoding="ascii").splitlines()}


class _Device:
    """Hands records over at a rate; never forgets one that was not acknowledged."""

    def __init__(self, box: Box, folder: Path) -> None:
        self._box = box
        self._numbered = Numbered()
        self._accepted = accepted(folder)
        self._account = os.open(folder / ACCOUNT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._room = asyncio.Semaphore(_UNANSWERED)

    async def feed(self, rate: float, stop: asyncio.Event) -> None:
        """Appends until told to stop; returns when all that was handed over is acknowledged."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for count, number in enumerate(self._numbers()):
                if stop.is_set():
                    return
                await self._room.acquire()
                tasks.create_task(self._hand_over(number))
                await asyncio.sleep(max(0.0, began_s + count / rate - loop.time()))

    def _numbers(self) -> Iterator[int]:
        """Those never acknowledged first, then new ones."""
        following = max(self._accepted, default=-1) + 1
        yield from (number for number in range(following) if number not in self._accepted)
        while True:
            yield following
            following += 1

    async def _hand_over(self, number: int) -> None:
        body = self._numbered.body(number, self._box.clock.now_us())
        await self._box.outbox.append(self._box.source, [body], transfer=str(number))
        os.write(self._account, b"%d\n" % number)  # one write: kill -9 leaves whole lines
        self._room.release()


async def _main(config_path: str, folder: Path, rate: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = load(Path(config_path), CloudConfig)
    box = Box(config, gateway_id(0), folder / SPOOL, backoff_cap_s=2.0, ledger=Ledger(folder / LEDGER))

    async def act() -> None:
        await box.open_session()
        await _Device(box, folder).feed(rate, stop)
        await box.settled(_DRAIN_LIMIT_S)

    await box.live(act)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))

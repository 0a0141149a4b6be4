"""The boxes of `bench reconnect`, several hundred to a process: each a real spool, outbox and uplink.

`python -m bench._reconnect_boxes CLOUD.toml FOLDER ENDPOINT FIRST END`

Prints `up N` whenever the number of connected ones has changed. On SIGUSR1, sent while the broker is away, each appends
one more numeric.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from bench._ambulances import gateway_id
from bench._box import Box
from bench._numbered import Numbered
from cloud.config import CloudConfig
from wire.configuration import load

_LOOK_S = 0.05
# Of the records that bear numbers: those in the ROUTINE lane, since an alert would override the back-off.
BEFORE, DURING = 1, 2


async def _live(box: Box, outage: asyncio.Event, starting: asyncio.Semaphore) -> None:
    numbered = Numbered()

    async def append(number: int) -> None:
        await box.outbox.append(box.source, [numbered.body(number, box.clock.now_us())])

    async def act() -> None:
        await append(BEFORE)
        while not box.uplink.is_connected:
            await asyncio.sleep(_LOOK_S)
        starting.release()
        await outage.wait()
        await append(DURING)
        while True:  # stays connected until the process is ended
            await asyncio.sleep(3600)

    await starting.acquire()
    await box.live(act)


async def _main(config_path: str, folder: Path, endpoint: str, first: int, end: int) -> None:
    # Three lanes a spool, three files a lane, and a socket.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    config = load(Path(config_path), CloudConfig)
    outage = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, outage.set)
    boxes = [
        Box(config, gateway_id(number), folder / gateway_id(number), endpoint=endpoint) for number in range(first, end)
    ]
    starting = asyncio.Semaphore(32)
    async with asyncio.TaskGroup() as tasks:
        for box in boxes:
            tasks.create_task(_live(box, outage, starting))
        up = -1
        while True:
            if (now_up := sum(box.uplink.is_connected for box in boxes)) != up:
                up = now_up
                print(f"up {up}", flush=True)
            await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))

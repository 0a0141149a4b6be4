"""What the commands share: the error for a wrong call, and running a part until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from wire.service import Service


class UsageError(Exception):
    """The command cannot be run as it was called; the text is one sentence for a person."""


def run_until_stopped(part: Callable[[], Awaitable[None]], service: Service | None = None) -> int:
    """Runs a part until it ends, or SIGINT or SIGTERM cancels it; either way is a clean exit."""

    async def supervised() -> None:
        task = asyncio.ensure_future(part())
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if service is not None:
                service.stopping()
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise

    asyncio.run(supervised())
    return 0

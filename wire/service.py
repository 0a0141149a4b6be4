"""What a service manager is told: that this process is ready, that it still works, that it ends (sd_notify(3)).

Written here, since the whole protocol is one datagram.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

# Three in the time the manager allows: one that comes late is no failure.
_BEATS_A_LIMIT = 3


class Service:
    """systemd as NOTIFY_SOCKET and WATCHDOG_USEC name it; where it did not start us, everything here does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with @ and begins with a zero byte.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        limit_us, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
        is_watched = bool(self._address) and limit_us.isdecimal() and int(limit_us) > 0 and whose == str(os.getpid())
        self._beat_s = int(limit_us) / 1e6 / _BEATS_A_LIMIT if is_watched else None

    def ready(self) -> None:
        """It serves now."""
        self._say("READY=1")

    def stopping(self) -> None:
        """It was told to end, and does."""
        self._say("STOPPING=1")

    async def feed_watchdog(self, *answers: Callable[[], Awaitable[None]]) -> None:
        """Says that it works whenever every one of `answers` has returned: one that hangs brings the restart."""
        if self._beat_s is None:
            return
        while True:
            for answer in answers:
                await answer()
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._beat_s)

    def _say(self, state: str) -> None:
        if not self._address:
            return
        # A manager that cannot hear hears nothing for too long, and that is what it acts on.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            out.sendto(state.encode(), self._address)

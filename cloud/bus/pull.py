"""A standing pull: requests for messages are always outstanding, so a message arrives the moment it is stored.

`fetch` of nats-py lingers until its batch is full or its time is up, which would delay a receipt by up to a second.
"""

from __future__ import annotations

import asyncio
import secrets

import msgspec
from nats.aio.msg import Msg

from cloud.bus.bus import Delivery, Waiting

# While nothing arrives the broker says so at this interval; silence means that our request is lost.
HEARTBEAT_S = 2.0
_EXPIRES_S = 30.0
# Asked for and not yet taken: two group commits of the largest kind, so that one fills while the other is written.
_WINDOW = 512

_STATUS, _PENDING = "Status", "Nats-Pending-Messages"
_IDLE_HEARTBEAT, _REQUEST_EXPIRED = "100", "408"


class Pull:
    """Bookkeeping of one consumer's requests. The broker serves several requests in turn, so only their sum counts."""

    def __init__(self, stream: str, consumer: str) -> None:
        self.subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.inbox = f"_INBOX.{secrets.token_hex(8)}"
        self.last_heard_s = 0.0
        self.is_refused = False
        self._requested = 0  # asked for, neither delivered nor refused yet
        self._waiting = Waiting()
        self._changed = asyncio.Event()

    def forget_requests(self) -> None:
        """After a reconnect or repair the broker knows none of our requests."""
        self._requested = 0
        self.is_refused = False
        self.last_heard_s = asyncio.get_running_loop().time()

    def next_request(self) -> bytes | None:
        """A request to send now, when half of the window is free."""
        room = _WINDOW - self._requested - len(self._waiting)
        if room < _WINDOW // 2:
            return None
        self._requested += room
        return msgspec.json.encode(
            {"batch": room, "expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        )

    async def receive(self, message: Msg) -> None:
        """Takes in a message or the broker's word about a request."""
        self.last_heard_s = asyncio.get_running_loop().time()
        # Messages of MQTT clients carry headers of their own; only the broker's words come to the inbox itself.
        if not message.subject.startswith(self.inbox):
            self._requested = max(0, self._requested - 1)
            self._waiting.put(Delivery(message.subject, message.data, message.reply))
            if self._requested < _WINDOW // 2:
                self._changed.set()
            return
        headers = message.headers or {}
        status = headers.get(_STATUS, "")
        if status == _IDLE_HEARTBEAT:
            return
        if status == _REQUEST_EXPIRED:
            self._requested = max(0, self._requested - int(headers.get(_PENDING, self._requested)))
        else:  # no responders, consumer deleted, leadership changed: ask again after a look at the buffer
            self.is_refused = True
        self._changed.set()

    def wake(self) -> None:
        """Ends `wait_for_change` at once."""
        self._changed.set()

    async def wait_for_change(self) -> None:
        """Returns when a request may be due."""
        await self._changed.wait()
        self._changed.clear()

    async def take(self, most: int, most_bytes: int) -> list[Delivery]:
        """As Bus.take."""
        taken = await self._waiting.take(most, most_bytes)
        self._changed.set()
        return taken

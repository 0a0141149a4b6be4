"""The cloud's end of the bus: batches in from a JetStream buffer, receipts out, and a live copy before commit.

The buffer is not the truth: it may lose or repeat anything, and missing or repeated receipts put it right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StorageType, StreamConfig

from cloud.bus.bus import Delivery
from cloud.bus.pull import HEARTBEAT_S, Pull
from cloud.config import INGEST_USER, BrokerConfig, parse_address
from wire import topics
from wire.backoff import Backoff
from wire.commands import Command
from wire.messages import Receipt, encode_frame

_log = logging.getLogger(__name__)

STREAM = "vitalwire_up"
CONSUMER = "ingest"
_VERSION = topics.subject(topics.VERSION)
UP_SUBJECTS = f"{_VERSION}.*.up.>"
STATUS_SUBJECTS = f"{_VERSION}.*.status"

_ACK_WAIT_S = 30.0
# Above anything one ack_wait can hold unacknowledged, so that it never throttles.
_MAX_ACK_PENDING = 100_000
_RECONNECT_WAIT_S = 0.2
_LOST_DELIVERIES_S = 3 * HEARTBEAT_S
_CONNECT_TIMEOUT_S = 2

BusErrors = (nats.errors.Error, OSError, TimeoutError)


class JetStreamBus:
    """Connections to one broker; `run` keeps the buffer, its consumer and the standing pull alive."""

    def __init__(self, config: BrokerConfig, password: str) -> None:
        self._config, self._password = config, password
        self._pull = Pull(STREAM, CONSUMER)
        self._client = Client()
        self._live_client = Client()
        self._stale = asyncio.Event()

    async def __aenter__(self) -> JetStreamBus:
        await self._connect(self._client, "ingest", self._on_reconnect)
        try:
            # Its own connection: a burst waiting to be stored must not hold back the screens.
            await self._connect(self._live_client, "live", _nothing)
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._live_client.close()

    async def run(self) -> None:
        """Repairs whatever the broker lost and keeps pull requests outstanding, until cancelled."""
        await self._client.subscribe(
            self._pull.inbox + ".*", cb=self._pull.receive, pending_msgs_limit=0, pending_bytes_limit=0
        )
        backoff = Backoff(first_s=0.2, cap_s=5.0)
        while True:
            _honour_cancellation()
            try:
                await self._ensure_buffer()
                _honour_cancellation()
                backoff.reset()
                await self._keep_pulling()
            except BusErrors as error:
                delay_s = backoff.next_s()
                _log.warning("bus: %s; trying again in %.1f s", error, delay_s)
                await asyncio.sleep(delay_s)

    async def take(self, *, most: int, most_bytes: int) -> list[Delivery]:
        """As Bus.take; `mark` is the subject that acknowledges."""
        return await self._pull.take(most, most_bytes)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges what is committed; a lost acknowledgement only means one more delivery."""
        try:
            for delivery in deliveries:
                await self._client.publish(delivery.mark)
        except BusErrors as error:
            _log.warning("bus: acknowledgements not sent: %s", error)
        _honour_cancellation()

    async def send_receipts(self, receipts: Sequence[tuple[str, Receipt]]) -> None:
        """Tells each gateway what is committed; a lost receipt only means that it offers the batch again."""
        try:
            for gateway, receipt in receipts:
                await self._client.publish(topics.subject(topics.receipts(gateway)), encode_frame(receipt))
        except BusErrors as error:
            _log.warning("bus: receipts not sent: %s", error)
        _honour_cancellation()

    async def send_command(self, gateway: str, command: Command) -> None:
        """Sends one command; a lost one is sent again until it is answered."""
        try:
            await self._client.publish(topics.subject(topics.commands(gateway)), encode_frame(command))
        except BusErrors as error:
            _log.warning("bus: command not sent: %s", error)
        _honour_cancellation()

    async def listen(self, callback: Callable[[str, bytes], None]) -> None:
        """Calls back with (subject, payload) of everything gateways say from now on, before it is stored."""
        await self._listen(callback, UP_SUBJECTS, STATUS_SUBJECTS)

    async def listen_presence(self, callback: Callable[[str, bytes], None]) -> None:
        """As `listen`, of presence alone."""
        await self._listen(callback, STATUS_SUBJECTS)

    async def _listen(self, callback: Callable[[str, bytes], None], *subjects: str) -> None:
        async def receive(message: Msg) -> None:
            callback(message.subject, message.data)

        for subject in subjects:
            await self._live_client.subscribe(subject, cb=receive)
        _honour_cancellation()

    async def _connect(self, client: Client, name: str, on_reconnect: Callable[[], Awaitable[None]]) -> None:
        await client.connect(
            f"nats://{parse_address(self._config.client_listen)}",
            user=INGEST_USER,
            password=self._password,
            name=name,
            connect_timeout=_CONNECT_TIMEOUT_S,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # declared int, used as seconds
            ping_interval=5,
            error_cb=_log_error,
            reconnected_cb=on_reconnect,
            skip_subject_validation=True,
        )

    async def _on_reconnect(self) -> None:
        self._stale.set()
        self._pull.wake()

    async def _ensure_buffer(self) -> None:
        self._stale.clear()
        stream = StreamConfig(
            name=STREAM,
            subjects=[UP_SUBJECTS],
            max_age=self._config.buffer_max_age_s,
            max_bytes=self._config.buffer_max_bytes,
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            # The store knows what is new; the broker's own memory of message ids would only cost.
            duplicate_window=1.0,
        )
        consumer = ConsumerConfig(
            durable_name=CONSUMER,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_ACK_WAIT_S,
            max_ack_pending=_MAX_ACK_PENDING,
        )
        jetstream = self._client.jetstream()
        try:
            await jetstream.update_stream(stream)
        except nats.js.errors.NotFoundError:
            await jetstream.add_stream(stream)
        await jetstream.add_consumer(STREAM, consumer)
        self._pull.forget_requests()

    async def _keep_pulling(self) -> None:
        """Returns when the buffer has to be looked at again."""
        loop = asyncio.get_running_loop()
        while not self._stale.is_set() and not self._pull.is_refused:
            if request := self._pull.next_request():
                await self._client.publish(self._pull.subject, request, reply=self._pull.inbox + ".1")
                _honour_cancellation()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._pull.wait_for_change()
            except TimeoutError:
                if loop.time() - self._pull.last_heard_s > _LOST_DELIVERIES_S:
                    return


async def connect_bare(config: BrokerConfig, password: str) -> Client:
    """A plain connection as ingest, for tests and benchmarks that compare with the bare client."""
    return await nats.connect(
        f"nats://{parse_address(config.client_listen)}", user=INGEST_USER, password=password, max_reconnect_attempts=-1
    )


def _honour_cancellation() -> None:
    """nats-py swallows a cancellation that comes while it flushes; without this a task of ours would never end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _log_error(error: Exception) -> None:
    _log.debug("bus: %r", error)


async def _nothing() -> None:
    return None

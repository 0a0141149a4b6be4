"""The cloud's end of the bus over any MQTT 5 broker: batches in, receipts out, and a live copy before commit.

The broker keeps nothing for us while we are away (no persistent session): the boxes hold what is not receipted and
offer it again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cloud.bus.bus import Delivery, Waiting
from cloud.config import BrokerConfig, parse_endpoint
from cloud.counters import Counters
from wire import topics
from wire.backoff import Backoff
from wire.commands import Command
from wire.messages import Receipt, encode_frame

_log = logging.getLogger(__name__)
# The client calls every lost link an ERROR; ours is to reconnect, and to say so once.
_mqtt_log = logging.getLogger(f"{__name__}.mqtt")
_mqtt_log.setLevel(logging.CRITICAL)

UP_TOPICS = f"{topics.VERSION}/+/up/+"
STATUS_TOPICS = f"{topics.VERSION}/+/status"

# MQTT's Receive Maximum, what the broker may send us unacknowledged: two group commits of the largest kind, as of a
# JetStream pull. It bounds our memory while the store is slow; the broker queues the rest by its own limits.
WINDOW = 512
# A batch stays under 256 KiB (wire.messages); the embedded broker's max_payload is the same.
_PACKET_BYTES = 512 << 10
# Live frames not heard yet. Full policy: the oldest goes and is counted; it is only provisional.
_LIVE_FRAMES = 512
_TIMEOUT_S = 5.0
_KEEPALIVE_S = 15
_STEADY_S = 10.0  # a connection that lived this long was well: the next one is tried at once
_REFUSED = 0x80  # the first reason code that is a failure (MQTT 5, 2.4)

MqttErrors = (aiomqtt.MqttError, OSError, TimeoutError)


class _Mark(NamedTuple):
    """A message id means something on its own connection only."""

    client: aiomqtt.Client
    message_id: int  # 0 at QoS 0, which nobody acknowledges


class MqttBus:
    """Two connections to one broker, for ingest and for live listening; `run` makes them and makes them again."""

    def __init__(self, config: BrokerConfig, counters: Counters) -> None:
        self._config, self._counters = config, counters
        self._waiting = Waiting()
        self._client: aiomqtt.Client | None = None
        self._listeners: list[Callable[[str, bytes], None]] = []
        self._presence_listeners: list[Callable[[str, bytes], None]] = []

    async def run(self) -> None:
        """As Bus.run; a broker that is away or refuses us is tried until it does not."""
        backoff = Backoff(first_s=0.2, cap_s=5.0)
        loop = asyncio.get_running_loop()
        told = ""
        while True:
            began = loop.time()
            try:
                await self._connected()
            except* MqttErrors as group:
                self._counters.add("bus_lost")
                if loop.time() - began > _STEADY_S:
                    backoff.reset()
                    told = ""
                reason = str(group.exceptions[0])
                if reason != told:  # said once, then counted
                    _log.warning("bus: %s: %s", self._config.endpoint, reason)
                told = reason
            finally:
                self._client = None
                # What the broker never got an acknowledgement for, boxes offer again.
                self._waiting.clear()
            await asyncio.sleep(backoff.next_s())

    async def take(self, *, most: int, most_bytes: int) -> list[Delivery]:
        """As Bus.take; `mark` is a _Mark."""
        return await self._waiting.take(most, most_bytes)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """As Bus.settle."""
        for delivery in deliveries:
            mark: _Mark = delivery.mark
            if mark.client is self._client:
                _acknowledge(mark)

    async def send_receipts(self, receipts: Sequence[tuple[str, Receipt]]) -> None:
        """As Bus.send_receipts."""
        try:
            for gateway, receipt in receipts:
                if self._client is None:
                    raise aiomqtt.MqttError("no connection")
                await self._client.publish(topics.receipts(gateway), encode_frame(receipt), qos=0)
        except MqttErrors as error:
            _log.warning("bus: receipts not sent: %s", error)

    async def send_command(self, gateway: str, command: Command) -> None:
        """As Bus.send_command."""
        try:
            if self._client is None:
                raise aiomqtt.MqttError("no connection")
            await self._client.publish(topics.commands(gateway), encode_frame(command), qos=0)
        except MqttErrors as error:
            _log.warning("bus: command not sent: %s", error)

    async def listen(self, callback: Callable[[str, bytes], None]) -> None:
        """As Bus.listen; every connection begins with the presences the broker retains."""
        self._listeners.append(callback)

    async def listen_presence(self, callback: Callable[[str, bytes], None]) -> None:
        """As Bus.listen_presence, which begins like `listen`."""
        self._presence_listeners.append(callback)

    async def _connected(self) -> None:
        # Live first, on a connection of its own: whatever ingest stores, screens have heard, and a burst waiting to be
        # stored does not hold them back.
        async with self._open("live", live_queue(self._counters)) as live, self._open("ingest") as ingest:
            await _subscribe(live, STATUS_TOPICS, qos=0)
            await _subscribe(live, UP_TOPICS, qos=0)
            _acknowledge_by_hand(ingest)
            await _subscribe(ingest, UP_TOPICS, qos=1)
            self._client = ingest
            _log.info("bus: connected to %s", self._config.endpoint)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(live), name="bus live")
                tasks.create_task(self._receive(ingest), name="bus ingest")

    def _open(self, name: str, queue: type[asyncio.Queue[aiomqtt.Message]] | None = None) -> aiomqtt.Client:
        config, endpoint = self._config, parse_endpoint(self._config.endpoint)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own lack
        properties.ReceiveMaximum = WINDOW
        properties.MaximumPacketSize = _PACKET_BYTES
        return aiomqtt.Client(
            endpoint.host,
            endpoint.port,
            username=config.user or None,
            password=Path(config.password_file).read_text("ascii").strip() if config.password_file else None,
            # Always the same: a second cloud on this broker would receipt what the first has not stored, so the broker
            # lets only one of them stay and both say so.
            identifier=f"vw-cloud-{name}",
            protocol=aiomqtt.ProtocolVersion.V5,
            properties=properties,
            logger=_mqtt_log,
            tls_context=ssl.create_default_context(cafile=config.ca_file or None) if endpoint.is_tls else None,
            keepalive=_KEEPALIVE_S,
            timeout=_TIMEOUT_S,
            queue_type=queue,
            max_queued_incoming_messages=_LIVE_FRAMES if queue else None,  # ingest's is bounded by WINDOW
        )

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            mark = _Mark(client, message.mid)
            if (heard := _read(message)) is None:
                self._counters.add("bus_foreign")
                _acknowledge(mark)
            elif message.qos == 0 and len(self._waiting) >= WINDOW:
                # No box of ours sends batches like this: they pass the broker's window by, so ours stops them.
                self._counters.add("bus_overrun")
            else:
                self._waiting.put(Delivery(*heard, mark))

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if (heard := _read(message)) is None:
                continue
            is_presence = message.topic.matches(STATUS_TOPICS)
            for listener in self._listeners + (self._presence_listeners if is_presence else []):
                listener(*heard)


def live_queue(counters: Counters) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A kind of queue for the client, which only knows how to drop the newest."""

    class LiveQueue(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            if self.full():
                self.get_nowait()
                counters.add("live_frames_dropped")
            super().put_nowait(item)

    return LiveQueue


async def _subscribe(client: aiomqtt.Client, topic: str, *, qos: int) -> None:
    for code in await client.subscribe(topic, qos=qos):
        if (code if isinstance(code, int) else code.value) >= _REFUSED:
            raise aiomqtt.MqttError(f"not allowed to read {topic}")


def _read(message: aiomqtt.Message) -> tuple[str, bytes] | None:
    """Subject and payload; None when a user of the site's broker bears a name that, with a dot, would read as another
    gateway's."""
    topic = message.topic.value
    if "." in topic:
        return None
    assert isinstance(message.payload, bytes)
    return topics.subject(topic), message.payload


# aiomqtt acknowledges on arrival and offers no other way; the paho client inside it does.


def _acknowledge_by_hand(client: aiomqtt.Client) -> None:
    client._client.manual_ack_set(True)


def _acknowledge(mark: _Mark) -> None:
    if mark.message_id:
        mark.client._client.ack(mark.message_id, qos=1)

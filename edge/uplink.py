"""Carries chunks to the cloud over MQTT: live before backlog, each lane in its window, until receipts settle them.

A PUBACK means nothing here: only a Receipt for a run this box stored takes it out of the backlog.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import msgspec

from edge.spool import Chunk, Spool
from edge.window import Sent, Window
from wire import topics
from wire.backoff import Backoff
from wire.clock import Clock
from wire.messages import Batch, DecodeError, Lane, Presence, Receipt, decode_frame, encode_frame

_log = logging.getLogger(__name__)
# The client calls every lost link an ERROR; ours is to reconnect, and to say so once.
_mqtt_log = logging.getLogger(f"{__name__}.mqtt")
_mqtt_log.setLevel(logging.CRITICAL)

# Backlog batches stay small enough that live data never waits long behind one on a thin link.
_BACKLOG_BATCH_BYTES = 64 * 1024
# Full-policy: what does not fit is left to the backlog; every chunk is on disk.
_LIVE_CHUNKS = 64
# A PUBACK later than this means a half-open link: reconnect rather than wait for TCP to notice.
_PUBACK_TIMEOUT_S = 5.0
_KEEPALIVE_S = 15
_RECHECK_S = 1.0


class UplinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the cloud is: `mqtt://host:port` on loopback, `mqtts://host:port` anywhere else, tried in turn."""

    endpoints: tuple[str, ...] = ("mqtt://127.0.0.1:1883",)
    password_file: str | None = None
    ca_file: str | None = None
    window_kib: int = 512
    backoff_cap_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("endpoints: at least one mqtt://host:port or mqtts://host:port is needed")
        for endpoint in self.endpoints:
            url = urlsplit(endpoint)
            if url.scheme not in ("mqtt", "mqtts") or not url.hostname or not 0 < _port(endpoint) < 65536:
                raise ValueError(f"endpoints: {endpoint!r} is not mqtt://host:port or mqtts://host:port")
            if url.scheme == "mqtt" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise ValueError(f"endpoints: {endpoint!r}: only a loopback address may go without mqtts")


def _port(endpoint: str) -> int:
    """The port an endpoint names, or its scheme's own; 0 when it is none."""
    url = urlsplit(endpoint)
    try:
        port = url.port
    except ValueError:
        return 0
    return port or (8883 if url.scheme == "mqtts" else 1883)


class _Lane:
    """One lane's way out: what is new, what is on its way."""

    def __init__(self, window_bytes: int) -> None:
        self.live: deque[Chunk] = deque()
        self.window = Window(window_bytes)
        self.wake = asyncio.Event()
        self.has_backlog = True


class Uplink:
    """Runs for the life of the agent; `offer` takes committed chunks, receipts take them away."""

    def __init__(
        self,
        gateway: str,
        config: UplinkConfig,
        spool: Spool,
        clock: Clock,
        *,
        version: str,
        store_changed: Callable[[bytes], bool],
        on_command: Callable[[bytes], None] = lambda _frame: None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.is_connected = False
        self._was_connected = False
        self._gateway = gateway
        self._config = config
        self._spool = spool
        self._clock = clock
        self._version = version
        self._store_changed = store_changed
        self._on_command = on_command
        self.is_receipted = asyncio.Event()  # set by the first receipt of this process: the way up and back works
        self._lanes = {lane: _Lane(config.window_kib * 1024) for lane in Lane}
        self._urgent_waiting = asyncio.Event()

    def offer(self, chunk: Chunk) -> None:
        """A chunk just committed: sent as live data if the link is there, found on disk later if not."""
        lane = self._lanes[chunk.lane]
        if self.is_connected and lane.window.is_open and len(lane.live) < _LIVE_CHUNKS:
            lane.live.append(chunk)
        else:
            lane.has_backlog = True
        lane.wake.set()
        if chunk.lane is Lane.URGENT:
            self._urgent_waiting.set()

    async def run(self) -> None:
        """Connects and reconnects, over the endpoints in turn, until cancelled."""
        backoff = Backoff(first_s=1.0, cap_s=self._config.backoff_cap_s)
        attempt = 0
        is_failing = False
        while True:
            is_failing = is_failing and not self._was_connected
            self._was_connected = False
            endpoint = self._config.endpoints[attempt % len(self._config.endpoints)]
            attempt += 1
            try:
                await self._attempt(endpoint, backoff)
            except* (aiomqtt.MqttError, TimeoutError, OSError) as group:
                self.counts["uplink_lost"] += 1
                if self.is_connected or not is_failing:
                    _log.warning("uplink to %s lost: %s", endpoint, group.exceptions[0])
                is_failing = True  # said once, then counted
            finally:
                self._forget_link()
            await self._pause(backoff.next_s())

    async def _pause(self, delay_s: float) -> None:
        """Waits before the next attempt; an alert does not wait for a back-off."""
        self._urgent_waiting.clear()
        try:
            async with asyncio.timeout(delay_s):
                await self._urgent_waiting.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0.1)  # an alert in hand must not turn the loop into a storm

    def _forget_link(self) -> None:
        self.is_connected = False
        for lane in self._lanes.values():
            lane.live.clear()
            lane.window.forget()
            lane.has_backlog = True

    async def _attempt(self, endpoint: str, backoff: Backoff) -> None:
        """One connection, in a task of its own: a group that is failing already takes our end for part of that."""
        connected = asyncio.ensure_future(self._connected(endpoint, backoff))
        try:
            await asyncio.wait([connected])
        except asyncio.CancelledError:
            connected.cancel()
            await asyncio.gather(connected, return_exceptions=True)
            raise
        connected.result()

    async def _connected(self, endpoint: str, backoff: Backoff) -> None:
        async with self._client(endpoint) as client:
            await client.subscribe([(topics.receipts(self._gateway), 0), (topics.commands(self._gateway), 0)])
            await self._announce(client)
            self.is_connected = self._was_connected = True
            self.counts["uplink_connected"] += 1
            _log.info("uplink to %s is up", endpoint)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(client, backoff), name="uplink receipts")
                for lane in Lane:
                    tasks.create_task(self._send(client, lane), name=f"uplink {lane.value}")

    def _client(self, endpoint: str) -> aiomqtt.Client:
        url = urlsplit(endpoint)
        password = Path(self._config.password_file).read_text().strip() if self._config.password_file else None
        tls = ssl.create_default_context(cafile=self._config.ca_file) if url.scheme == "mqtts" else None
        last_will = Presence(online=False, version=self._version, time_us=0)
        client = aiomqtt.Client(
            url.hostname or "",
            _port(endpoint),
            username=self._gateway,
            password=password,
            identifier=f"vw-{self._gateway}",
            logger=_mqtt_log,
            tls_context=tls,
            keepalive=_KEEPALIVE_S,
            timeout=_PUBACK_TIMEOUT_S,
            will=aiomqtt.Will(topics.status(self._gateway), encode_frame(last_will), qos=1, retain=True),
        )
        client.pending_calls_threshold = 1000  # it logs about more calls in flight than this; windows bound ours
        return client

    async def _announce(self, client: aiomqtt.Client) -> None:
        presence = Presence(online=True, version=self._version, time_us=self._clock.now_us())
        await client.publish(topics.status(self._gateway), encode_frame(presence), qos=1, retain=True)

    async def _receive(self, client: aiomqtt.Client, backoff: Backoff) -> None:
        commands = topics.commands(self._gateway)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if message.topic.value == commands:
                self._on_command(message.payload)
                continue
            try:
                receipt = decode_frame(message.payload, Receipt)
            except DecodeError as error:
                self.counts["receipt_undecodable"] += 1
                _log.warning("receipt not understood: %s", error)
                continue
            backoff.reset()
            await self._settle(receipt)

    async def _settle(self, receipt: Receipt) -> None:
        run = (receipt.epoch, receipt.first_seq, receipt.last_seq)
        lane = self._lanes[receipt.lane]
        if lane.window.receipted(*run, self._clock.monotonic_us()):
            self._spool.settle(receipt.lane, *run)
        elif not await self._spool.receipted(receipt.lane, *run):
            self.counts["receipt_foreign"] += 1
            return
        self.counts["receipts"] += 1
        self.is_receipted.set()
        if self._store_changed(receipt.store_id):
            _log.warning("the cloud has another store than before: everything still held is offered again")
            await self.offer_again(tuple(Lane))
        lane.wake.set()

    async def offer_again(self, lanes: Sequence[Lane]) -> None:
        """Sends everything still held of these lanes once more. Raises SpoolUnavailable."""
        await self._spool.reoffer(lanes)
        for name in lanes:
            self._lanes[name].has_backlog = True
            self._lanes[name].wake.set()

    async def _send(self, client: aiomqtt.Client, name: Lane) -> None:
        lane = self._lanes[name]
        while True:
            lane.wake.clear()
            for sent in lane.window.expired(self._clock.monotonic_us()):
                self.counts["batches_resent"] += 1
                sent.tries += 1
                sent.sent_us = self._clock.monotonic_us()
                await client.publish(topics.up(self._gateway, name), sent.frame, qos=1)
            if chunks := await self._next(name, lane):
                await self._publish(client, name, lane, chunks)
                continue
            await self._wait(lane)

    async def _next(self, name: Lane, lane: _Lane) -> list[Chunk]:
        """Live chunks newest last but ahead of any backlog; then the backlog, oldest first."""
        if not lane.window.is_open:
            return []
        while lane.live:
            chunk = lane.live.popleft()
            if not lane.window.holds(chunk.epoch, chunk.first_seq, chunk.last_seq):
                return [chunk]
        if not lane.has_backlog:
            return []
        chunks = await self._spool.backlog(name, lane.window.busy, _BACKLOG_BATCH_BYTES)
        if lane.live:
            return await self._next(name, lane)  # live came while the disk was read
        lane.has_backlog = bool(chunks)
        return chunks

    async def _publish(self, client: aiomqtt.Client, name: Lane, lane: _Lane, chunks: list[Chunk]) -> None:
        records = [msgspec.Raw(record) for chunk in chunks for record in chunk.records]
        anchors = {chunk.anchor.boot_id: chunk.anchor for chunk in chunks}
        batch = Batch(chunks[0].epoch, name, chunks[0].first_seq, tuple(anchors.values()), records)
        # Waveform blocks are compressed already; the rest shrinks well as a batch.
        frame = encode_frame(batch, compress=name is not Lane.BULK)
        lane.window.opened(Sent(batch.epoch, batch.first_seq, batch.last_seq, frame, self._clock.monotonic_us()))
        self.counts["batches_sent"] += 1
        self.counts["bytes_sent"] += len(frame)
        await client.publish(topics.up(self._gateway, name), frame, qos=1)

    async def _wait(self, lane: _Lane) -> None:
        """Until there is something to send or to send again."""
        expiry_us = lane.window.next_expiry_us()
        wait_s = _RECHECK_S if expiry_us is None else (expiry_us - self._clock.monotonic_us()) / 1e6
        try:
            async with asyncio.timeout(max(0.001, wait_s)):
                await lane.wake.wait()
        except TimeoutError:
            return

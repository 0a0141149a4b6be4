"""Carries batches to the cloud over MQTT and receipts back.

A PUBACK means nothing here but that the link lives: only a Receipt for a run this box stored takes it out of the
backlog.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import msgspec

from edge.budget import Budget
from edge.dispatch import Dispatch
from edge.identity import Identity, IdentityError
from edge.spool import Chunk, Spool, SpoolUnavailable
from edge.trust import trusting, trusting_whenever
from edge.window import Sent, way_us
from wire import topics
from wire.backoff import Backoff
from wire.clock import Clock
from wire.messages import DecodeError, Lane, Presence, Receipt, decode_frame, encode_frame

_log = logging.getLogger(__name__)
# The client calls every lost link an ERROR; ours is to reconnect, and to say so once.
_mqtt_log = logging.getLogger(f"{__name__}.mqtt")
_mqtt_log.setLevel(logging.CRITICAL)

# With something on its way, a link that says nothing for so long is half-open: reconnect rather than wait for TCP. The
# largest batch under way has its time beyond that, since its PUBACK cannot come earlier (edge/window.py). After twice
# 15 s the keepalive gives up whatever is under way: 60 KB on the slowest link, twice a usual chunk.
_SILENCE_US = 10_000_000
_LOOK_S = 1.0
_CONNECT_S = 10.0
# A PUBACK is not waited for; this only frees what the client library keeps of a batch.
_PUBACK_S = 600.0
_IN_FLIGHT = 10_000  # above what the windows let out: they are the limit, not the client's own
_KEEPALIVE_S = 15
_LONGEST_BACKOFF_S = 600.0
# A next certificate that is refused costs a reconnection each time, and the one before still works.
_TRY_NEXT_AGAIN_US = 3600 * 1_000_000


class UplinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the cloud is: `mqtt://host:port` on loopback, `mqtts://host:port` anywhere else, tried in turn.

    `cert_file` is a certificate with its key, for the broker of a site that is its own authority; an enrolled box has
    its own.
    """

    endpoints: tuple[str, ...] = ("mqtt://127.0.0.1:1883",)
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    window_kib: int = 512
    # A broker that restarts loses all its boxes at once: 2,000 of them come back as 500 a second.
    backoff_first_s: float = 4.0
    backoff_cap_s: float = 30.0
    # For metered links; URGENT is never held back.
    routine_kib_per_h: int | None = None
    bulk_kib_per_h: int | None = None

    def budget(self, lane: Lane) -> Budget:
        """What a lane may send in an hour."""
        kib = {Lane.ROUTINE: self.routine_kib_per_h, Lane.BULK: self.bulk_kib_per_h}.get(lane)
        return Budget(None if kib is None else kib * 1024)

    def __post_init__(self) -> None:
        for name in ("window_kib", "routine_kib_per_h", "bulk_kib_per_h"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: {value} is not at least 1")
        for name in ("backoff_first_s", "backoff_cap_s"):
            if not 0 < getattr(self, name) <= _LONGEST_BACKOFF_S:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0 and at most {_LONGEST_BACKOFF_S:g}")
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
        number: int = 0,
        may_backfill: Callable[[], bool] = lambda: True,
        look_everywhere: Callable[[], None] = lambda: None,
        cloud_said: Callable[[int, int, int], None] = lambda _cloud_us, _sent_us, _received_us: None,
        receipted: Callable[[], None] = lambda: None,
        on_command: Callable[[bytes], None] = lambda _frame: None,
        identity: Identity | None = None,
    ) -> None:
        self.is_connected = False
        self.receipted_mono_us: int | None = None  # when the cloud last said "stored"
        self._was_connected = False
        self._gateway = gateway
        self._config = config
        self._spool = spool
        self._clock = clock
        self._version = version
        self._number = number
        self._look_everywhere = look_everywhere
        self._receipted = receipted
        self._on_command = on_command
        self._identity = identity
        self._next_tried_us: dict[str, int] = {}  # when the next certificate was last put to the test, by endpoint
        self._store_changed = store_changed
        self._dispatch = Dispatch(
            spool,
            clock,
            window_bytes=config.window_kib * 1024,
            budgets={lane: config.budget(lane) for lane in Lane},
            may_backfill=may_backfill,
            cloud_said=cloud_said,
        )
        self.counts = self._dispatch.counts
        self._heard_us = 0
        self._under_way: list[int] = []  # bytes of each batch without its PUBACK, a second copy counted too
        self._urgent_waiting = asyncio.Event()

    def offer(self, chunk: Chunk) -> None:
        """A chunk just committed: sent as live data if the link is there, found on disk later if not."""
        self._dispatch.offer(chunk, is_connected=self.is_connected)
        if chunk.lane is Lane.URGENT:
            self._urgent_waiting.set()

    def look_for_backlog(self) -> None:
        """Something may lie on the disk that this uplink is to send."""
        self._dispatch.look_for_backlog()

    async def run(self) -> None:
        """Connects and reconnects until cancelled: to the first endpoint that answers, in the order of preference."""
        cap_s = self._config.backoff_cap_s
        backoff = Backoff(first_s=min(self._config.backoff_first_s, cap_s), cap_s=cap_s)
        attempt = 0
        is_failing = False
        while True:
            is_failing = is_failing and not self._was_connected
            attempt = 0 if self._was_connected else attempt
            self._was_connected = False
            endpoint = self._config.endpoints[attempt % len(self._config.endpoints)]
            attempt += 1
            try:
                await self._attempt(endpoint, backoff)
            except* (aiomqtt.MqttError, TimeoutError, OSError, IdentityError) as group:
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
        self._dispatch.forget_link()
        self._look_everywhere()

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
        is_tls = urlsplit(endpoint).scheme == "mqtts"
        certificate = self._certificate(endpoint) if is_tls else None
        tls = self._tls(certificate) if is_tls else None
        async with self._client(endpoint, tls, self._client_id(certificate)) as client:
            await client.subscribe([(topics.receipts(self._gateway), 0), (topics.commands(self._gateway), 0)])
            await self._announce(client)
            self.is_connected = self._was_connected = True
            self.counts["uplink_connected"] += 1
            if self._identity is not None and certificate is not None:
                self._identity.worked(certificate)
            _log.info("uplink to %s is up", endpoint)
            self._heard_us = self._clock.monotonic_us()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(client, backoff), name="uplink receipts")
                tasks.create_task(self._dispatch.remind(), name="uplink reminder")
                tasks.create_task(self._notice_silence(), name="uplink silence")
                tasks.create_task(self._notice_next_certificate(endpoint), name="uplink certificate")
                for lane in Lane:
                    tasks.create_task(self._send(client, tasks, lane), name=f"uplink {lane.value}")

    async def _notice_silence(self) -> None:
        """Raises TimeoutError for a link on which batches leave and nothing comes back."""
        while True:
            await asyncio.sleep(_LOOK_S)
            since_us = self._dispatch.waiting_since_us()
            if since_us is None:
                continue
            allowed_us = _SILENCE_US + way_us(max(self._under_way, default=0))
            if self._clock.monotonic_us() - max(self._heard_us, since_us) > allowed_us:
                raise TimeoutError(f"nothing came back for {allowed_us / 1e6:g} s")

    async def _notice_next_certificate(self, endpoint: str) -> None:
        """Raises ConnectionAbortedError when there is one to try, while the one before would still do."""
        while not self._is_next_to_try(endpoint):
            await asyncio.sleep(_LOOK_S)
        raise ConnectionAbortedError("the next certificate is to be tried")

    def _is_next_to_try(self, endpoint: str) -> bool:
        if self._identity is None or not self._identity.is_next_waiting:
            return False
        tried_us = self._next_tried_us.get(endpoint)  # one that does not answer says nothing for another
        return tried_us is None or self._clock.monotonic_us() - tried_us > _TRY_NEXT_AGAIN_US

    def _certificate(self, endpoint: str) -> Path | None:
        """What to come in with: the next certificate now and then until it has worked, else the one that does."""
        if self._identity is None:
            return Path(self._config.cert_file) if self._config.cert_file else None
        if self._is_next_to_try(endpoint):
            self._next_tried_us[endpoint] = self._clock.monotonic_us()
            return self._identity.next
        return self._identity.current

    def _tls(self, certificate: Path | None) -> ssl.SSLContext:
        if self._identity is not None and certificate is not None:
            return self._identity.context(certificate, self._clock)
        if self._config.ca_file is not None:
            context = trusting_whenever(Path(self._config.ca_file), self._clock)
        else:
            context = trusting(None)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def _client_id(self, certificate: Path | None) -> str:
        """The same for every connection of an uplink: a new one ends the old one, and its last will with it."""
        name = f"vw-{self._gateway}"
        if self._identity is not None and certificate is not None:
            # Or any other box that a broker lets in could end this one's connection by bearing its name.
            name += f"-{self._identity.serial(certificate)}"
        return f"{name}-{self._number}" if self._number else name

    def _client(self, endpoint: str, tls: ssl.SSLContext | None, client_id: str) -> aiomqtt.Client:
        url = urlsplit(endpoint)
        password = Path(self._config.password_file).read_text().strip() if self._config.password_file else None
        client = aiomqtt.Client(
            url.hostname or "",
            _port(endpoint),
            username=None if self._identity is not None and tls is not None else self._gateway,
            password=password,
            identifier=client_id,
            logger=_mqtt_log,
            tls_context=tls,
            keepalive=_KEEPALIVE_S,
            timeout=_CONNECT_S,
            max_inflight_messages=_IN_FLIGHT,
            will=self._last_will(),
        )
        client._client.connect_timeout = _CONNECT_S  # its own 5 s are for a whole TLS handshake: too few on a slow link
        client.pending_calls_threshold = _IN_FLIGHT  # it logs about more calls in flight than this; windows bound ours
        return client

    def _last_will(self) -> aiomqtt.Will | None:
        """Only the first uplink speaks for the box: losing another one does not make it offline."""
        if self._number:
            return None
        offline = Presence(online=False, version=self._version, time_us=0)
        return aiomqtt.Will(topics.status(self._gateway), encode_frame(offline), qos=1, retain=True)

    async def _announce(self, client: aiomqtt.Client) -> None:
        if self._number:
            return
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
        self._heard_us = self._clock.monotonic_us()
        if not await self._dispatch.settle(receipt):
            return
        self.receipted_mono_us = self._heard_us
        self._receipted()
        if self._store_changed(receipt.store_id):
            _log.warning("the cloud has another store than before: everything still held is offered again")
            await self._reoffer()

    async def _reoffer(self) -> None:
        """Offers everything again, once the disk can note it: no receipt is read before."""
        while True:
            try:
                await self._spool.reoffer(tuple(Lane))
            except SpoolUnavailable as error:
                _log.error("%s; trying again", error)
                await asyncio.sleep(_LOOK_S)
            else:
                break
        self._dispatch.look_for_backlog()
        self._look_everywhere()

    async def _send(self, client: aiomqtt.Client, tasks: asyncio.TaskGroup, lane: Lane) -> None:
        while True:
            sent = await self._dispatch.next(lane)
            # Its PUBACK is not waited for: the windows bound how many are under way.
            tasks.create_task(self._publish(client, lane, sent), name=f"uplink batch {lane.value}")
            await asyncio.sleep(0)  # the socket gets its turn between two batches

    async def _publish(self, client: aiomqtt.Client, lane: Lane, sent: Sent) -> None:
        size = len(sent.frame)
        self._under_way.append(size)
        try:
            await client.publish(topics.up(self._gateway, lane), sent.frame, qos=1, timeout=_PUBACK_S)
        finally:
            self._under_way.remove(size)
        self._heard_us = self._clock.monotonic_us()
        self._dispatch.carried(lane, sent)

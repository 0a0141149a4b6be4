"""A bad network between a box and its broker: a TCP proxy of ours whose weather can be changed at any moment.

It reads the packets a box sends (MQTT 3.1.1), so that it can count batches and answer them in the broker's place.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from wire.messages import Batch, DecodeError, decode_frame
from wire.runs import RunSet

_PIECE_BYTES = 1400  # one Ethernet frame's worth: what is lost or late at once
# Full policy: reading waits, so that TCP slows the sender as a full router queue would.
_QUEUED_BYTES = 256 * 1024
_CONNECT_S = 5.0
# TCP's first retransmission timeout on Linux; it doubles with every loss in a row.
_RETRANSMIT_S = 0.2
_MOST_RETRANSMITS = 5
_PUBLISH, _PUBACK, _QOS_MASK = 0x30, 0x40, 0x06


@dataclass(frozen=True)
class Weather:
    """What a link does. `is_up_dead` and `is_down_dead` swallow a direction: that connection never recovers, which is
    what half-open means. `answers_batches` says PUBACK to every batch and throws it away."""

    delay_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float | None = None
    is_up_dead: bool = False
    is_down_dead: bool = False
    answers_batches: bool = False


FAIR = Weather()


@dataclass
class Traffic:
    """Batches a box published, and the part of them it had not published before, in bytes of MQTT payload."""

    published: int = 0
    fresh: int = 0
    seen: dict[tuple[bytes, str], RunSet] = field(default_factory=dict)

    def count(self, payload: bytes) -> None:
        """Notes one batch; what is no batch of ours is all fresh."""
        self.published += len(payload)
        try:
            batch = decode_frame(payload, Batch)
        except DecodeError:
            self.fresh += len(payload)
            return
        runs = self.seen.setdefault((batch.epoch, batch.lane), RunSet())
        fresh = sum(last - first + 1 for first, last in runs.add(batch.first_seq, batch.last_seq))
        self.fresh += round(len(payload) * fresh / len(batch.records))


class BadNet:
    """One box's way to the broker; `async with listening(...)` opens it."""

    def __init__(self, broker_port: int, *, seed: int) -> None:
        self.port = 0
        self.weather = FAIR
        self.traffic = Traffic()
        self.dropped_batches = 0
        self._broker_port = broker_port
        self._chance = random.Random(seed)
        self._connections: set[_Connection] = set()

    def reset(self) -> None:
        """Every connection ends at once, as after a change of network."""
        for connection in list(self._connections):
            connection.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        connection = _Connection(self, (reader, writer), broker, self._chance)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            connection.abort()


@asynccontextmanager
async def listening(broker_port: int, *, seed: int) -> AsyncIterator[BadNet]:
    """A link on a free port of its own."""
    net = BadNet(broker_port, seed=seed)
    server = await asyncio.start_server(net._serve, "127.0.0.1", 0)
    net.port = server.sockets[0].getsockname()[1]
    try:
        yield net
    finally:
        server.close()
        net.reset()


class _Connection:
    """One box's connection: two directions, each with its own queue."""

    def __init__(
        self,
        net: BadNet,
        box: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        chance: random.Random,
    ) -> None:
        self._net, self._box, self._broker = net, box, broker
        self._up = _Direction(net, broker[1], chance)
        self._down = _Direction(net, box[1], chance)
        self._up_packets, self._down_packets = PacketReader(), PacketReader()

    async def run(self) -> None:
        """Until either end closes."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._read_up(), name="up"),
                tasks.create_task(self._read_down(), name="down"),
                tasks.create_task(self._up.run(), name="up queue"),
                tasks.create_task(self._down.run(), name="down queue"),
            ]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                task.cancel()

    def abort(self) -> None:
        """Ends both ends without a goodbye."""
        for _reader, writer in (self._box, self._broker):
            writer.transport.abort()

    async def _read_up(self) -> None:
        reader = self._box[0]
        while piece := await _read(reader):
            for packet in self._up_packets.feed(piece):
                await self._take(packet)

    async def _take(self, packet: bytes) -> None:
        weather = self._net.weather
        batch = batch_of(packet)
        if batch is not None and not weather.answers_batches:
            self._net.traffic.count(batch.payload)
        if batch is not None and weather.answers_batches:
            self._net.dropped_batches += 1
            await self._down.put(bytes((_PUBACK, 2)) + batch.packet_id)
            return
        self._up.is_dead |= weather.is_up_dead
        await self._up.put(packet)

    async def _read_down(self) -> None:
        reader = self._broker[0]
        while piece := await _read(reader):
            self._down.is_dead |= self._net.weather.is_down_dead
            for packet in self._down_packets.feed(piece):  # whole ones: an answer of ours may go between two
                await self._down.put(packet)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(64 * 1024)
    except OSError:
        return b""


class _Direction:
    """Bytes under way in one direction, in order."""

    def __init__(self, net: BadNet, writer: asyncio.StreamWriter, chance: random.Random) -> None:
        self.is_dead = False
        self._net, self._writer, self._chance = net, writer, chance
        self._queue: deque[tuple[float, bytes]] = deque()  # (when it arrived at the router, bytes)
        self._queued = 0
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Takes bytes in, waiting while the queue is full."""
        while self._queued >= _QUEUED_BYTES:
            self._changed.clear()
            await self._changed.wait()
        arrived_s = asyncio.get_running_loop().time()
        for at in range(0, len(data), _PIECE_BYTES):
            self._queue.append((arrived_s, data[at : at + _PIECE_BYTES]))
        self._queued += len(data)
        self._changed.set()

    async def run(self) -> None:
        """Lets bytes out when the weather lets them, until the other end is gone."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._changed.clear()
                await self._changed.wait()
            arrived_s, piece = self._queue.popleft()
            weather = self._net.weather
            held_s = arrived_s + weather.delay_s - loop.time() + self._lost_s(weather)
            if weather.bytes_per_s is not None:
                held_s = max(0.0, held_s) + len(piece) / weather.bytes_per_s
            if held_s > 0:
                await asyncio.sleep(held_s)
            self._queued -= len(piece)
            self._changed.set()
            if self.is_dead:
                continue
            try:
                self._writer.write(piece)
                await self._writer.drain()
            except OSError:
                return

    def _lost_s(self, weather: Weather) -> float:
        """How long TCP takes to notice and repair what the weather loses."""
        lost_s, wait_s = 0.0, _RETRANSMIT_S
        for _ in range(_MOST_RETRANSMITS):
            if self._chance.random() >= weather.loss:
                break
            lost_s += wait_s
            wait_s *= 2
        return lost_s


class PacketReader:
    """Cuts a stream into MQTT packets (MQTT 3.1.1, 2.2)."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The packets now complete."""
        self._rest += data
        packets = []
        while (length := _packet_length(self._rest)) is not None and len(self._rest) >= length:
            packets.append(bytes(self._rest[:length]))
            del self._rest[:length]
        return packets


def _packet_length(data: bytes | bytearray) -> int | None:
    """Of the first packet, header included; None while its length is not there yet."""
    remaining = 0
    for index, byte in enumerate(data[1:5]):
        remaining |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return 2 + index + remaining
    return None


@dataclass(frozen=True)
class PublishedBatch:
    """A PUBLISH of a batch at QoS 1."""

    packet_id: bytes
    payload: bytes


def batch_of(packet: bytes) -> PublishedBatch | None:
    """The batch in a packet, None when it is another packet."""
    if packet[0] & 0xF0 != _PUBLISH or not packet[0] & _QOS_MASK:
        return None
    at = 2
    while packet[at - 1] & 0x80:
        at += 1
    topic_end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
    if b"/up/" not in packet[at + 2 : topic_end]:
        return None
    return PublishedBatch(packet[topic_end : topic_end + 2], packet[topic_end + 2 :])

"""The laboratory's network does what its weather says, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bench._bad_net import BadNet, PacketReader, Weather, batch_of, listening
from tests.cloud.cloud_frames import frame, heart_rate
from wire.messages import Batch, decode_frame

_PATIENCE_S = 5.0
TOPIC = b"vw/1/amb-07/up/routine"


def packet(payload: bytes, topic: bytes = TOPIC, packet_id: int = 7) -> bytes:
    """A PUBLISH at QoS 1 (MQTT 3.1.1, 3.3)."""
    body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + payload
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes((0x32,)) + bytes(digits) + body


class Broker:
    """Hears everything and answers each piece with a PINGRESP."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            self.heard += piece
            writer.write(b"\xd0\x00")
        writer.close()

    async def has_heard(self, count: int) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.heard) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def link() -> AsyncIterator[tuple[BadNet, Broker, asyncio.StreamReader, asyncio.StreamWriter]]:
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with listening(server.sockets[0].getsockname()[1], seed=1) as net:
        reader, writer = await asyncio.open_connection("127.0.0.1", net.port)
        yield net, broker, reader, writer
        writer.transport.abort()
    server.close()


async def read(reader: asyncio.StreamReader, count: int) -> bytes:
    async with asyncio.timeout(_PATIENCE_S):
        return await reader.readexactly(count)


async def test_fair_weather_changes_nothing_and_counts_what_is_new() -> None:
    sent = packet(frame([heart_rate(80)] * 3, 1))
    async with link() as (net, broker, reader, writer):
        writer.write(sent + sent)
        await broker.has_heard(2 * len(sent))
        assert broker.heard == sent + sent
        assert await read(reader, 2) == b"\xd0\x00"
        assert net.traffic.published == 2 * net.traffic.fresh > 0


async def test_a_broker_that_acknowledges_and_drops_says_so_and_passes_nothing_on() -> None:
    async with link() as (net, broker, reader, writer):
        net.weather = Weather(answers_batches=True)
        other = packet(b"", b"vw/1/amb-07/status")
        writer.write(packet(frame([heart_rate(80)]), packet_id=515) + other)
        assert await read(reader, 4) == b"\x40\x02\x02\x03"
        await broker.has_heard(len(other))
        assert (broker.heard, net.dropped_batches, net.traffic.published) == (other, 1, 0)


async def test_a_half_open_connection_stays_so_when_the_weather_clears() -> None:
    ping = b"\xc0\x00"
    async with link() as (net, broker, _reader, writer):
        net.weather = Weather(is_up_dead=True)
        writer.write(ping)
        await asyncio.sleep(0.05)
        net.weather = Weather()
        writer.write(ping)
        second_reader, second = await asyncio.open_connection("127.0.0.1", net.port)
        second.write(b"\xe0\x00")
        assert await read(second_reader, 2) == b"\xd0\x00"
        assert broker.heard == b"\xe0\x00"
        second.transport.abort()


async def test_delay_and_bandwidth_hold_bytes_back() -> None:
    loop = asyncio.get_running_loop()
    for weather, least_s in ((Weather(delay_s=0.2), 0.4), (Weather(bytes_per_s=1000), 0.2), (Weather(loss=1.0), 5.0)):
        async with link() as (net, _broker, reader, writer):
            net.weather = weather
            began_s = loop.time()
            writer.write(packet(bytes(200)))
            try:
                async with asyncio.timeout(1.0):
                    await reader.readexactly(2)
            except TimeoutError:
                assert least_s > 1.0
            else:
                assert least_s <= loop.time() - began_s < 1.0


async def test_a_reset_ends_every_connection() -> None:
    async with link() as (net, _broker, reader, writer):
        writer.write(b"\xc0\x00")
        assert await read(reader, 2) == b"\xd0\x00"
        net.reset()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                assert await reader.read(1) == b""
        except ConnectionResetError:
            pass


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 400), min_size=1))
def test_packets_are_cut_the_same_however_they_arrive(payloads: list[bytes], cuts: list[int]) -> None:
    packets = [packet(payload) for payload in payloads]
    stream, reader, found = b"".join(packets), PacketReader(), []
    at = 0
    for number in range(len(stream) + 1):
        length = cuts[number % len(cuts)]
        found += reader.feed(stream[at : at + length])
        at += length
    assert found == packets
    batches = [batch for one in found if (batch := batch_of(one))]
    assert [batch.payload for batch in batches] == payloads


def test_a_batch_is_told_from_other_packets() -> None:
    body = frame([heart_rate(80)])
    assert batch_of(packet(body, b"vw/1/amb-07/status")) is None
    assert batch_of(b"\xc0\x00") is None
    found = batch_of(packet(body))
    assert found is not None
    assert msgspec.to_builtins(decode_frame(found.payload, Batch).first_seq) == 1

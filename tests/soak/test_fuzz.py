"""Random and mutated bytes into everything that takes bytes from outside: named errors only, in bounded memory.

`make test` plays a few seconds; `make soak` ten minutes (VITALWIRE_FUZZ_S). A failure names its seed: set
VITALWIRE_FUZZ_SEED to play the same again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil
import pytest

from cloud.access_config import AccessConfig, AccessMode
from cloud.api.hasty import Doorway
from cloud.consumers import boards_consumer, fleet_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.feed_keeper import FeedKeeper
from cloud.live_screen import LiveScreen
from cloud.store.append import Appender, Incoming
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from drivers.codecs import hl7
from drivers.driver import DriverContext, LinkLost
from drivers.links.mllp import open_mllp
from drivers.network.hl7_monitor import MonitorOptions, decode, stream
from tests.cloud.api.apps import build, client_of
from tests.cloud.cloud_frames import NOW_US, FakeClock, frame, record, wave
from tests.soak.mutation import Mutator
from tests.threats.served import Served, served
from wire.clock import ClockAnchor, SystemClock
from wire.commands import Command, decode_order
from wire.messages import Batch, DecodeError, Lane, Presence, Receipt, decode_body, decode_frame, decode_record
from wire.readings import SessionEvent, SessionKind, SessionPhase
from wire.waveform import decode as decode_waveform

ROOT = Path(__file__).parents[2]
# The three share it.
SECONDS = float(os.environ.get("VITALWIRE_FUZZ_S", "6")) / 3
SEED = int(os.environ.get("VITALWIRE_FUZZ_SEED", secrets.randbelow(1 << 32)))
MOST_GROWTH_BYTES = 150 << 20

pytestmark = pytest.mark.timeout(60 + 3 * SECONDS)


class Rounds:
    """Goes on for the time there is, and looks at the memory."""

    def __init__(self) -> None:
        self.played = 0
        self._process = psutil.Process()
        self._began_s, self._before_bytes = time.monotonic(), 0

    def __iter__(self) -> Iterator[int]:
        # A machine with other work goes on until it has something to say.
        while time.monotonic() - self._began_s < SECONDS or self.played < 20:
            yield self.played
            self.played += 1
            if self.played == 100:  # what is loaded and cached once is there
                self._before_bytes = self._process.memory_info().rss
        if self._before_bytes:
            grown = self._process.memory_info().rss - self._before_bytes
            assert grown < MOST_GROWTH_BYTES, f"seed {SEED}: {grown >> 20} MiB more after {self.played} rounds"


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    logging.disable(logging.WARNING)
    print(f"{request.node.name}: VITALWIRE_FUZZ_SEED={SEED}")
    yield
    logging.disable(logging.NOTSET)
    if SECONDS > 10:
        with capsys.disabled():
            print(f"\n{request.node.name}: {SECONDS:g} s, seed {SEED}")


def golden(kind: str) -> list[bytes]:
    vectors = json.loads((ROOT / "tests/vectors/messages.json").read_text(encoding="utf-8"))
    return [bytes.fromhex(vector["hex"]) for vector in vectors if vector["kind"] == kind]


DECODERS = (
    *(lambda raw, kind=kind: decode_frame(raw, kind) for kind in (Batch, Receipt, Presence, Command)),
    decode_record,
    decode_body,
    decode_order,
    lambda raw: decode_waveform(raw, stream="ecg"),
)


class Deaf:
    """A bus that says nothing: the feed is told directly."""

    async def listen(self, hear: object) -> None:
        return


class Cloud:
    """Store, boards, feed and routes, fed directly."""

    def __init__(self, folder: Path, mutator: Mutator) -> None:
        self.clock, self.counters = FakeClock(), Counters()
        self.database = Database(folder / "store.sqlite")
        self.feed = Feed(self.clock, self.counters)
        self.appender = Appender(self.database, self.clock)
        self.keeper = FeedKeeper(self.feed, StoreReader(self.database), cast(Any, Deaf()), self.clock)
        self.screen = LiveScreen()
        self.feed.join(self.screen)
        self.app = build(self.database, AccessConfig(mode=AccessMode.DEMO), clock=self.clock, feed=self.feed)
        self._mutator, self._seq = mutator, 0
        opened = record(SessionEvent("s1", SessionKind.MISSION, SessionPhase.OPENED, NOW_US, "A"))
        self._bodies, self._records = golden("body"), [*golden("record"), opened, wave(0)]
        self.take([frame([opened, wave(0)])])

    def frames(self) -> list[bytes]:
        """Batches whose envelope is right and whose content is not, beside plain noise."""
        mutator, records = self._mutator, []
        for _ in range(mutator.random.randrange(1, 8)):
            raw = mutator.random.choice(self._records)
            body = mutator.message(mutator.random.choice(self._bodies))
            kept = [*msgspec.msgpack.decode(raw)[:5], msgspec.Raw(body)]
            records.append(mutator.message(raw) if mutator.random.random() < 0.5 else msgspec.msgpack.encode(kept))
        self._seq += mutator.random.choice((0, 1, len(records), 100))
        first = mutator.random.choice((self._seq, self._seq, self._seq, 0, -5, 2**53, 2**63 - 2))
        anchor = ClockAnchor(bytes(range(16)), 5, mutator.random.choice((NOW_US, 0, -1, 2**62)), 1000, True)
        lane, epoch = mutator.random.choice(list(Lane)), mutator.random.choice((bytes(16), bytes(range(16))))
        made = frame(records, first, lane=lane, epoch=epoch, anchors=(anchor,))
        return [made, mutator.any_bytes()]

    def take(self, frames: list[bytes]) -> None:
        subject = f"vw.1.{self._mutator.random.choice(('gw-1', 'gw-2'))}.up.routine"
        for one in frames:
            self.feed.hear(subject, one)
            self.feed.hear(subject.replace("up.routine", "status"), one)
        self.feed.stored(self.appender.append([Incoming(subject, one) for one in frames]))
        self.feed.tick()

    async def look(self) -> None:
        """What lies in the store can be asked for, whatever it is."""
        await boards_consumer(self.database, self.counters, lambda session_id: None).catch_up()
        await fleet_consumer(self.database, self.counters, lambda gateway_id: None).catch_up()
        async with client_of(self.app) as client:
            for path in ("sessions", "alerts", "fleet", "fleet/gw-1", "sessions/s1/numerics", "sessions/s1/waveforms"):
                answer = await client.get(f"/api/v1/{path}")
                assert answer.status_code in (200, 404), (SEED, path, answer.text[:300])
            for name in (await client.get("/api/v1/sessions/s1/waveforms")).json()["streams"][:9]:
                query = {"stream": name[:200]}
                answer = await client.get("/api/v1/sessions/s1/waveforms", params=query)
                assert answer.status_code == 200, (SEED, name)
        await self.keeper.fill()
        self.feed.leave(self.screen)
        self.screen = LiveScreen()
        self.feed.join(self.screen)  # with a snapshot of it all
        assert await asyncio.wait_for(self.screen.next(), 5)


async def test_a_gateway_can_send_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = [raw for kind in ("frame", "record", "body") for raw in golden(kind)] + [frame([wave(0)])]
    mutator = Mutator(SEED, corpus)
    cloud = Cloud(tmp_path, mutator)
    for played in Rounds():
        raw = mutator.any_bytes()
        for decoder in DECODERS:
            with suppress(DecodeError):
                decoder(raw)
        cloud.take(cloud.frames())
        if played % 200 == 0:
            await cloud.look()
            caplog.clear()
    await cloud.look()
    assert cloud.counters["consumer_failures"] == 0
    cloud.database.close()


def hl7_corpus() -> list[bytes]:
    vectors = json.loads((ROOT / "tests/vectors/network_hl7_monitor.json").read_text(encoding="utf-8"))
    return [vector["message"].encode() for vector in vectors]


async def test_a_monitor_can_send_anything() -> None:
    """Through the codec, and through a real socket: the driver goes on serving."""
    mutator = Mutator(SEED, hl7_corpus())
    context = DriverContext(SystemClock(), MonitorOptions())
    async with open_mllp("127.0.0.1:0", context.clock, silence_s=5) as link:
        reading = asyncio.create_task(read_on(link, context))
        for played in Rounds():
            raw = mutator.any_bytes()
            for read in (decode, hl7.parse):
                with suppress(DecodeError):
                    cast(Any, read)(raw)
            if played % 20 == 0:
                _, writer = await asyncio.open_connection(*link.address)
                framed = [b"\x0b" + mutator.any_bytes() + b"\x1c\r" for _ in range(5)]
                with suppress(ConnectionError):
                    writer.write(mutator.any_bytes() + b"".join(framed))
                    await writer.drain()
                writer.close()
                await asyncio.sleep(0)
            assert not reading.done(), (SEED, reading.exception())
        # And then it still reads what is right.
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(b"\x0b" + hl7_corpus()[0] + b"\x1c\r")
        async with asyncio.timeout(10):
            assert b"MSA|AA|" in await reader.readuntil(b"\x1c\r")
        writer.close()
        reading.cancel()
        await asyncio.wait([reading])


async def read_on(link: Any, context: DriverContext) -> None:
    """As a device session, whose barrier this test must not need."""
    while True:
        transfers = cast(AsyncIterator[Any], stream(link, context))
        with suppress(LinkLost):
            async with aclosing(transfers) as items:  # type: ignore[type-var]
                async for _ in items:
                    pass


def http_corpus() -> list[bytes]:
    head = b" HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nConnection: close\r\n"
    paths = (b"/er", b"/screens/er/er.js", b"/api/v1/sessions?most=5", b"/api/v1/fleet/gw-1", b"/metrics")
    more = (b"/api/v1/sessions/s1/waveforms?stream=ecg&from_index=0", b"/api/v1/sessions/s1/numerics?metric=spo2")
    body = b'{"name": "wang", "password": "blue kettle on tuesday", "order": {"kind": "replay"}, "reason": "because"}'
    posts = (b"/api/v1/sign-in", b"/api/v1/gateways/gw-1/commands", b"/api/v1/sessions/s1/break-glass")
    socket = b"GET /api/v1/live" + head.replace(b"close", b"Upgrade") + b"Upgrade: websocket\r\n"
    return [
        *(b"GET " + path + head + b"\r\n" for path in (*paths, *more)),
        *(b"POST " + path + head + b"Content-Length: %d\r\n\r\n" % len(body) + body for path in posts),
        socket + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ]


async def test_a_browser_can_send_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mutator = Mutator(SEED, http_corpus())
    database, clock, counters = Database(tmp_path / "store.sqlite"), FakeClock(), Counters()
    app = build(database, AccessConfig(mode=AccessMode.DEMO), clock=clock, counters=counters)
    async with served(app, Doorway(counters, head_s=1, most_connections=100)) as api:
        for _ in Rounds():
            clock.us += 10_000_000  # whom the rates would turn away reaches nothing
            answers = await asyncio.gather(*(said(api, mutator.any_bytes()) for _ in range(16)))
            for answer in answers:
                assert answer is None or answer < 500, SEED
            # What an answer that nobody waited for would have been.
            assert not [record for record in caplog.records if record.exc_info], SEED
            caplog.clear()
        assert (await said(api, http_corpus()[0], within_s=5)) == 200
    database.close()


async def said(api: Served, request: bytes, within_s: float = 0.05) -> int | None:
    """The status that comes back in time, or None when the server waits for more, or closes."""
    reader, writer = await asyncio.open_connection(api.host, api.port)
    try:
        async with asyncio.timeout(within_s):
            writer.write(request)
            line = await reader.readline()
        return int(line.split(b" ")[1]) if line.startswith(b"HTTP/") else None
    except (TimeoutError, ConnectionError):
        return None
    finally:
        writer.close()

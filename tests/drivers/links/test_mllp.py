"""MLLP framing under any chunking, and the listening link over real sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.driver import LinkLost
from drivers.links.mllp import ListenError, MllpFramer, MllpLink, open_mllp, parse_listen
from wire.clock import SystemClock
from wire.messages import DecodeError

contents = st.binary(min_size=1, max_size=40).map(lambda raw: b"MSH|" + raw.translate(None, b"\x0b\x1c\r\n") + b"|end")


def chunks_of(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[begin:end] for begin, end in itertools.pairwise(edges)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(contents, st.booleans()), max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
def test_messages_survive_any_chunking(messages: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    raw = b"".join(b"\x0b" + message + (b"\x1c\r" if with_cr else b"\x1c") for message, with_cr in messages)
    framer = MllpFramer()
    assert [m for chunk in chunks_of(raw, cuts) for m in framer.feed(chunk)] == [message for message, _ in messages]
    assert framer.faults == []


@settings(deadline=None, max_examples=60)
@given(st.lists(contents, max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
def test_messages_without_framing_end_at_the_next_header(messages: list[bytes], cuts: list[int]) -> None:
    framer = MllpFramer()
    raw = b"".join(message + b"\r" for message in messages)
    found = [m for chunk in chunks_of(raw, cuts) for m in framer.feed(chunk)]
    assert found + framer.flush(ended=False) == messages


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n", b"M", b"S", b"H", b"|", b"MSH|", b"xyz"]), max_size=60),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_any_bytes_read_the_same_however_chunked(pieces: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(pieces)
    whole, parts = MllpFramer(max_bytes=16), MllpFramer(max_bytes=16)
    assert whole.feed(raw) == [m for chunk in chunks_of(raw, cuts) for m in parts.feed(chunk)]
    assert whole.flush(ended=True) == parts.flush(ended=True)
    assert whole.faults == parts.faults


def test_several_messages_come_in_one_read() -> None:
    assert MllpFramer().feed(b"\x0bMSH|1\r\x1c\r\x0bMSH|2\r\x1c\r") == [b"MSH|1", b"MSH|2"]


def test_message_cut_short_is_dropped_and_named() -> None:
    framer = MllpFramer()
    assert framer.feed(b"\x0bMSH|12\x0bMSH|120\x1c\r") == [b"MSH|120"]
    assert framer.faults == ["mllp message cut short"]


def test_garbage_is_named_once_and_the_next_message_is_read() -> None:
    framer = MllpFramer()
    assert framer.feed(b"GET / HTTP/1.1\r\n") == []
    assert framer.feed(b"\x00\xff\xfe\x0bMSH|1\x1c\r") == [b"MSH|1"]
    assert framer.faults == ["mllp bytes outside a message"]


@pytest.mark.parametrize("start", [b"\x0b", b"MSH|"])
def test_too_large_a_message_is_never_held_and_the_next_is_read(start: bytes) -> None:
    framer = MllpFramer(max_bytes=100)
    framer.feed(start)
    for _ in range(1000):
        framer.feed(b"x" * 50)
        assert len(framer._buffer) <= 200
    assert framer.feed(b"\x1c\r\x0bMSH|1\x1c\r") == [b"MSH|1"]
    assert framer.faults == ["mllp message too large"]


def test_line_without_its_end_is_whole_only_when_the_peer_closed() -> None:
    framer = MllpFramer()
    framer.feed(b"MSH|1\rOBX|1|NM|||12")
    assert framer.flush(ended=False) == []
    assert framer.flush(ended=True) == [b"MSH|1\rOBX|1|NM|||12"]


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:2575", ("127.0.0.1", 2575)),
        ("[::1]:6661", ("::1", 6661)),
        (":2575", ("", 2575)),
        ("localhost", ("localhost", 2575)),
    ],
)
def test_listen_addresses_are_read(listen: str, expected: tuple[str, int]) -> None:
    assert parse_listen(listen) == expected


@pytest.mark.parametrize("listen", ["", "host:port", "1.2.3.4:99999", "a:b:c", "::1:2575", "host name:1"])
def test_bad_listen_address_says_what_is_expected(listen: str) -> None:
    with pytest.raises(ValueError, match="host:port is expected"):
        parse_listen(listen)


@asynccontextmanager
async def listening(silence_s: float = 3.0, peers: tuple[str, ...] = ()) -> AsyncIterator[MllpLink]:
    async with (
        asyncio.timeout(4),
        open_mllp("127.0.0.1:0", SystemClock(), silence_s=silence_s, peers=peers) as link,
    ):
        yield link


async def test_a_stranger_takes_nobodys_place_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(peers=("127.0.0.2", "10.0.0.0/8")) as link:
        for _ in range(3):  # also before the monitor is there
            stranger, _ = await asyncio.open_connection(*link.address, local_addr=("127.0.0.3", 0))
            with pytest.raises(DecodeError, match="mllp peer not allowed"):
                await link.receive()
        _, monitor = await asyncio.open_connection(*link.address, local_addr=("127.0.0.2", 0))
        monitor.write(b"\x0bMSH|1\x1c\r")
        assert await link.receive() == b"MSH|1"
        stranger, writer = await asyncio.open_connection(*link.address, local_addr=("127.0.0.3", 0))
        writer.write(b"\x0bMSH|forged\x1c\r")
        with suppress(ConnectionError):
            assert await stranger.read() == b""
        with pytest.raises(DecodeError, match="mllp peer not allowed"):
            await link.receive()
        monitor.write(b"\x0bMSH|2\x1c\r")
        assert await link.receive() == b"MSH|2"
        monitor.close()
    assert [record.message for record in caplog.records if "turned away" in record.message][1:] == []


async def test_link_receives_and_answers() -> None:
    async with listening() as link:
        reader, writer = await asyncio.open_connection(*link.address)
        writer.write(b"\x0bMSH|1\x1c\r\x0bMSH|2\x1c\r")
        assert [await link.receive(), await link.receive()] == [b"MSH|1", b"MSH|2"]
        assert link.arrived_us > 0
        assert link.peer == "{}:{}".format(*writer.get_extra_info("sockname"))
        await link.send(b"MSA")
        assert await reader.readexactly(6) == b"\x0bMSA\x1c\r"
        writer.close()
        with pytest.raises(LinkLost, match="closed the connection"):
            await link.receive()


async def test_message_without_framing_ends_with_quiet() -> None:
    async with listening() as link:
        _, writer = await asyncio.open_connection(*link.address)
        writer.write(b"MSH|1\rOBX|1\r")
        assert await link.receive() == b"MSH|1\rOBX|1"
        writer.close()


async def test_half_a_line_of_a_replaced_connection_is_not_read() -> None:
    async with listening() as link:
        _, first = await asyncio.open_connection(*link.address)
        first.write(b"\x0bMSH|1\x1c\rMSH|2\rOBX|1|NM|||12")
        assert await link.receive() == b"MSH|1"
        _, second = await asyncio.open_connection(*link.address)
        with pytest.raises(LinkLost, match="replaced by"):
            await link.receive()
        first.close()
        second.close()


async def test_silent_monitor_is_lost() -> None:
    async with listening(silence_s=0.05) as link:
        _, writer = await asyncio.open_connection(*link.address)
        writer.write(b"MSH|open")
        with pytest.raises(LinkLost, match=r"silent for 0\.05 s"):
            await link.receive()
        writer.close()


async def test_second_connection_replaces_the_first_and_is_served_next() -> None:
    async with listening() as link:
        _, first = await asyncio.open_connection(*link.address)
        first.write(b"\x0bMSH|1\x1c\r")
        assert await link.receive() == b"MSH|1"
        reader, second = await asyncio.open_connection(*link.address)
        second.write(b"\x0bMSH|2\x1c\r")
        with pytest.raises(LinkLost, match="replaced by"):
            await link.receive()
        assert await link.receive() == b"MSH|2"
        await link.send(b"MSA")
        assert await reader.readexactly(6) == b"\x0bMSA\x1c\r"
        first.close()
        second.close()


async def test_answer_never_reaches_another_connection() -> None:
    async with listening() as link:
        _, first = await asyncio.open_connection(*link.address)
        first.write(b"\x0bMSH|1\x1c\r")
        await link.receive()
        reader, second = await asyncio.open_connection(*link.address)
        assert await reader_of_aborted(first)
        with pytest.raises(LinkLost):
            await link.send(b"MSA for 1")
        second.write(b"\x0bMSH|2\x1c\r")
        await link.receive()
        await link.send(b"MSA for 2")
        assert await reader.readuntil(b"\r") == b"\x0bMSA for 2\x1c\r"
        first.close()
        second.close()


async def reader_of_aborted(writer: asyncio.StreamWriter) -> bool:
    """Waits until the link has dropped this connection."""
    try:
        while True:
            writer.write(b"\r")
            await writer.drain()
            await asyncio.sleep(0)
    except OSError:
        return True


async def test_dropped_bytes_are_told_and_the_link_goes_on() -> None:
    async with listening() as link:
        _, writer = await asyncio.open_connection(*link.address)
        writer.write(b"garbage\x0bMSH|1\x1c\r")
        assert await link.receive() == b"MSH|1"
        with pytest.raises(DecodeError, match="outside a message"):
            await link.receive()
        writer.close()


async def test_address_in_use_is_named() -> None:
    async with listening() as link:
        listen = "{}:{}".format(*link.address)
        with pytest.raises(ListenError, match=f"cannot listen on {listen}"):
            async with open_mllp(listen, SystemClock()):
                pass

import asyncio

import pytest

from firmware_sim.faults import NO_FAULTS, BadLink, Faults, Send


async def _no_wait(_seconds: float) -> None:
    return


async def through(faults: Faults, pieces: list[bytes], *, cut_at: int | None = None) -> list[bytes]:
    arrived: list[bytes] = []

    async def deliver(data: bytes) -> None:
        arrived.append(data)

    link = BadLink(faults, _no_wait)
    send: Send = link.sending(deliver)
    for number, piece in enumerate(pieces):
        if number == cut_at:
            send = link.sending(deliver)  # a new connection of the same twin
        await send(piece)
    return arrived


PIECES = [bytes([number]) * 5 for number in range(200)]


async def test_same_seed_same_faults_also_over_a_reconnect() -> None:
    faults = Faults(loss=0.2, garbage=0.2, delay_s=(0, 0.1), seed=3)
    first = await through(faults, PIECES)
    assert first == await through(faults, PIECES, cut_at=60)
    assert first != await through(Faults(loss=0.2, garbage=0.2, delay_s=(0, 0.1), seed=4), PIECES)
    assert 120 < len([piece for piece in first if piece in PIECES]) < 190
    assert [piece for piece in first if piece not in PIECES]


async def test_garbage_never_harms_a_piece() -> None:
    arrived = await through(Faults(garbage=0.5, seed=1), PIECES)
    assert [piece for piece in arrived if piece in PIECES] == PIECES


async def test_without_faults_nothing_is_wrapped() -> None:
    reader, writer = asyncio.StreamReader(), _Sink()
    assert BadLink().streams(reader, writer) == (reader, writer)
    assert BadLink(NO_FAULTS).connected_s() is None


class _Sink:
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    async def drain(self) -> None:
        return

    def close(self) -> None:
        self.is_closed = True


async def test_byte_streams_suffer_in_both_directions() -> None:
    reader, sink = asyncio.StreamReader(), _Sink()
    faulty_reader, faulty_writer = BadLink(Faults(loss=0.5, seed=2), _no_wait).streams(reader, sink)
    for piece in PIECES:
        faulty_writer.write(piece)
        await faulty_writer.drain()
    assert 50 < len(sink.pieces) < 150
    reader.feed_data(b"x" * 100)
    reader.feed_eof()
    heard = b""
    while piece := await faulty_reader.read(1):
        heard += piece
    assert 20 < len(heard) < 80
    faulty_writer.close()
    assert sink.is_closed


async def test_delay_is_slept_not_skipped() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def deliver(_data: bytes) -> None:
        return

    send = BadLink(Faults(delay_s=(0.1, 0.3)), sleep).sending(deliver)
    for piece in PIECES:
        await send(piece)
    assert len(slept) == 200
    assert 0.1 <= min(slept) < 0.15 < 0.25 < max(slept) <= 0.3


def test_disconnects_vary_around_the_wanted_time() -> None:
    link, again = BadLink(Faults(disconnect_every_s=10)), BadLink(Faults(disconnect_every_s=10))
    lasts = [link.connected_s() for _ in range(50)]
    assert lasts == [again.connected_s() for _ in range(50)]
    assert all(last is not None and 5 <= last <= 15 for last in lasts)


def test_probabilities_are_checked() -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError, match="loss"):
        msgspec.convert({"loss": 1.5}, Faults)

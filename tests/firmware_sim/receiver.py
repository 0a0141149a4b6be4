"""A receiver for the twins' messages: a tiny, separate reading of MLLP and HL7, and a clock moved by hand."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wire.clock import ClockState

MISSING = 197378


class SelfMovingClock:
    """Time passes when everybody sleeps: `sleep` moves the clock to the next sleeper, so tests never wait."""

    def __init__(self, now_us: int = 1_800_000_000_400_000) -> None:
        self._wall_us = now_us
        self._mono_us = 5_000_000
        self._sleepers: list[tuple[int, int]] = []
        self._count = 0

    def now_us(self) -> int:
        return self._wall_us

    def monotonic_us(self) -> int:
        return self._mono_us

    def boot_id(self) -> bytes:
        return bytes(16)

    def state(self) -> ClockState:
        return ClockState(synchronised=True, uncertainty_us=0)

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        entry = (self._mono_us + round(seconds * 1e6), self._count)
        heapq.heappush(self._sleepers, entry)
        try:
            while self._mono_us < entry[0]:
                # Loopback sockets need a few rounds of the loop; then nobody has anything left to do but wait.
                for _ in range(6):
                    await asyncio.sleep(0)
                if self._sleepers[0] == entry:
                    self._wall_us += entry[0] - self._mono_us
                    self._mono_us = entry[0]
        finally:
            self._sleepers.remove(entry)
            heapq.heapify(self._sleepers)


def message_id(message: str) -> str:
    return message.split("\r")[0].split("|")[9]


class Receiver:
    """Keeps every message received; `answer` says the MSA-1 code, None for silence, "" to hang up."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.answer: Callable[[str, int], str | None] = lambda _id, _times: "AA"
        self.port = 0

    def times(self, wanted: str) -> int:
        return sum(message_id(message.decode()) == wanted for message in self.messages)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        held = b""
        try:
            while piece := await reader.read(1 << 20):
                held += piece
                while b"\x1c\x0d" in held:
                    block, held = held.split(b"\x1c\x0d", 1)
                    message = block[block.rindex(b"\x0b") + 1 :]
                    self.messages.append(message)
                    own = message_id(message.decode())
                    code = self.answer(own, self.times(own))
                    if code == "":
                        return
                    if code is not None:
                        reply = f"MSH|^~\\&|R||||20260101||ACK^R01^ACK|x{own}|P|2.6\rMSA|{code}|{own}\r"
                        writer.write(b"\x0b" + reply.encode() + b"\x1c\x0d")
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def groups(message: bytes) -> dict[str, list[list[str]]]:
    """The OBX rows (as fields) below each OBR, by the first component of OBR-4; "OBR" holds the OBR rows."""
    found: dict[str, list[list[str]]] = {"OBR": []}
    current = ""
    for segment in message.decode().split("\r"):
        fields = segment.split("|")
        if fields[0] == "OBR":
            current = fields[4].split("^")[0]
            found[current] = []
            found["OBR"].append(fields)
        elif fields[0] == "OBX":
            found[current].append(fields + [""] * (20 - len(fields)))
    return found


def leads(message: bytes) -> dict[str, list[int]]:
    """Sample counts by observation name."""
    rows = groups(message).get("69121", [])
    return {row[3].split("^")[1]: [int(v) for v in row[5].split("^")] for row in rows if row[2] == "NA"}

"""One more screen, without eyes: measures how old live data is when it arrives, as a browser would see it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time

import numpy as np
import websockets

from wire import waveform

_RETRY_S = 0.2


class Watcher:
    """Joins the live channel, keeps the delay of every block that is news when it comes."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("http://", "ws://", 1) + "/api/v1/live"
        self.delays_ms: list[float] = []
        self._seen: dict[bytes, int] = {}
        self.first_sample = asyncio.Event()

    async def run(self) -> None:
        """Watches until cancelled; a cloud that is away is joined again."""
        while True:
            with contextlib.suppress(OSError, websockets.WebSocketException):
                async with websockets.connect(self._url, max_size=1 << 20) as socket:
                    joined_us = time.time_ns() // 1000
                    async for frame in socket:
                        if isinstance(frame, bytes):
                            self._block(frame, joined_us)
            await asyncio.sleep(_RETRY_S)

    def _block(self, frame: bytes, joined_us: int) -> None:
        now_us = time.time_ns() // 1000
        stream, data = split_frame(frame)
        head = waveform.peek(data)
        is_new = head.first_index > self._seen.get(stream, -1)
        self._seen[stream] = max(head.first_index, self._seen.get(stream, -1))
        self.first_sample.set()
        end_us = head.start_us + round(head.sample_count * 1e6 / head.sample_rate_hz)
        # What lay there before we joined is the snapshot's, not live.
        if is_new and end_us > joined_us:
            self.delays_ms.append((now_us - end_us) / 1000)

    def percentiles_ms(self) -> dict[str, float | None]:
        """p50 and p99 from a block's last sample to this socket."""
        if not self.delays_ms:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(self.delays_ms, [50, 99])
        return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def split_frame(frame: bytes) -> tuple[bytes, bytes]:
    """A binary frame of the live channel as its stream's name on this socket and the waveform block."""
    (session_length,) = struct.unpack_from("B", frame, 1)
    (stream_length,) = struct.unpack_from("B", frame, 2 + session_length)
    end = 3 + session_length + stream_length
    return frame[1:end], frame[end + 1 :]

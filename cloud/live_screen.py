"""One connected screen: a bounded queue that forgets the oldest and says so, so that it never slows another."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

# About 10 s of 40 streams; a screen further behind is better served by a new snapshot.
_MOST_FRAMES = 2_000
_MOST_BYTES = 8 << 20


class Frame(NamedTuple):
    """One message: JSON text or a binary block, and the session it is about ('' for none)."""

    session_id: str
    payload: str | bytes


class LiveScreen:
    """Full policy: drop the oldest and count it by session; the sender then tells the screen and sends a snapshot."""

    def __init__(
        self, *, most_frames: int = _MOST_FRAMES, sees: Callable[[str], bool] = lambda session_id: True
    ) -> None:
        """`sees`: whether a session may be shown here, asked for every frame."""
        self._most_frames, self.sees = most_frames, sees
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._dropped: Counter[str] = Counter()
        self.dropped_ever: Counter[str] = Counter()

    def offer(self, frame: Frame) -> int:
        """Queues a frame; returns how many were dropped for it."""
        self._frames.append(frame)
        self._bytes += len(frame.payload)
        dropped = 0
        while len(self._frames) > self._most_frames or (self._bytes > _MOST_BYTES and len(self._frames) > 1):
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.payload)
            self._dropped[oldest.session_id] += 1
            dropped += 1
        self._arrived.set()
        return dropped

    async def next(self) -> list[Frame]:
        """Everything queued, waiting for at least one frame."""
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        frames = list(self._frames)
        self._frames.clear()
        self._bytes = 0
        return frames

    def take_dropped(self) -> dict[str, int]:
        """Frames dropped since the last call, by session."""
        dropped, self._dropped = dict(self._dropped), Counter()
        self.dropped_ever.update(dropped)
        return dropped

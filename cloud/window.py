"""The last minutes of one session, in memory: what a screen that joins is shown first. Pure: no clock, no I/O."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Any, NamedTuple

from wire.clock import MICROSECONDS

WAVE_US = 12 * MICROSECONDS
SNAPSHOT_WAVE_US = 10 * MICROSECONDS
TREND_US = 30 * 60 * MICROSECONDS
_EVENTS = 50
# A clock further off than this was wrong; network delay and drift are far below.
_CLOCK_OFF_US = 60 * MICROSECONDS
# So far behind the newest of its session a reading is history, not news: monitors repeat numerics within seconds.
_LATE_US = 60 * MICROSECONDS
# Newer than this every value is shown; older ones keep the lowest and highest of each 10 s, so that no peak is lost.
_FULL_US = 5 * 60 * MICROSECONDS
_BUCKET_US = 10 * MICROSECONDS
# A device of 100 values/s for 30 min; beyond it the oldest go.
_MOST_POINTS = 200_000


class Point(NamedTuple):
    """One value on a trend."""

    time_us: int
    value: float | None
    quality: int


class WaveFrame(NamedTuple):
    """One waveform block, packed for screens; ordered by time."""

    start_us: int
    first_index: int
    end_us: int
    frame: bytes


class SessionWindow:
    """What is recent in a session, from the bus and the store alike: the same block or value counts once."""

    def __init__(self) -> None:
        self._trends: dict[tuple[str, str], list[Point]] = {}
        self._waves: dict[str, list[WaveFrame]] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)  # Any: JSON
        self.is_backfilled = False
        self._newest_us = 0
        # The highest origin of any record of the session.
        self.origin = 0

    def add_point(self, metric: str, device_id: str, point: Point, now_us: int) -> bool:
        """Whether it is news: the newest of its device and metric, and not long behind what the session is at. Any
        other fills the trend and marks a backfill.

        A value of now after values of the future means that the clock was set back: those of the future go.
        """
        is_late = self._is_late(point.time_us, now_us)
        trend = self._trends.setdefault((metric, device_id), [])
        if trend and _was_set_back(point.time_us, trend[-1].time_us, now_us):
            del trend[bisect_left(trend, (now_us + _CLOCK_OFF_US,)) :]
            self.is_backfilled = True
        if not trend or point.time_us > trend[-1].time_us:
            trend.append(point)
            if trend[0].time_us < point.time_us - TREND_US - _FULL_US or len(trend) > _MOST_POINTS:
                del trend[: max(bisect_left(trend, (point.time_us - TREND_US,)), len(trend) - _MOST_POINTS)]
            self.is_backfilled |= is_late
            return not is_late
        place = bisect_left(trend, (point.time_us,))
        if trend[place].time_us != point.time_us and point.time_us > trend[-1].time_us - TREND_US:
            trend.insert(place, point)
            self.is_backfilled = True
        return False

    def add_wave(self, stream: str, wave: WaveFrame, now_us: int) -> bool:
        """Whether it is new and recent enough to draw; after a clock was set back, as for points."""
        is_late = self._is_late(wave.end_us, now_us)
        waves = self._waves.setdefault(stream, [])
        if waves and _was_set_back(wave.start_us, waves[-1].start_us, now_us):
            del waves[bisect_left(waves, (now_us + _CLOCK_OFF_US,)) :]
        newest_us = waves[-1].end_us if waves else 0
        place = bisect_left(waves, (wave.start_us, wave.first_index))
        if place < len(waves) and waves[place][:2] == wave[:2]:
            return False
        if wave.end_us < newest_us - WAVE_US:
            return False
        insort(waves, wave)
        oldest_us = waves[-1].end_us - WAVE_US
        while waves[0].end_us < oldest_us:
            del waves[0]
        self.is_backfilled |= is_late
        return not is_late

    def _is_late(self, time_us: int, now_us: int) -> bool:
        """Whether a reading lies long behind the newest of any kind, by the box's own clock."""
        if time_us > self._newest_us or _was_set_back(time_us, self._newest_us, now_us):
            self._newest_us = time_us
        return time_us < self._newest_us - _LATE_US

    def add_event(self, event: dict[str, Any]) -> bool:
        """Whether it was not there yet."""
        if event in self._events:
            return False
        self._events.append(event)
        return True

    def numerics(self) -> dict[str, list[Point]]:
        """Trends of at most 30 minutes by metric, thinned where they are older, oldest first."""
        merged: dict[str, list[Point]] = {}
        for (metric, _), trend in self._trends.items():
            merged.setdefault(metric, []).extend(trend)
        newest_us = max((trend[-1].time_us for trend in merged.values()), default=0)
        return {metric: thin(sorted(trend, key=_by_time), newest_us) for metric, trend in merged.items()}

    def events(self) -> list[dict[str, Any]]:
        """The last events, oldest first."""
        return sorted(self._events, key=lambda event: int(event["time_us"]))

    def waves(self) -> list[bytes]:
        """Packed blocks of the last 10 s of every stream."""
        return [
            wave.frame
            for waves in self._waves.values()
            for wave in waves
            if wave.end_us > waves[-1].end_us - SNAPSHOT_WAVE_US
        ]


def _was_set_back(time_us: int, newest_us: int, now_us: int) -> bool:
    is_now = abs(time_us - now_us) <= _CLOCK_OFF_US
    return is_now and newest_us > max(time_us, now_us) + _CLOCK_OFF_US


def _by_time(point: Point) -> int:
    return point.time_us


def thin(trend: list[Point], newest_us: int) -> list[Point]:
    """A trend without what is older than 30 minutes, and with at most two points per 10 s beyond the last 5."""
    trend = trend[bisect_left(trend, newest_us - TREND_US, key=_by_time) :]
    split = bisect_left(trend, newest_us - _FULL_US, key=_by_time)
    kept: list[Point] = []
    start = 0
    while start < split:
        bucket = trend[start].time_us // _BUCKET_US
        end = start
        while end < split and trend[end].time_us // _BUCKET_US == bucket:
            end += 1
        kept += _extremes(trend[start:end])
        start = end
    return kept + trend[split:]


def _extremes(points: list[Point]) -> list[Point]:
    known = [point for point in points if point.value is not None]
    if len(points) <= 2 or not known:
        return points[:2]
    lowest = min(known, key=lambda point: point.value or 0.0)
    highest = max(known, key=lambda point: point.value or 0.0)
    return sorted({lowest, highest}, key=_by_time)


def pack_wave(session_id: str, stream: str, quality: int, block: bytes) -> bytes:
    """A waveform block with its address, as docs/live.md says."""
    session, name = session_id.encode("ascii", "replace")[:255], stream.encode()[:255]
    return b"".join((bytes((1, len(session))), session, bytes((len(name),)), name, bytes((quality,)), block))

"""From what a driver yielded to what is stored: times placed, repetitions dropped, alerts raised, waveforms encoded.

Values in, values out: no clock, socket or disk; the state of one device lives in one `Pipeline`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from clinical.alarm_limits import AlarmLimits
from edge.alerts import DeviceAlarms
from edge.box_session import Before
from edge.spool import MAX_CHUNK_BYTES, Memo
from edge.timebase import DeviceOffset, observe, stepped
from wire import waveform
from wire.clock import MICROSECONDS
from wire.messages import Lane, lane_of
from wire.readings import (
    Alert,
    Body,
    DeviceEvent,
    Numeric,
    Position,
    Quality,
    Reading,
    SampleBlock,
    WaveformBlock,
)
from wire.vocabulary import METRICS, Metric

_OFFSET_MEMO = "offset/"
_REPETITION_MEMO = "repetition/"
_BEFORE_MEMO = "before/"
# Data this far behind its arrival is a backlog: it never rings as if it were now (CLINICAL rules of the house).
_LATE_US = 30 * MICROSECONDS
# A block must fit a chunk with its envelope; a longer one is cut, since its device would resend it for ever.
_MOST_BLOCK_BYTES = MAX_CHUNK_BYTES - 4096

OF_WHOM = "measured before this session began, by the device's own clock"

_encode = msgspec.msgpack.encode


@dataclass
class Output:
    """Bodies to append and the memos that become durable with them; `of_before` belongs to the session before."""

    bodies: list[Body] = field(default_factory=list)
    of_before: list[Body] = field(default_factory=list)
    memos: list[Memo] = field(default_factory=list)


class HandOver(NamedTuple):
    """Alerts that end with one patient and that begin for the next, and the memos that become durable with them."""

    ended: list[Alert]
    begun: list[Alert]
    memos: list[Memo]


class Pipeline:
    """One device's way from readings to bodies."""

    def __init__(
        self,
        device_id: str,
        *,
        has_clock: bool,
        limits: AlarmLimits,
        saved: Callable[[str], bytes | None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._device_id = device_id
        self._has_clock = has_clock
        known = saved(_OFFSET_MEMO + device_id)
        self._offset = msgspec.msgpack.decode(known, type=DeviceOffset) if known else None
        self._is_offset_unsaved = False
        self._last_reported: dict[Metric, tuple[str, float]] = {}
        for metric in METRICS:
            if METRICS[metric].episodic and (last := saved(self._repetition_memo(metric))):
                self._last_reported[metric] = msgspec.msgpack.decode(last, type=tuple[str, float])
        # Of the patient before: a monitor goes on repeating it.
        before = saved(_BEFORE_MEMO + device_id)
        self._of_before = msgspec.msgpack.decode(before, type=dict[Metric, tuple[str, float]]) if before else {}
        sides = [f"{metric}_{side}" for metric in limits.limits for side in ("low", "high")]
        self.alarms = DeviceAlarms(
            device_id, limits, saved=saved, conditions=[*sides, "leads_off", "sensor_off", "no_data"]
        )

    def _repetition_memo(self, metric: Metric) -> str:
        return f"{_REPETITION_MEMO}{self._device_id}/{metric}"

    def process(self, readings: tuple[Reading, ...], arrival_us: int, before: Before | None = None) -> Output:
        """The bodies of readings that arrived at `arrival_us`, in their order, alerts after what caused them.

        What a device whose clock we follow measured in the session before is that patient's, and rings nothing; of any
        other clock it is only doubtful whose it is.
        """
        output = Output()
        shift_us = self._shift(readings, arrival_us)
        for reading in readings:
            if before is not None and _start_us(reading) + shift_us < before.ended_us:
                if self._has_clock and before.is_certain:
                    output.of_before += self._moved(reading, shift_us, output)
                    continue
                if isinstance(reading, Numeric) and reading.quality is Quality.GOOD:
                    reading = msgspec.structs.replace(reading, quality=Quality.QUESTIONABLE, quality_reason=OF_WHOM)
            match reading:
                case Numeric():
                    placed = msgspec.structs.replace(reading, time_us=reading.time_us + shift_us)
                    self._numeric(placed, arrival_us, output)
                case SampleBlock():
                    self._take(output, *self.alarms.heard_leads(reading.leads, arrival_us))
                    output.bodies += _encoded(reading._replace(start_us=reading.start_us + shift_us))
                case DeviceEvent():
                    event = msgspec.structs.replace(reading, time_us=reading.time_us + shift_us)
                    output.bodies.append(event)
                    self._take(output, *self.alarms.event(event))
                case Position():
                    output.bodies.append(msgspec.structs.replace(reading, time_us=reading.time_us + shift_us))
        self._save_offset(output)
        return output

    def _moved(self, reading: Reading, shift_us: int, output: Output) -> list[Body]:
        """Bodies of the patient before; a repetition is none of either patient's."""
        if isinstance(reading, SampleBlock):
            return list(_encoded(reading._replace(start_us=reading.start_us + shift_us)))
        moved = msgspec.structs.replace(reading, time_us=reading.time_us + shift_us)
        if isinstance(moved, Numeric) and not self._is_new(moved, output):
            self.counts["repetition_dropped"] += 1
            return []
        return [moved]

    def hand_over(self, now_us: int) -> HandOver:
        """The device serves another patient from here on."""
        ended, begun, memos = self.alarms.hand_over(now_us)
        self._of_before = dict(self._last_reported)
        memos.append(Memo(Lane.URGENT, _BEFORE_MEMO + self._device_id, _encode(self._of_before)))
        return HandOver(ended, begun, memos)

    def clock_stepped(self, step_us: int) -> None:
        """The box's clock was set: the device's times stay where they are in history."""
        if self._offset is not None:
            self._offset = stepped(self._offset, step_us)
            self._is_offset_unsaved = True

    def heard(self, now_us: int) -> Output:
        """The device has said something, whatever it was."""
        output = Output()
        self._take(output, *self.alarms.technical("no_data", set(), now_us))
        return output

    def silent(self, now_us: int) -> Output:
        """The device has said nothing for too long."""
        output = Output()
        self._take(output, *self.alarms.technical("no_data", {self._device_id}, now_us))
        return output

    def _take(self, output: Output, alerts: Sequence[Body], memos: list[Memo]) -> None:
        output.bodies.extend(alerts)
        output.memos.extend(memos)

    def _save_offset(self, output: Output) -> None:
        """A changed offset is saved with the next routine records."""
        if self._is_offset_unsaved and any(
            lane_of(body) is Lane.ROUTINE for body in (*output.bodies, *output.of_before)
        ):
            output.memos.append(Memo(Lane.ROUTINE, _OFFSET_MEMO + self._device_id, _encode(self._offset)))
            self._is_offset_unsaved = False

    def _shift(self, readings: tuple[Reading, ...], arrival_us: int) -> int:
        """µs to add to this device's times."""
        if not self._has_clock:
            return 0
        newest_us = max((_end_us(reading) for reading in readings if not _is_old_news(reading)), default=None)
        if newest_us is not None:
            before = self._offset
            self._offset = observe(before, reported_us=newest_us, arrival_us=arrival_us)
            if before is None or before.offset_us != self._offset.offset_us:
                self._is_offset_unsaved = True
        return self._offset.offset_us if self._offset else 0

    def _numeric(self, numeric: Numeric, arrival_us: int, output: Output) -> None:
        is_late = arrival_us - numeric.time_us > _LATE_US
        if not self._is_new(numeric, output):
            self.counts["repetition_dropped"] += 1
            # Its alert may not have reached the disk with it; the alarm's own state knows whether it did.
            if self._of_before.get(numeric.metric) != (numeric.reported_time, numeric.value):
                self._take(output, *self.alarms.numeric(numeric, is_late=is_late))
            return
        output.bodies.append(numeric)
        self._take(output, *self.alarms.numeric(numeric, is_late=is_late))

    def _is_new(self, numeric: Numeric, output: Output) -> bool:
        """Monitors repeat the last cuff reading until the next one: that is not a new measurement."""
        if not METRICS[numeric.metric].episodic or numeric.reported_time is None:
            return True
        said = (numeric.reported_time, numeric.value)
        if self._last_reported.get(numeric.metric) == said:
            return False
        self._last_reported[numeric.metric] = said
        output.memos.append(Memo(Lane.ROUTINE, self._repetition_memo(numeric.metric), _encode(said)))
        return True


def _start_us(reading: Reading) -> int:
    return reading.start_us if isinstance(reading, SampleBlock) else reading.time_us


def _end_us(reading: Reading) -> int:
    if isinstance(reading, SampleBlock):
        return reading.start_us + round(len(reading.samples) * MICROSECONDS / reading.sample_rate_hz)
    return reading.time_us


def _is_old_news(reading: Reading) -> bool:
    """An episodic value is repeated long after it was measured, so it says nothing of the clocks."""
    return isinstance(reading, Numeric) and METRICS[reading.metric].episodic


def _encoded(block: SampleBlock) -> list[WaveformBlock]:
    """The block for the wire, in as many parts as it needs."""
    count = len(block.samples)
    if block.samples.size <= waveform.MAX_VALUES:
        encoded = waveform.encode(block)
        if len(encoded) <= _MOST_BLOCK_BYTES:
            return [WaveformBlock(block.stream, encoded, block.acquisition, block.quality, block.quality_reason)]
    half = count // 2
    later_us = block.start_us + round(half * MICROSECONDS / block.sample_rate_hz)
    second = block._replace(samples=block.samples[half:], first_index=block.first_index + half, start_us=later_us)
    return [*_encoded(block._replace(samples=block.samples[:half])), *_encoded(second)]

"""Heart Rate service 1.0: any chest strap or arm band that speaks the Bluetooth standard.

The service has no clock: a heart rate takes the time its packet arrived, and RR intervals are laid end to end up to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, NamedTuple

import msgspec

from drivers.codecs.reader import Reader
from drivers.driver import Driver, DriverContext, DriverOptions, LinkKind
from drivers.links.gatt import GattLink, Refused
from wire.messages import DecodeError
from wire.readings import DeviceEvent, EventKind, Numeric, Quality, Reading
from wire.vocabulary import METRICS, Metric

HEART_RATE_SERVICE = "180d"
HEART_RATE_MEASUREMENT = "2a37"
BATTERY_LEVEL = "2a19"

# Heart Rate service §3.1.1.1, flags of the measurement.
_RATE_IS_U16 = 1 << 0
_HAS_CONTACT = 1 << 1  # means something only with the next bit
_CONTACT_SUPPORTED = 1 << 2
_HAS_ENERGY = 1 << 3
_HAS_RR = 1 << 4
_RR_PER_S = 1024
# A link that delivers later than its supervision timeout is dead; straps ask for up to 6 s. Later beats are new ones.
_LONGEST_LAG_US = 6_000_000
# A packet without RR intervals is normal between slow beats, down to 20/min; then beats have been missed.
_LONGEST_BEAT_US = 3_000_000
_NO_CONTACT = "no sensor contact"


class HeartRateOptions(DriverOptions, frozen=True):
    """`silence_s`: a strap notifies about once a second (§3.1), so a longer silence means the link is dead."""

    silence_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 10.0


class Measurement(NamedTuple):
    """One Heart Rate Measurement as sent. `has_contact` is None where the sensor cannot tell; RR in 1/1024 s."""

    heart_rate_bpm: int
    has_contact: bool | None
    energy_kj: int | None
    rr_1024: tuple[int, ...]


def parse(packet: bytes) -> Measurement:
    """Reads one 2A37 value, §3.1.1. Reserved flags are ignored, as the specification asks. Raises DecodeError."""
    reader = Reader(packet, "heart rate measurement")
    flags = reader.u8()
    heart_rate = reader.u16() if flags & _RATE_IS_U16 else reader.u8()
    has_contact = bool(flags & _HAS_CONTACT) if flags & _CONTACT_SUPPORTED else None
    energy = reader.u16() if flags & _HAS_ENERGY else None
    if not flags & _HAS_RR:
        reader.finish()
        return Measurement(heart_rate, has_contact, energy, ())
    if reader.remaining == 0 or reader.remaining % 2:
        raise reader.error(f"RR intervals announced, {reader.remaining} bytes left")
    intervals = tuple(reader.u16() for _ in range(reader.remaining // 2))
    return Measurement(heart_rate, has_contact, energy, intervals)


class _Strap:
    """What one connection remembers between packets: where the last beat lies and whether there is skin contact."""

    def __init__(self, skipped: Callable[[str], None]) -> None:
        self._skipped = skipped
        self._has_contact: bool | None = None
        self._last_beat_us: int | None = None  # monotonic

    def forget_beats(self) -> None:
        """Packets are missing: the next beats do not follow the last one."""
        self._last_beat_us = None

    def readings(self, measurement: Measurement, arrival_us: int, arrival_mono_us: int) -> list[Reading]:
        """The packet's readings in order of time within each metric, contact changes first."""
        readings: list[Reading] = []
        contact = measurement.has_contact
        if contact is not None and contact != self._has_contact:
            self._has_contact = contact
            kind = EventKind.SENSOR_ON if contact else EventKind.SENSOR_OFF
            readings.append(DeviceEvent(kind, arrival_us, leads=(Metric.HEART_RATE,)))
        # Some straps go on sending the last rate after contact is lost.
        quality, reason = (Quality.QUESTIONABLE, _NO_CONTACT) if contact is False else (Quality.GOOD, "")
        if self._is_real(Metric.HEART_RATE, measurement.heart_rate_bpm):
            value = float(measurement.heart_rate_bpm)
            readings.append(Numeric(Metric.HEART_RATE, value, arrival_us, quality=quality, quality_reason=reason))
        for interval_ms, beat_us in self._beats(measurement, arrival_mono_us):
            time_us = arrival_us - (arrival_mono_us - beat_us)
            readings.append(Numeric(Metric.RR_INTERVAL, interval_ms, time_us, quality=quality, quality_reason=reason))
        return readings

    def _beats(self, measurement: Measurement, arrival_mono_us: int) -> list[tuple[float, int]]:
        """RR intervals in ms, each with the monotonic time of the beat that ends it."""
        intervals_ms = [interval * 1000 / _RR_PER_S for interval in measurement.rr_1024]
        intervals_ms = [interval for interval in intervals_ms if self._is_real(Metric.RR_INTERVAL, interval)]
        last_us = self._last_beat_us
        if not intervals_ms:
            if last_us is not None and arrival_mono_us - last_us > _LONGEST_BEAT_US:
                self.forget_beats()
            return []
        beats_us = place_beats([round(interval * 1000) for interval in intervals_ms], arrival_mono_us, last_us)
        self._last_beat_us = beats_us[-1]
        return list(zip(intervals_ms, beats_us, strict=True))

    def _is_real(self, metric: Metric, value: float) -> bool:
        """Counts what is not. A rate of 0 is a strap that has not found the heart yet: straps cannot tell asystole."""
        low, high = METRICS[metric].plausible
        if value == 0:
            self._skipped(f"{metric} of zero")
            return False
        if not low <= value <= high:
            self._skipped(f"{metric} implausible")
            return False
        return True


def place_beats(intervals_us: Sequence[int], arrival_us: int, last_us: int | None) -> list[int]:
    """Times of the beats that end the intervals (oldest first): each later than the one before and than `last_us`.

    They follow the last beat; where that would run past arrival they are squeezed up to it, since the first packet's
    beats were placed too late by up to one period. Without a recent beat to follow they lie backwards from arrival.
    """
    total_us = sum(intervals_us)
    if last_us is None or last_us + total_us < arrival_us - _LONGEST_LAG_US:
        start_us, scale = arrival_us - total_us, 1.0
    else:
        start_us, scale = last_us, min(1.0, (arrival_us - last_us) / total_us)
    beats_us: list[int] = []
    previous_us, elapsed_us = start_us, 0
    for interval_us in intervals_us:
        elapsed_us += interval_us
        # Two packets may arrive in one microsecond; their beats still differ.
        previous_us = max(previous_us + 1, start_us + round(elapsed_us * scale))
        beats_us.append(previous_us)
    return beats_us


async def stream(link: GattLink, context: DriverContext) -> AsyncIterator[Reading]:
    """Battery once, then every measurement until the link is lost."""
    options = context.options
    silence_s = options.silence_s if isinstance(options, HeartRateOptions) else HeartRateOptions().silence_s
    await link.subscribe([HEART_RATE_MEASUREMENT])
    if link.has(BATTERY_LEVEL):
        try:
            battery = await link.read(BATTERY_LEVEL)
        except Refused:
            context.skipped("battery refused")
        else:
            yield DeviceEvent(EventKind.BATTERY, context.clock.now_us(), detail=f"{int.from_bytes(battery[:1])} %")
    strap = _Strap(context.skipped)
    async for notification in link.notifications([HEART_RATE_MEASUREMENT], silence_s):
        if notification.lost_before:
            context.counts["notifications lost in queue"] += notification.lost_before
            strap.forget_beats()
        try:
            measurement = parse(notification.value)
        except DecodeError:
            context.skipped("undecodable")
            continue
        for reading in strap.readings(measurement, notification.arrival_us, notification.arrival_mono_us):
            yield reading


def decode(packet: bytes) -> tuple[Reading, ...]:
    """One 2A37 value alone, as if it had arrived at time 0. Raises DecodeError."""
    return tuple(_Strap(lambda _reason: None).readings(parse(packet), arrival_us=0, arrival_mono_us=0))


DRIVER = Driver(
    name="ble.heart_rate",
    title="Heart rate strap (Bluetooth standard)",
    link=LinkKind.GATT,
    stream=stream,
    decode=decode,
    provides=(Metric.HEART_RATE, Metric.RR_INTERVAL),
    advertises=HEART_RATE_SERVICE,
    options=HeartRateOptions,
)

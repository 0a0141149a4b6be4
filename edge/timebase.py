"""Places a device's own times on the box's clock by one offset per device, so that nothing is re-stamped one by one.

Pure. A reading reaches us late or very late, never early, so the smallest arrival minus reported time is the best
estimate of the difference between the two clocks; a resend after an outage must not move it.
"""

from __future__ import annotations

import msgspec

from wire.clock import EARLIEST_PLAUSIBLE_US

# An estimate may fall at once; it rises only when a whole window of arrivals stays above it (the device's clock drifts
# slowly or was set back), so that one late burst changes nothing.
_WINDOW_US = 60_000_000
# Smaller changes than this are network jitter: times keep their spacing.
_STEP_US = 20_000
# No network delivers this much earlier than before: a fall so large counts when the next reading confirms it.
_LEAP_US = 5_000_000


class DeviceOffset(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one device's clock: box time minus device time, and the smallest seen in the current window."""

    offset_us: int
    window_started_us: int
    window_smallest_us: int
    doubted_us: int | None = None  # a much smaller difference seen once: a clock set, or one wrong time stamp


def observe(known: DeviceOffset | None, *, reported_us: int, arrival_us: int) -> DeviceOffset:
    """What is known after a reading the device stamped `reported_us` arrived at `arrival_us` by the box's clock."""
    seen_us = arrival_us - reported_us
    # What was learnt before the box's clock was set says nothing of the clock since.
    if known is None or known.window_started_us < EARLIEST_PLAUSIBLE_US <= arrival_us:
        return DeviceOffset(seen_us, arrival_us, seen_us)
    offset_us = known.offset_us
    if seen_us < offset_us - _LEAP_US and (known.doubted_us is None or abs(seen_us - known.doubted_us) > _LEAP_US):
        return msgspec.structs.replace(known, doubted_us=seen_us)
    if seen_us < offset_us - _STEP_US:
        offset_us = seen_us
    smallest_us = min(known.window_smallest_us, seen_us)
    if 0 <= arrival_us - known.window_started_us < _WINDOW_US:
        return DeviceOffset(offset_us, known.window_started_us, smallest_us)
    if smallest_us > offset_us + _STEP_US:
        offset_us = smallest_us
    return DeviceOffset(offset_us, arrival_us, seen_us)


def stepped(known: DeviceOffset, step_us: int) -> DeviceOffset:
    """What is known after the box's own clock was set by `step_us`: the device's did not move."""
    return DeviceOffset(
        known.offset_us + step_us,
        known.window_started_us + step_us,
        known.window_smallest_us + step_us,
        None if known.doubted_us is None else known.doubted_us + step_us,
    )

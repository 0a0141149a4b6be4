"""What a driver is: an async generator from a link to readings, and one constant that describes it.

Generators own nothing. With `confirms=True`, resuming after a yield means everything yielded is on disk: only then may
the driver acknowledge to the device. Bad packets are skipped and counted with `context.skipped`, never raised across a
yield.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from wire.clock import Clock
from wire.readings import Reading
from wire.vocabulary import Metric


class LinkLost(Exception):
    """The device is gone: the session starts again with a fresh link."""


class LinkKind(StrEnum):
    """What a driver talks through."""

    MLLP = "mllp"
    GATT = "gatt"


@dataclass(frozen=True)
class Transfer:
    """Readings that a device hands over together and stores once.

    `key` names the transfer in the device's own words (message id and time): the same key again is a resend, and the
    box keeps the first. `simulated` is the device's own word that this is no patient.
    """

    readings: tuple[Reading, ...]
    key: str | None = None
    simulated: bool = False


class DriverOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A driver's own configuration keys; drivers with options subclass it."""


@dataclass
class DriverContext:
    """What a driver may use besides its link."""

    clock: Clock
    options: DriverOptions = field(default_factory=DriverOptions)
    # Why packets were skipped or values dropped, by reason: goes to the heartbeat.
    counts: Counter[str] = field(default_factory=Counter)

    def skipped(self, reason: str) -> None:
        """Counts one packet or value that was not turned into a reading."""
        self.counts[reason] += 1


# The link's type follows from `link`; one signature for every kind lets the catalogue hold them all.
Stream = Callable[[Any, DriverContext], AsyncIterator[Reading | Transfer]]


@dataclass(frozen=True)
class Driver:
    """One kind of device. `decode` reads one packet alone, for `vitalwire decode` and the golden vectors."""

    name: str
    title: str
    link: LinkKind
    stream: Stream
    decode: Callable[[bytes], tuple[Reading, ...]]
    provides: tuple[Metric | str, ...]
    advertises: str | None = None
    confirms: bool = False
    has_clock: bool = False  # its readings carry the device's own time, to be placed on the box's clock
    options: type[DriverOptions] = DriverOptions
    tried_on_hardware: bool = False

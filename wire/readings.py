"""The readings that travel: what a device said, what was concluded from it, and what is missing.

Times are integer µs since 1970 UTC. Structs travel as MessagePack arrays, so a field is only ever appended.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from wire.vocabulary import Metric


class Quality(IntEnum):
    """How far a reading may be trusted; missing is never normal and never GOOD."""

    GOOD = 0
    QUESTIONABLE = 1
    INVALID = 2


class Origin(IntEnum):
    """Where data comes from. A higher value never turns back into a lower one: simulated is never a patient."""

    REAL = 0
    TEST = 1
    DEMO = 2


class Numeric(msgspec.Struct, frozen=True, tag="numeric", array_like=True):
    """One measured value in its metric's canonical unit. `reported_time` is the device's own clock, as it said it."""

    metric: Metric
    value: float
    time_us: int
    reported_time: str | None = None
    quality: Quality = Quality.GOOD
    quality_reason: str = ""


class Acquisition(msgspec.Struct, frozen=True, array_like=True):
    """How a waveform was recorded; a block without it is undeclared, and ST is then not scored."""

    low_hz: float
    high_hz: float
    filters: tuple[str, ...] = ()
    placement: str = ""
    derived_leads: tuple[str, ...] = ()


class SampleBlock(NamedTuple):
    """A stretch of one stream as it lives in memory.

    `samples` is int32, shape (n, leads), in counts; the value of lead k is samples[:, k] * scale[k] + offset[k] in the
    stream's canonical unit. `first_index` counts samples of the stream, so a lost block leaves a visible hole.
    """

    stream: str
    leads: tuple[str, ...]
    samples: NDArray[np.int32]
    sample_rate_hz: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    first_index: int
    start_us: int
    acquisition: Acquisition | None = None
    quality: Quality = Quality.GOOD
    quality_reason: str = ""


class WaveformBlock(msgspec.Struct, frozen=True, tag="waveform", array_like=True):
    """A SampleBlock as it travels and is stored; `data` starts with a codec id (wire/waveform.py)."""

    stream: str
    data: bytes
    acquisition: Acquisition | None = None
    quality: Quality = Quality.GOOD
    quality_reason: str = ""


class EventKind(StrEnum):
    """What a device can say besides values."""

    LEADS_OFF = "leads_off"
    LEADS_ON = "leads_on"
    SENSOR_OFF = "sensor_off"
    SENSOR_ON = "sensor_on"
    BATTERY = "battery"
    BUTTON_PRESSED = "button_pressed"
    CARD_SCANNED = "card_scanned"
    MEASUREMENT_FAILED = "measurement_failed"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class DeviceEvent(msgspec.Struct, frozen=True, tag="event", array_like=True):
    """Something a device said or did; `leads` names the leads or the metric it concerns."""

    kind: EventKind
    time_us: int
    detail: str = ""
    leads: tuple[str, ...] = ()


class Position(msgspec.Struct, frozen=True, tag="position", array_like=True):
    """Where the vehicle is: degrees WGS 84, m/s, the receiver's fix quality."""

    latitude: float
    longitude: float
    speed: float
    fix_quality: int
    time_us: int


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """One fact a conclusion rests on."""

    metric: str
    value: float
    limit: float | None = None
    lead: str = ""


class Finding(msgspec.Struct, frozen=True, tag="finding", array_like=True):
    """A conclusion of an algorithm, with everything a person needs to doubt it."""

    code: str
    severity: str
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...]
    algorithm: str
    version: str
    onset_us: int


class AlertKind(StrEnum):
    """IEC 60601-1-8: about the patient, or about the equipment."""

    PHYSIOLOGICAL = "physiological"
    TECHNICAL = "technical"


class Priority(IntEnum):
    """IEC 60601-1-8 alarm priority."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class AlertPhase(StrEnum):
    """Where an alert condition stands."""

    RAISED = "raised"
    ESCALATED = "escalated"
    CLEARED = "cleared"


class Alert(msgspec.Struct, frozen=True, tag="alert", array_like=True):
    """One step in the life of an alert condition; `alert_id` is the same in every step."""

    alert_id: str
    condition: str
    kind: AlertKind
    priority: Priority
    phase: AlertPhase
    onset_us: int
    time_us: int
    evidence: tuple[Evidence, ...] = ()
    algorithm: str = ""
    version: str = ""


class Assessment(msgspec.Struct, frozen=True, tag="assessment", array_like=True):
    """A person's answers to a form, kept as given."""

    form: str
    form_version: str
    answers: dict[str, str]
    assessor: str
    time_us: int


class SessionKind(StrEnum):
    """What a stretch of readings belongs to."""

    VISIT = "visit"
    MISSION = "mission"
    HOME = "home"


class SessionPhase(StrEnum):
    """A session is opened once, may be identified by an opaque token, and is closed once."""

    OPENED = "opened"
    IDENTIFIED = "identified"
    CLOSED = "closed"


class SessionEvent(msgspec.Struct, frozen=True, tag="session", array_like=True):
    """A step in the life of a session. `label` is a vehicle or booth, never a person; `token` is opaque."""

    session_id: str
    kind: SessionKind
    phase: SessionPhase
    time_us: int
    label: str = ""
    token: str = ""


class GapReason(StrEnum):
    """Why something is missing for good."""

    LINK = "link"
    OVERFLOW = "overflow"
    DISK = "disk"


class Gap(msgspec.Struct, frozen=True, tag="gap", array_like=True):
    """Names what is lost, so that loss is never silent: a run of one lane, or a stretch of one stream."""

    reason: GapReason
    from_us: int
    to_us: int
    epoch: bytes = b""
    lane: str = ""
    first_seq: int = 0
    last_seq: int = 0
    stream: str = ""
    first_index: int = 0
    last_index: int = 0


class DeviceState(msgspec.Struct, frozen=True, array_like=True):
    """How a box finds one of its devices; `silent_s` is None when it said nothing since the box's process started."""

    device_id: str
    driver: str
    connected: bool
    silent_s: float | None = None


class Status(msgspec.Struct, frozen=True, tag="status", array_like=True):
    """A box's heartbeat: counters and gauges by name (docs/wire.md §3.1), its devices; no patient values."""

    time_us: int
    version: str
    gauges: dict[str, float]
    counters: dict[str, int]
    devices: tuple[DeviceState, ...] = ()


class CommandResult(StrEnum):
    """How a command ended on the box."""

    DONE = "done"
    REFUSED = "refused"  # it was wrong, nothing was tried
    FAILED = "failed"  # it was right, the box could not
    ROLLED_BACK = "rolled_back"  # it was tried and undone
    EXPIRED = "expired"


class CommandOutcome(msgspec.Struct, frozen=True, tag="outcome", array_like=True):
    """The box's one answer to a command; `detail` says why to a person."""

    command_id: bytes
    result: CommandResult
    detail: str
    time_us: int


Reading = Numeric | SampleBlock | DeviceEvent | Position
Body = (
    Numeric
    | WaveformBlock
    | DeviceEvent
    | Position
    | Finding
    | Alert
    | Assessment
    | SessionEvent
    | Gap
    | Status
    | CommandOutcome
)

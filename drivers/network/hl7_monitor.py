"""A bedside or transport monitor that speaks HL7 v2 (IHE PCD-01) over MLLP: numerics and 12-lead waveforms.

One message is one Transfer. The monitor gets its AA only when the transfer is on disk. Names and patient numbers (PID)
are never read.

Answers. Read, or of a kind we do not read (ADT, ORU^W01 …): AA, as a resend would bring nothing new. Unreadable: AE,
so that the monitor can report or try again; but bytes that stay unreadable the third time get AA, since a monitor that
resends until AA would otherwise hold back everything measured later. Each is counted, none is raised.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import msgspec

from drivers.codecs import hl7
from drivers.codecs.hl7 import Message, Segment, TimeStamp, Verdict, coded
from drivers.codecs.mdc_units import UnitError, read_number, read_unit, to_metric
from drivers.codecs.pcd_waveform import Group, StreamPlacer, facet_kind, read_group
from drivers.driver import Driver, DriverContext, DriverOptions, LinkKind, Transfer
from drivers.links.mllp import MllpLink
from wire.clock import SystemClock
from wire.messages import DecodeError
from wire.readings import DeviceEvent, EventKind, Numeric, Quality, Reading
from wire.vocabulary import METRIC_BY_MDC, METRICS, Metric

# Numbers that mean "no value" on every monitor seen (DEVICES.md §0.6). -100 and -1 can also be real: ST of -100 µV is
# the 0.1 mV every rule asks about, and an arterial line reads -1 mmHg at zero; they are sentinels only out of range.
_SENTINELS = frozenset(read_number(text) for text in ("-999", "-99.9"))
_SENTINELS_IF_IMPLAUSIBLE = frozenset(read_number(text) for text in ("-100", "-1"))
# OBX-11: cannot be obtained, deleted, wrong, not asked, in the laboratory, ordered.
_STATUS_WITHOUT_VALUE = frozenset("XDWNIO")
# OBX-8 (IHE PCD TF-3 B.8): a measurement that did not work, and one to be taken with care.
_FLAGS_INVALID = frozenset(("INV", "NAV", "CAL"))
_FLAGS_QUESTIONABLE = frozenset(("QUES", "EARLY", "BUSY"))
_FLAGS_SIMULATED = frozenset(("DEMO", "TEST"))
_NUMBER_TYPES = frozenset(("NM", "SN", "ST", ""))
_WAVEFORM_TYPE = "NA"
_SNAPSHOT_WAVEFORM = "MDC_OBS_WAVE_NONCTS"
_KINDS_READ = frozenset(("ORU^R01", "ORU"))
# Twelve leads with facets and a hundred numerics are two hundred; each costs the loop some 50 µs.
_MAX_SEGMENTS = 4096
_TRIES_BEFORE_GIVING_UP = 2
_KEYS_REMEMBERED = 256
_KEY_FIELD_LENGTH = 64  # MSH-10 has at most 20 characters, MSH-3 and MSH-4 an EUI-64 and a name
_LEADS_REMEMBERED = 256


class MonitorOptions(DriverOptions, frozen=True, forbid_unknown_fields=True):
    """What a site may set."""

    # Zone of times without one, in minutes east of UTC; absent = the box's own zone.
    utc_offset_minutes: Annotated[int, msgspec.Meta(ge=-12 * 60, le=14 * 60)] | None = None


class _Failed(ValueError):
    """A measurement that was made and did not work; the message is a short reason to count."""


class MonitorReader:
    """Turns the messages of one connection into readings, remembering what changes between messages."""

    def __init__(self, options: DriverOptions, now_us: Callable[[], int], skip: Callable[[str], None]) -> None:
        self._zone = options.utc_offset_minutes if isinstance(options, MonitorOptions) else None
        self._now_us = now_us
        self._skip = skip
        self._placer = StreamPlacer()
        self._leads_off: set[tuple[str, str]] = set()
        self._failed: set[Metric] = set()

    def read(self, message: Message) -> Transfer:
        """What an ORU^R01 says. Raises DecodeError for a message that is none."""
        if not message.header.field(9):
            raise DecodeError("no message type in MSH-9")
        if message.kind not in _KINDS_READ:
            raise DecodeError("message kind is not read")
        if len(message.segments) > _MAX_SEGMENTS:
            raise DecodeError("more segments than any monitor sends")
        for _ in range(message.malformed_segments):
            self._skip("malformed segment")
        zone = hl7.zone_minutes(message.header.field(7))
        times = _Times(message, self._zone if zone is None else zone, self._now_us)
        readings: list[Reading] = []
        taken: dict[Metric, str] = {}
        for order, rows in _groups(message):
            self._read_numerics(message, order, rows, times, taken, readings)
            self._read_waveforms(message, order, rows, times, readings)
        return Transfer(tuple(readings), transfer_key(message), _is_simulated(message))

    def _read_numerics(
        self,
        message: Message,
        order: Segment | None,
        rows: list[Segment],
        times: _Times,
        taken: dict[Metric, str],
        readings: list[Reading],
    ) -> None:
        for row in rows:
            if row.field(2) == _WAVEFORM_TYPE or (not row.field(5) and row.field(11) == "X"):
                continue
            metric = self._metric(message, row)
            if metric is None:
                continue
            if taken.get(metric, row.field(4)) != row.field(4):
                # Two sites of one metric (T1 and T2): shown as one they would contradict each other.
                self._skip("second channel of a metric")
                continue
            at = times.measured(row, order)
            try:
                numeric = self._read_numeric(message, row, metric, at)
            except _Failed as error:
                self._skip(str(error))
                if metric not in self._failed:
                    self._failed.add(metric)
                    event = DeviceEvent(EventKind.MEASUREMENT_FAILED, at.us, str(error), (metric.value,))
                    readings.append(event)
                continue
            if numeric is not None:
                taken[metric] = row.field(4)
                self._failed.discard(metric)
                readings.append(numeric)

    def _metric(self, message: Message, row: Segment) -> Metric | None:
        """The metric an OBX names; some northern monitors put the identifier into OBX-2."""
        identifier = row.field(3) or (row.field(2) if "_" in row.field(2) else "")
        triplets = coded(message, identifier)
        for triplet in triplets:
            is_mdc = triplet.system == "MDC" or (not triplet.system and triplet.text.startswith("MDC_"))
            if is_mdc and triplet.code.isascii() and triplet.code.isdecimal() and len(triplet.code) < 10:
                metric = METRIC_BY_MDC.get(int(triplet.code))
                if metric is not None:
                    return metric
        if row.field(5) and facet_kind(triplets) is None:
            self._skip("unknown code")
        return None

    def _read_numeric(self, message: Message, row: Segment, metric: Metric, at: TimeStamp) -> Numeric | None:
        """None where there is no value; raises _Failed where there is one that cannot stand."""
        text = row.field(5).strip()
        if row.field(2) == "SN":
            text = text.removeprefix("=").removeprefix("^") if text.startswith(("=^", "^")) else text
        if not text or text == '""':
            self._skip("no value")
            return None
        if row.field(11) in _STATUS_WITHOUT_VALUE and row.field(11):
            self._skip("value withdrawn by its status")
            return None
        if row.field(2) not in _NUMBER_TYPES and row.field(3):
            self._skip("value is not a number")
            return None
        flags = _flags(message, row)
        if flags & _FLAGS_INVALID:
            raise _Failed("flagged invalid")
        try:
            raw = read_number(text)
        except ValueError:
            self._skip("value is not a number")
            return None
        if raw in _SENTINELS:
            self._skip("no value")
            return None
        try:
            value = to_metric(raw, read_unit(coded(message, row.field(6))), metric)
        except UnitError as error:
            if raw in _SENTINELS_IF_IMPLAUSIBLE:
                self._skip("no value")
                return None
            raise _Failed(str(error)) from error
        low, high = METRICS[metric].plausible
        if not low <= value <= high:
            if raw in _SENTINELS_IF_IMPLAUSIBLE:
                self._skip("no value")
                return None
            raise _Failed("value out of range")
        doubts = sorted(flags & _FLAGS_QUESTIONABLE)
        quality = Quality.QUESTIONABLE if doubts else Quality.GOOD
        return Numeric(metric, float(value), at.us, at.text or None, quality, " ".join(doubts))

    def _read_waveforms(
        self, message: Message, order: Segment | None, rows: list[Segment], times: _Times, readings: list[Reading]
    ) -> None:
        samples = [row for row in rows if row.field(2) == _WAVEFORM_TYPE]
        if not samples:
            return
        if order is not None and any(one.text == _SNAPSHOT_WAVEFORM for one in coded(message, order.field(4))):
            self._skip("snapshot waveform")
            return
        facets = [row for row in rows if row.field(2) != _WAVEFORM_TYPE]
        group = read_group(message, samples, facets, self._skip)
        start_us = times.started(samples[0], order).us
        blocks = self._placer.place(group, start_us, self._skip)
        readings.extend(self._lead_changes(group, start_us))
        readings.extend(blocks)

    def _lead_changes(self, group: Group, at_us: int) -> list[DeviceEvent]:
        """Leads that went off or came back with this group; a lead that was never on is off from the start."""
        gone = [name for name in group.silent if name not in self._leads_off]
        if len(self._leads_off) + len(gone) > _LEADS_REMEMBERED:  # no monitor has them: names made up as it goes
            self._skip("too many leads off")
            gone = []
        heard = [(lead.kind, lead.name) for lead in group.leads if lead.present.any()]
        back = [name for name in heard if name in self._leads_off]
        self._leads_off = (self._leads_off | set(gone)) - set(back)
        events = []
        for kind, off, on in (
            ("ecg", EventKind.LEADS_OFF, EventKind.LEADS_ON),
            ("pleth", EventKind.SENSOR_OFF, EventKind.SENSOR_ON),
        ):
            for event, changed in ((off, gone), (on, back)):
                if leads := tuple(lead for stream_kind, lead in changed if stream_kind == kind):
                    events.append(DeviceEvent(event, at_us, leads=leads))
        return events


class _Times:
    """Device times of one message, each with the fields it may fall back to."""

    def __init__(self, message: Message, zone: int | None, now_us: Callable[[], int]) -> None:
        self._zone = zone
        self._sent = message.header.field(7)
        self._now_us = now_us
        self._read: dict[str, TimeStamp | None] = {}  # most rows of a message carry the same time

    def measured(self, row: Segment, order: Segment | None) -> TimeStamp:
        """When a numeric was measured: OBX-14, else OBR-7, else MSH-7, else now (with no words of the device)."""
        return self._first(row.field(14), order.field(7) if order else "", self._sent)

    def started(self, row: Segment, order: Segment | None) -> TimeStamp:
        """When a waveform starts: OBR-7 before OBX-14, which monitors set to the end."""
        return self._first(order.field(7) if order else "", row.field(14), self._sent)

    def _first(self, *stamps: str) -> TimeStamp:
        for stamp in stamps:
            if stamp and stamp not in self._read:
                self._read[stamp] = hl7.parse_time(stamp, self._zone)
            if time := self._read.get(stamp):
                return time
        return TimeStamp(self._now_us(), "")


def _groups(message: Message) -> list[tuple[Segment | None, list[Segment]]]:
    """Each OBR with the OBX after it; OBX before any OBR stand under None."""
    groups: list[tuple[Segment | None, list[Segment]]] = [(None, [])]
    for segment in message.segments:
        if segment.name == "OBR":
            groups.append((segment, []))
        elif segment.name == "OBX":
            groups[-1][1].append(segment)
    return groups


def _flags(message: Message, row: Segment) -> set[str]:
    return {message.components(flag)[0].strip().upper() for flag in message.repetitions(row.field(8))}


def _is_simulated(message: Message) -> bool:
    """The monitor's own word: MSH-11 other than production, or demo or test data in any OBX-8."""
    processing = message.components(message.header.field(11))[0].strip()
    if processing not in ("", "P"):
        return True
    return any(
        _flags(message, row) & _FLAGS_SIMULATED for row in message.segments if row.name == "OBX" and row.field(8)
    )


def transfer_key(message: Message) -> str:
    """The same for a resend: sender, MSH-10, MSH-7 and a digest of the content.

    The digest is there because some monitors send a constant MSH-10 and whole seconds: without it the second message
    of a second would be taken for a resend and be lost.
    """
    header = message.header
    body = "\r".join("|".join(segment.fields) for segment in message.segments[1:])
    digest = hashlib.blake2b(body.encode(errors="replace"), digest_size=8).hexdigest()
    return "|".join([*(header.field(number)[:_KEY_FIELD_LENGTH] for number in (3, 4, 10, 7)), digest])


async def stream(link: MllpLink, context: DriverContext) -> AsyncIterator[Reading | Transfer]:
    """Transfers of one connection, each acknowledged once the consumer comes back for more."""
    reader = MonitorReader(context.options, context.clock.now_us, context.skipped)
    stored: OrderedDict[str, None] = OrderedDict()
    unreadable: Counter[bytes] = Counter()
    while True:
        try:
            raw = await link.receive()
        except DecodeError as error:
            context.skipped(str(error))
            continue
        message: Message | None = None
        verdict = Verdict.ACCEPTED
        transfer: Transfer | None = None
        try:
            message = hl7.parse(raw)
            if message.kind.startswith("ACK"):
                context.skipped("acknowledgement to nothing")  # answering one would start an endless exchange
                continue
            if message.kind not in _KINDS_READ and message.header.field(9):
                context.skipped("message kind not read")
            elif transfer_key(message) in stored:
                context.skipped("resend")  # already on disk: read again it would move the waveform position
            else:
                transfer = reader.read(message)
        except DecodeError:
            context.skipped("undecodable message")
            verdict = _verdict_on_unreadable(raw, unreadable)
        if transfer is not None:
            if transfer.readings:
                yield transfer
            if transfer.key is not None:
                stored[transfer.key] = None
                if len(stored) > _KEYS_REMEMBERED:
                    stored.popitem(last=False)
        for answer in hl7.acknowledgements(message, verdict, context.clock.now_us()):
            await link.send(answer)


def _verdict_on_unreadable(raw: bytes, unreadable: Counter[bytes]) -> Verdict:
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    if digest not in unreadable and len(unreadable) >= _KEYS_REMEMBERED:
        unreadable.clear()
    unreadable[digest] += 1
    return Verdict.ERROR if unreadable[digest] <= _TRIES_BEFORE_GIVING_UP else Verdict.ACCEPTED


def decode(packet: bytes) -> tuple[Reading, ...]:
    """What one message says, with or without MLLP framing. Raises DecodeError when it is not read."""
    reader = MonitorReader(MonitorOptions(), SystemClock().now_us, lambda reason: None)
    return reader.read(hl7.parse(packet)).readings


DRIVER = Driver(
    name="network.hl7_monitor",
    title="HL7 v2 monitor (IHE PCD-01 over MLLP)",
    link=LinkKind.MLLP,
    stream=stream,
    decode=decode,
    provides=(*dict.fromkeys(METRIC_BY_MDC.values()), "ecg", "pleth"),
    confirms=True,
    has_clock=True,
    options=MonitorOptions,
)

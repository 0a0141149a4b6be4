"""HL7 v2 in ER7: bytes to segments and coded fields, time stamps, and the acknowledgement to a message.

Split by hand: `hl7` 0.4.5 builds an object per component, which took 85 ms for half a second of twelve leads at
1000 Hz (6000 samples) where this takes well under 1 ms, and raises IndexError on a short MSH.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from wire.clock import MICROSECONDS
from wire.messages import DecodeError

_UTF8, _GB18030, _LATIN1 = "utf-8", "gb18030", "latin-1"
_GB_NAMES = (b"GB 18030", b"GB18030", b"GBK", b"GB2312", b"GB 2312")
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_DEFAULT_ENCODING = "^~\\&"


class Segment(NamedTuple):
    """One segment; `field(3)` of an OBX is OBX-3, and the same numbering holds for MSH."""

    fields: tuple[str, ...]

    @property
    def name(self) -> str:
        """Three letters, such as OBX."""
        return self.fields[0]

    def field(self, number: int) -> str:
        """The field as sent, empty when the segment is shorter."""
        return self.fields[number] if number < len(self.fields) else ""


class Message(NamedTuple):
    """One message: MSH first. `charset` is the Python name of the encoding it was read with."""

    segments: tuple[Segment, ...]
    charset: str
    malformed_segments: int
    marks: str  # the separators of components, repetitions, the escape and subcomponents (MSH-2)

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @property
    def control_id(self) -> str:
        """MSH-10: what an acknowledgement names."""
        return self.header.field(10)

    @property
    def kind(self) -> str:
        """Message type and event, such as `ORU^R01`."""
        return "^".join(self.components(self.header.field(9))[:2])

    def components(self, field: str) -> list[str]:
        """The parts of a field's first repetition."""
        return field.split(self.marks[1], 1)[0].split(self.marks[0])

    def repetitions(self, field: str) -> list[str]:
        """The repetitions of a field."""
        return field.split(self.marks[1])


class Coded(NamedTuple):
    """One triplet of a coded element (CE, CWE)."""

    code: str
    text: str
    system: str


def parse(raw: bytes) -> Message:
    """Reads one message, with or without MLLP framing; segments end with CR, LF or both. Raises DecodeError."""
    body = raw.strip(b"\x0b\x1c\r\n \t\x00").removeprefix(b"\xef\xbb\xbf")
    if not body.startswith(b"MSH"):
        raise DecodeError("no MSH segment", raw)
    text, charset = _decode_text(body)
    lines = [line for line in text.replace("\n", "\r").split("\r") if line]
    separator = lines[0][3:4]
    if not separator or separator.isalnum() or not separator.isprintable():
        raise DecodeError("no field separator after MSH", raw)
    header = lines[0].split(separator)
    segments = [Segment((header[0], separator, *header[1:]))]
    malformed = 0
    for line in lines[1:]:
        fields = tuple(line.split(separator))
        if _SEGMENT_NAME.fullmatch(fields[0]) and fields[0] != "MSH":
            segments.append(Segment(fields))
        else:
            malformed += 1
    encoding = segments[0].field(2)[:4]
    return Message(tuple(segments), charset, malformed, encoding + _DEFAULT_ENCODING[len(encoding) :])


def coded(message: Message, field: str) -> tuple[Coded, ...]:
    """The triplets of a coded field: the first and, where given, the alternate."""
    read = _coded if len(field) <= _LONGEST_CACHED else _coded.__wrapped__
    return read(field, message.marks, message.header.field(1))


_LONGEST_CACHED = 200  # an identifier has some 40 characters; the cache must not hold a megabyte of nonsense


@lru_cache(maxsize=1024)  # a monitor repeats the same identifiers and units in every message
def _coded(field: str, marks: str, separator: str) -> tuple[Coded, ...]:
    parts = [_unescape(part.strip(), marks, separator) for part in field.split(marks[1], 1)[0].split(marks[0])[:6]]
    parts += [""] * (6 - len(parts))
    triplets = (Coded(*parts[0:3]), Coded(*parts[3:6]))
    return tuple(triplet for triplet in triplets if triplet.code or triplet.text)


def _unescape(value: str, marks: str, separator: str) -> str:
    """A component with its escapes undone."""
    component, repetition, escape, subcomponent = tuple(marks)
    if escape not in value:
        return value
    meanings = {"F": separator, "S": component, "R": repetition, "E": escape, "T": subcomponent}
    mark = re.escape(escape)
    return re.sub(f"{mark}([FSRET]){mark}", lambda match: meanings[match[1]], value)


def _decode_text(body: bytes) -> tuple[str, str]:
    """Text by MSH-18. GB18030 must be decoded before splitting: its second bytes may be `|`, `^` or a backslash."""
    header = re.split(rb"[\r\n]", body, maxsplit=1)[0].upper()
    if b"8859/1" in header:
        return body.decode(_LATIN1), _LATIN1
    # UTF-8 may be empty in MSH-18 or claimed wrongly; GB18030 almost never decodes as UTF-8 by chance.
    charsets = (_GB18030, _UTF8) if any(name in header for name in _GB_NAMES) else (_UTF8, _GB18030)
    for charset in charsets:
        try:
            return body.decode(charset), charset
        except UnicodeDecodeError:
            continue
    # Whatever the names are in, numbers and codes are ASCII: they are not lost for a name.
    return body.decode(_UTF8, errors="replace"), _UTF8


class TimeStamp(NamedTuple):
    """A moment as the device said it: µs since 1970 UTC, and its own words."""

    us: int
    text: str


_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(?:(\d\d)(?:\.(\d{1,9}))?)?([+-](?:0\d|1[0-4])[0-5]\d)?", re.ASCII)
ZONE_LOCAL = None


def zone_minutes(stamp: str) -> int | None:
    """The zone a time stamp names, in minutes east of UTC; None without one."""
    match = _TIME.fullmatch(stamp)
    return _zone_minutes(match[8]) if match and match[8] else None


def parse_time(stamp: str, zone: int | None) -> TimeStamp | None:
    """A time stamp (HL7 DTM) of at least minutes. None when it says no usable moment.

    `zone`: minutes east of UTC for a stamp that names none itself; None = this machine's local zone.
    """
    match = _TIME.fullmatch(stamp)
    if match is None:
        return None
    year, month, day, hour, minute = (int(match[group]) for group in range(1, 6))
    second = int(match[6] or 0)
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    if match[8]:
        zone = _zone_minutes(match[8])
    if zone is not None:
        seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) - zone * 60
    else:
        try:
            seconds = int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
        except (OverflowError, ValueError):
            return None
    if seconds < 0:
        return None
    fraction_us = int((match[7] or "").ljust(6, "0")[:6])
    return TimeStamp(seconds * MICROSECONDS + fraction_us, stamp)


def _zone_minutes(zone: str) -> int:
    minutes = int(zone[1:3]) * 60 + int(zone[3:5])
    return -minutes if zone[0] == "-" else minutes


class Verdict(StrEnum):
    """What became of a message; the value is the second letter of the acknowledgement code."""

    ACCEPTED = "A"
    ERROR = "E"
    REJECTED = "R"


def acknowledgements(message: Message | None, verdict: Verdict, now_us: int) -> tuple[bytes, ...]:
    """What to answer, in order of sending (CLINICAL.md §7); empty when the sender wants nothing.

    Original mode (MSH-15 and MSH-16 empty): AA, AE or AR. Enhanced mode: CA, CE or CR as MSH-15 wishes, then AA, AE
    or AR as MSH-16 wishes. `None` is a message whose header could not be read: answered in original mode.
    """
    if message is None:
        return (_acknowledgement(None, f"A{verdict.value}", now_us),)
    accept, application = message.header.field(15).strip(), message.header.field(16).strip()
    if not accept and not application:
        return (_acknowledgement(message, f"A{verdict.value}", now_us),)
    letters = [letter for letter, wish in (("C", accept), ("A", application)) if _is_wanted(wish, verdict)]
    return tuple(_acknowledgement(message, f"{letter}{verdict.value}", now_us) for letter in letters)


def _is_wanted(wish: str, verdict: Verdict) -> bool:
    """HL7 table 0155: always, never, on error or rejection, on success; empty = never in enhanced mode."""
    if wish == "SU":
        return verdict is Verdict.ACCEPTED
    if wish == "ER":
        return verdict is not Verdict.ACCEPTED
    return wish == "AL"


def _acknowledgement(message: Message | None, code: str, now_us: int) -> bytes:
    at = datetime.fromtimestamp(now_us // MICROSECONDS, UTC).strftime("%Y%m%d%H%M%S+0000")
    control_id = f"{now_us}{code[0]}"
    if message is None:
        return f"MSH|^~\\&|VITALWIRE||||{at}||ACK|{control_id}|P|2.6\rMSA|{code}|\r".encode()
    header = message.header
    separator, mark = header.field(1), message.components(header.field(9))
    event = mark[1] if len(mark) > 1 else ""
    component = message.marks[0]
    kind = f"ACK{component}{event}{component}ACK" if event else "ACK"
    fields = ["MSH", header.field(2) or _DEFAULT_ENCODING, header.field(5) or "VITALWIRE", header.field(6)]
    fields += [header.field(3), header.field(4), at, "", kind, control_id, header.field(11) or "P"]
    fields += [header.field(12) or "2.6", "", "", "", "", "", header.field(18)]
    msh = separator.join(fields).rstrip(separator)
    msa = separator.join(("MSA", code, message.control_id))
    return f"{msh}\r{msa}\r".encode(message.charset, errors="replace")

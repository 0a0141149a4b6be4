"""ER7: separators, charsets, times, and which acknowledgement each mode gets (CLINICAL.md §7)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.codecs import hl7
from drivers.codecs.hl7 import Coded, Verdict
from wire.messages import DecodeError

NOW_US = 1_800_000_000_000_000


def header(accept: str = "", application: str = "", charset: str = "") -> str:
    return (
        f"MSH|^~\\&|MON|BED|BOX|EMS|20261122100000+0800||ORU^R01^ORU_R01|M1|P|2.6|||{accept}|{application}||{charset}"
    )


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_segments_end_with_cr_lf_or_both(end: str) -> None:
    message = hl7.parse((header() + end + "PID|||7" + end).encode())
    assert [segment.name for segment in message.segments] == ["MSH", "PID"]
    assert (message.control_id, message.kind, message.segments[1].field(3)) == ("M1", "ORU^R01", "7")


@pytest.mark.parametrize("declared", ["GB 18030-2000", "UNICODE UTF-8", ""])
def test_gb18030_is_read_even_where_a_second_byte_is_a_separator(declared: str) -> None:
    # The second byte of 倈 in GB18030 is the field separator: splitting before decoding would shift every field.
    assert "倈".encode("gb18030")[1:] == b"|"
    message = hl7.parse((header(charset=declared) + "\rPID|||1||倈^三|x\r").encode("gb18030"))
    assert message.segments[1].field(5) == "倈^三"
    assert message.segments[1].field(6) == "x"


def test_utf8_is_read_where_nothing_or_gb18030_is_not_declared() -> None:
    assert hl7.parse((header() + "\rPID|||1||张^三\r").encode()).segments[1].field(5) == "张^三"


def test_undecodable_name_does_not_cost_the_numbers() -> None:
    message = hl7.parse(header().encode() + b"\rPID|||1||\xff\xff\xff\rOBX|1|NM|||97\r")
    assert message.segments[2].field(5) == "97"


def test_escapes_and_other_separators() -> None:
    message = hl7.parse(b"MSH#*~!%#MON\rOBX#1#NM#150456*a!S!b*MDC")
    assert hl7.coded(message, message.segments[1].field(3)) == (Coded("150456", "a*b", "MDC"),)


def test_line_that_is_no_segment_is_counted() -> None:
    message = hl7.parse((header() + "\rnot a segment\rOBX|1\r").encode())
    assert (len(message.segments), message.malformed_segments) == (2, 1)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_random_bytes_raise_only_decode_error(raw: bytes) -> None:
    for body in (raw, b"MSH" + raw, b"MSH|^~\\&|" + raw):
        try:
            message = hl7.parse(body)
        except DecodeError:
            continue
        for segment in message.segments:
            for field in segment.fields:
                hl7.coded(message, field)
        for verdict in Verdict:
            for answer in hl7.acknowledgements(message, verdict, NOW_US):
                assert hl7.parse(answer).segments


@pytest.mark.parametrize(
    ("stamp", "zone", "us"),
    [
        ("20261122100000+0800", None, 1_795_312_800_000_000),
        ("20261122100000.5-0330", 0, 1_795_354_200_500_000),
        ("20261122100000.1234567", 480, 1_795_312_800_123_456),
        ("202611221000", 480, 1_795_312_800_000_000),
    ],
)
def test_times_are_exact_microseconds(stamp: str, zone: int | None, us: int) -> None:
    assert hl7.parse_time(stamp, zone) == hl7.TimeStamp(us, stamp)


@pytest.mark.parametrize("stamp", ["", "20261122", "2026112210", "20261322100000", "19691231235959+0000", "x" * 14])
def test_time_that_names_no_moment_is_refused(stamp: str) -> None:
    assert hl7.parse_time(stamp, 0) is None


@pytest.mark.parametrize(
    ("accept", "application", "verdict", "codes"),
    [
        ("", "", Verdict.ACCEPTED, ["AA"]),
        ("", "", Verdict.ERROR, ["AE"]),
        ("", "", Verdict.REJECTED, ["AR"]),
        ("AL", "NE", Verdict.ACCEPTED, ["CA"]),
        ("AL", "NE", Verdict.ERROR, ["CE"]),
        ("AL", "NE", Verdict.REJECTED, ["CR"]),
        ("NE", "AL", Verdict.ACCEPTED, ["AA"]),
        ("", "AL", Verdict.ERROR, ["AE"]),
        ("AL", "", Verdict.ACCEPTED, ["CA"]),
        ("AL", "AL", Verdict.ACCEPTED, ["CA", "AA"]),
        ("NE", "NE", Verdict.ACCEPTED, []),
        ("ER", "SU", Verdict.ACCEPTED, ["AA"]),
        ("ER", "SU", Verdict.ERROR, ["CE"]),
    ],
)
def test_acknowledgement_code_follows_the_mode(
    accept: str, application: str, verdict: Verdict, codes: list[str]
) -> None:
    message = hl7.parse(header(accept, application).encode())
    answers = [hl7.parse(answer) for answer in hl7.acknowledgements(message, verdict, NOW_US)]
    assert [answer.segments[1].fields for answer in answers] == [("MSA", code, "M1") for code in codes]


def test_acknowledgement_goes_back_to_the_sender() -> None:
    (answer,) = hl7.acknowledgements(hl7.parse(header().encode()), Verdict.ACCEPTED, NOW_US)
    assert answer.startswith(b"MSH|^~\\&|BOX|EMS|MON|BED|20270115080000+0000||ACK^R01^ACK|")
    assert answer.endswith(b"|P|2.6\rMSA|AA|M1\r")


def test_unreadable_header_is_answered_in_original_mode() -> None:
    (answer,) = hl7.acknowledgements(None, Verdict.ERROR, NOW_US)
    assert b"\rMSA|AE|\r" in answer

"""The text of an HL7 v2.6 ORU^R01 by IHE PCD-01, as a monitor writes it: values and waves in, one message out.

Written from the IHE PCD technical framework and ISO 11073-10101, not from our driver.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

from firmware_sim.waves import Counts, Stream
from wire.vocabulary import LEAD_MDC, PLETH_MDC, Metric

LOCAL = "99VITALWIRE"  # codes that 11073 does not have; HL7 table 0396 reserves 99… for local systems
_DEVICE = "VWSIM-12^VITALWIRE^0200565753494D00^EUI-64"  # EUI-64 with the "locally administered" bit set
_PROFILE = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
_NUMERIC_GROUP = "182777000^monitoring of patient^SCT"
_WAVE_GROUP = "69121^MDC_OBS_WAVE_CTS^MDC"

_PERCENT = "262688^MDC_DIM_PERCENT^MDC"
_BEATS_PER_MIN = "264864^MDC_DIM_BEAT_PER_MIN^MDC"
_BREATHS_PER_MIN = "264928^MDC_DIM_RESP_PER_MIN^MDC"
_MMHG = "266016^MDC_DIM_MMHG^MDC"
_CELSIUS = "268192^MDC_DIM_DEGC^MDC"
_MILLIVOLT = "266418^MDC_DIM_MILLI_VOLT^MDC"
_PER_SECOND = "264608^MDC_DIM_PER_SEC^MDC"
_DIMENSIONLESS = "262656^MDC_DIM_DIMLESS^MDC"

_SAMPLE_RATE = "68320^MDC_ATTR_SAMP_RATE^MDC"
_RESOLUTION = "67945^MDC_ATTR_NU_MSMT_RES^MDC"
_SCALE_RANGE = "68323^MDC_ATTR_SCALE_RANGE^MDC"
_OFFSET = f"VW_SAMPLE_OFFSET^VW_SAMPLE_OFFSET^{LOCAL}"
_BAND = f"VW_BAND^VW_BAND^{LOCAL}"

# The counts a 24-bit front end can give; the missing-sample sentinel is a code, not a value of this range.
_LOWEST_COUNT, _HIGHEST_COUNT = -(2**23), 2**23 - 1


class _Code(NamedTuple):
    """How a metric is written: observation, containment (MDS.VMD.CHANNEL.METRIC) and unit."""

    observation: str
    containment: str
    unit: str
    decimals: int = 0


_CODES = {
    Metric.HEART_RATE: _Code("147842^MDC_ECG_HEART_RATE^MDC", "1.6.1.147842", _BEATS_PER_MIN),
    Metric.SPO2: _Code("150456^MDC_PULS_OXIM_SAT_O2^MDC", "1.3.1.150456", _PERCENT),
    Metric.PULSE_RATE_PLETH: _Code("149530^MDC_PULS_OXIM_PULS_RATE^MDC", "1.3.1.149530", _BEATS_PER_MIN),
    Metric.RESPIRATORY_RATE_IMPEDANCE: _Code("151578^MDC_TTHOR_RESP_RATE^MDC", "1.4.1.151578", _BREATHS_PER_MIN),
    Metric.TEMPERATURE: _Code("150344^MDC_TEMP^MDC", "1.2.1.150344", _CELSIUS, 1),
    Metric.NIBP_SYSTOLIC: _Code("150021^MDC_PRESS_BLD_NONINV_SYS^MDC", "1.1.9.150021", _MMHG),
    Metric.NIBP_DIASTOLIC: _Code("150022^MDC_PRESS_BLD_NONINV_DIA^MDC", "1.1.9.150022", _MMHG),
    Metric.NIBP_MEAN: _Code("150023^MDC_PRESS_BLD_NONINV_MEAN^MDC", "1.1.9.150023", _MMHG),
}


class Reported(NamedTuple):
    """A number as the monitor reports it: its own time as it writes it."""

    metric: Metric
    value: float
    time: str
    episodic: bool


class WaveBlock(NamedTuple):
    """One block of a stream; times µs since 1970 UTC, `end_us` is the start of the next block."""

    stream: Stream
    samples: Counts
    start_us: int
    end_us: int


class _Row(NamedTuple):
    kind: str
    observation: str
    containment: str
    value: str
    unit: str = ""
    status: str = "R"
    time: str = ""
    method: str = ""


def device_time(time_us: int, utc_offset_minutes: int) -> str:
    """HL7 DTM of a moment on a monitor's clock: `YYYYMMDDHHMMSS.SSSS+ZZZZ`."""
    zone = timezone(timedelta(minutes=utc_offset_minutes))
    rounded_us = (time_us + 50) // 100 * 100  # four decimals of a second
    moment = datetime.fromtimestamp(rounded_us // 1_000_000, UTC).astimezone(zone)
    return f"{moment:%Y%m%d%H%M%S}.{rounded_us % 1_000_000 // 100:04d}{moment:%z}"


def compose(
    message_id: str,
    *,
    now_us: int,
    vehicle: str,
    utc_offset_minutes: int,
    numerics: Sequence[Reported],
    blocks: Sequence[WaveBlock],
) -> bytes:
    """One message, UTF-8, segments ended by CR, without its MLLP frame."""
    now = device_time(now_us, utc_offset_minutes)
    segments = [
        # MSH-11 D: for debugging, not production; MSH-16 AL: an application answer is wanted always.
        f"MSH|^~\\&|{_DEVICE}||||{now}||ORU^R01^ORU_R01|{message_id}|D|2.6|||NE|AL||UNICODE UTF-8|||{_PROFILE}",
        f"PID|||SIM-{_escape(vehicle)}^^^VITALWIRE-SIMULATED^PI||SIMULATED^PATIENT^^^^^L",
        f"PV1||E|{_escape(vehicle)}",
    ]
    set_id = 0
    if numerics:
        set_id += 1
        segments.append(f"OBR|{set_id}|{message_id}^VWSIM|{message_id}^VWSIM|{_NUMERIC_GROUP}|||{now}")
        segments += _number(_numeric_rows(numerics))
    if blocks:
        set_id += 1
        start = device_time(min(block.start_us for block in blocks), utc_offset_minutes)
        end = device_time(max(block.end_us for block in blocks), utc_offset_minutes)
        segments.append(f"OBR|{set_id}|{message_id}^VWSIM|{message_id}^VWSIM|{_WAVE_GROUP}|||{start}|{end}")
        segments += _number(row for block in blocks for row in _wave_rows(block))
    return ("\r".join(segments) + "\r").encode()


def _number(rows: Iterator[_Row]) -> Iterator[str]:
    for set_id, row in enumerate(rows, start=1):
        # OBX-8 DEMO on every value: simulated data can never pass for a patient.
        flag = "DEMO" if row.status == "R" else ""
        text = (
            f"OBX|{set_id}|{row.kind}|{row.observation}|{row.containment}|{row.value}|{row.unit}||{flag}"
            f"|||{row.status}|||{row.time}|||{row.method}"
        )
        yield text.rstrip("|")


def _structure(observation: str, containment: str) -> _Row:
    return _Row("", f"{observation}^MDC", containment, "", status="X")


def _numeric_rows(numerics: Sequence[Reported]) -> Iterator[_Row]:
    yield _structure("69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS", "1.0.0.0")
    for number in numerics:
        code = _CODES[number.metric]
        value = f"{number.value:.{code.decimals}f}"
        method = "^APERIODIC" if number.episodic else ""
        yield _Row("NM", code.observation, code.containment, value, code.unit, time=number.time, method=method)


def _wave_rows(block: WaveBlock) -> Iterator[_Row]:
    stream = block.stream
    ecg = stream.name == "ecg"
    vmd, unit = ("1.5", _MILLIVOLT) if ecg else ("1.22", _DIMENSIONLESS)
    channel = f"{vmd}.1"
    yield _structure("69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS", "1.0.0.0")
    yield _structure("69798^MDC_DEV_ECG_VMD" if ecg else "69642^MDC_DEV_ANALY_SAT_O2_VMD", f"{vmd}.0.0")
    yield _structure("69799^MDC_DEV_ECG_CHAN" if ecg else "69643^MDC_DEV_ANALY_SAT_O2_CHAN", f"{channel}.0")
    rate = repr(int(stream.sample_rate_hz) if stream.sample_rate_hz.is_integer() else stream.sample_rate_hz)
    yield _Row("NM", _SAMPLE_RATE, channel, rate, _PER_SECOND)
    yield _Row("NR", _SCALE_RANGE, channel, f"{_LOWEST_COUNT}^{_HIGHEST_COUNT}")
    if stream.band_hz is not None:
        yield _Row("NR", _BAND, channel, f"{stream.band_hz[0]:g}^{stream.band_hz[1]:g}", _PER_SECOND)
    # A facet at the channel holds for all its leads; recordings may have a gain and a baseline per lead.
    shared = len(set(stream.scale)) == 1 and len(set(stream.offset)) == 1
    if shared:
        yield from _scale_rows(channel, channel, stream.scale[0], stream.offset[0], unit)
    for number, (lead, scale, offset) in enumerate(zip(stream.leads, stream.scale, stream.offset, strict=True), 1):
        values = "^".join(map(str, block.samples[:, number - 1].tolist()))
        yield _Row("NA", _observation(lead, is_ecg=ecg), f"{channel}.{number}", values, unit)
        if not shared:
            yield from _scale_rows(f"{channel}.{number}.1", f"{channel}.{number}.2", scale, offset, unit)


def _scale_rows(resolution_at: str, offset_at: str, scale: float, offset: float, unit: str) -> Iterator[_Row]:
    """repr() of a double survives the text exactly."""
    yield _Row("NM", _RESOLUTION, resolution_at, repr(scale), unit)
    if offset:
        yield _Row("NM", _OFFSET, offset_at, repr(offset), unit)


def _observation(lead: str, *, is_ecg: bool) -> str:
    if not is_ecg:
        return f"{PLETH_MDC}^MDC_PULS_OXIM_PLETH^MDC"
    if (code := LEAD_MDC.get(lead)) is not None:
        return f"{code}^MDC_ECG_ELEC_POTL_{lead.upper()}^MDC"
    name = _escape(lead)
    return f"{name}^{name}^{LOCAL}"


def _escape(text: str) -> str:
    """HL7 2.6 chapter 2.7: delimiters inside a value."""
    text = text.replace("\\", "\\E\\")
    for delimiter, letter in (("|", "F"), ("^", "S"), ("&", "T"), ("~", "R")):
        text = text.replace(delimiter, f"\\{letter}\\")
    return "".join(character for character in text if character.isprintable())

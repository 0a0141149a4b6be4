"""The HL7 monitor driver: golden vectors, state between messages, and when it answers AA."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.codecs import hl7
from drivers.driver import DriverContext, LinkLost, Transfer
from drivers.links.mllp import open_mllp
from drivers.network.hl7_monitor import DRIVER, MonitorOptions, MonitorReader, decode, stream
from wire.clock import SystemClock
from wire.messages import DecodeError
from wire.readings import DeviceEvent, EventKind, Numeric, Reading, SampleBlock

ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests/vectors/network_hl7_monitor.json").read_text(encoding="utf-8"))
SHARED = Path(os.environ.get("VITALWIRE_VECTORS", ROOT / "../shared/vectors")) / "hl7_oru.json"
START_US = 1_795_312_800_000_000  # 2026-11-22 10:00:00 +0800


def plain(reading: Reading) -> list[Any]:
    """A reading as the golden vectors write it; Any because JSON is."""
    match reading:
        case Numeric():
            time = [reading.time_us, reading.reported_time]
            return ["numeric", reading.metric.value, reading.value, *time, int(reading.quality), reading.quality_reason]
        case DeviceEvent():
            return ["event", reading.kind.value, reading.time_us, reading.detail, list(reading.leads)]
        case SampleBlock():
            band = reading.acquisition and [reading.acquisition.low_hz, reading.acquisition.high_hz]
            samples = [list(reading.leads), reading.samples.tolist(), reading.sample_rate_hz]
            scale = [list(reading.scale), list(reading.offset)]
            return ["block", reading.stream, *samples, *scale, reading.first_index, reading.start_us, band]
    raise AssertionError(reading)


def make_reader(options: MonitorOptions | None = None) -> tuple[MonitorReader, DriverContext]:
    context = DriverContext(SystemClock(), options or MonitorOptions())
    return MonitorReader(context.options, lambda: 7_000_000, context.skipped), context


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda vector: vector["name"])
def test_golden_vector(vector: dict[str, Any]) -> None:
    reader, context = make_reader()
    transfer = reader.read(hl7.parse(vector["message"].encode()))
    assert [plain(reading) for reading in transfer.readings] == vector["readings"]
    assert (dict(context.counts), transfer.simulated) == (vector["skipped"], vector["simulated"])


METRIC_OF_SHARED_NAME = {
    "spo2": "spo2",
    "pi": "perfusion_index",
    "sys": "nibp_systolic",
    "dia": "nibp_diastolic",
    "map": "nibp_mean",
    "rr": "respiratory_rate",
    "height": "height",
}


def test_shared_vectors_of_monitors() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not there")
    for vector in json.loads(SHARED.read_text(encoding="utf-8")):
        values = {r.metric.value: r.value for r in decode(vector["message"].encode()) if isinstance(r, Numeric)}
        for name, expected in vector["expect"].items():
            if name in METRIC_OF_SHARED_NAME:
                found = values.get(METRIC_OF_SHARED_NAME[name])
            else:
                prefix = {"pulse": "pulse_rate", "temp_c": "temperature"}[name]
                found = next((value for metric, value in values.items() if metric.startswith(prefix)), None)
            assert found == expected, (vector["name"], name)


def oru(control_id: str = "M1", *, rows: str = "", head: str = "", name: str = "") -> str:
    msh = f"MSH|^~\\&|MON|BED|||20261122100000+0800||ORU^R01^ORU_R01|{control_id}|P|2.6{head}"
    return f"{msh}\rPID|||7||{name}\rOBR|1|||1^X^L\r{rows or spo2(97)}\r"


def spo2(value: object, flag: str = "") -> str:
    return f"OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.3.1|{value}|262688^MDC_DIM_PERCENT^MDC||{flag}|||R"


def wave(start: str, samples: str, rate: str = "500") -> hl7.Message:
    rows = [
        "MSH|^~\\&|MON||||20261122100000+0800||ORU^R01|W|P|2.6",
        f"OBR|1|||69121^MDC_OBS_WAVE_CTS^MDC|||{start}",
        f"OBX|1|NA|131330^MDC_ECG_ELEC_POTL_II^MDC|1.5.1.2|{samples}|266418^MDC_DIM_MILLI_VOLT^MDC",
        f"OBX|2|NM|68320^MDC_ATTR_SAMP_RATE^MDC|1.5.1.2.1|{rate}|264608^MDC_DIM_PER_SEC^MDC",
        "OBX|3|NM|67945^MDC_ATTR_NU_MSMT_RES^MDC|1.5.1.2.2|0.005|266418^MDC_DIM_MILLI_VOLT^MDC",
    ]
    return hl7.parse("\r".join(rows).encode())


HALF_SECOND = "^".join(["1"] * 250)


def indices(reader: MonitorReader, *starts: str) -> list[int]:
    """First index of half a second at 500 Hz for each start, counted from that of 10:00:00."""
    first = START_US * 500 // 1_000_000
    blocks = [r for at in starts for r in reader.read(wave(f"{at}+0800", HALF_SECOND)).readings]
    return [block.first_index - first for block in blocks if isinstance(block, SampleBlock)]


def test_jitter_of_the_device_clock_leaves_no_hole() -> None:
    reader, context = make_reader()
    assert indices(reader, "20261122100000", "20261122100000.620", "20261122100001.010") == [0, 250, 500]
    assert not context.counts


def test_lost_message_becomes_a_hole() -> None:
    reader, context = make_reader()
    assert indices(reader, "20261122100000", "20261122100001", "20261122100001.5") == [0, 500, 750]
    assert context.counts == {"waveform gap": 1}


def test_clock_set_back_never_uses_an_index_twice() -> None:
    reader, context = make_reader()
    starts = ("20261122100000", "20261122100000.5", "20261122095000", "20261122095000.5", "20261122095003")
    assert indices(reader, *starts) == [0, 250, 500, 750, 2000]
    assert context.counts == {"waveform clock went back": 1, "waveform gap": 1}


def test_device_that_tells_whole_seconds_leaves_no_hole() -> None:
    reader, _ = make_reader()
    starts = ("20261122100000", "20261122100000", "20261122100001", "20261122100001", "20261122100002")
    assert indices(reader, *starts) == [0, 250, 500, 750, 1000]


def test_restart_goes_on_where_time_is() -> None:
    assert indices(make_reader()[0], "20261122100000.5") == indices(make_reader()[0], "20261122100000.5") == [250]


def test_lead_that_comes_back_is_said_once() -> None:
    reader, _ = make_reader()
    kinds = []
    for at, samples in enumerate(("1^2", "", "197378^197378", "1^2", "1^2")):
        readings = reader.read(wave(f"2026112210000{at}+0800", samples)).readings
        kinds.append([reading.kind for reading in readings if isinstance(reading, DeviceEvent)])
    assert kinds == [[], [EventKind.LEADS_OFF], [], [EventKind.LEADS_ON], []]


def test_failed_measurement_is_said_once_until_it_works_again() -> None:
    reader, context = make_reader()
    events = [
        sum(isinstance(reading, DeviceEvent) for reading in reader.read(hl7.parse(oru(rows=spo2(v)).encode())).readings)
        for v in (127, 127, 97, 127)
    ]
    assert events == [1, 0, 0, 1]
    assert context.counts == {"value out of range": 3}


def test_time_without_zone_takes_the_configured_one_and_none_takes_the_box_clock() -> None:
    reader, _ = make_reader(MonitorOptions(utc_offset_minutes=480))
    message = oru().replace("20261122100000+0800", "20261122100000")
    assert cast(Numeric, reader.read(hl7.parse(message.encode())).readings[0]).time_us == START_US
    timeless = reader.read(hl7.parse(oru().replace("20261122100000+0800", "").encode())).readings[0]
    assert isinstance(timeless, Numeric)
    assert (timeless.time_us, timeless.reported_time) == (7_000_000, None)


def test_same_id_and_second_with_other_content_is_no_resend() -> None:
    reader, _ = make_reader()
    keys = [reader.read(hl7.parse(oru(rows=spo2(value)).encode())).key for value in (97, 96, 97)]
    assert keys[0] == keys[2] != keys[1]


def test_no_name_or_patient_number_leaves_the_driver() -> None:
    reader, _ = make_reader()
    transfer = reader.read(hl7.parse(oru(name="REDACTED^NAME").encode()))
    assert "REDACTED" not in repr(transfer)


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=120), st.integers(0, 400))
def test_random_and_damaged_bytes_raise_only_decode_error(noise: bytes, at: int) -> None:
    good = GOLDEN[-3]["message"].encode()
    for packet in (noise, good[:at] + noise + good[at:], good[:at] + noise + good[at + len(noise) :]):
        try:
            decode(packet)
        except DecodeError:
            continue


def test_message_of_a_thousand_leads_and_facets_is_bounded() -> None:
    rows = [f"OBX|1|NA|L{n}^L{n}^99X|1.{n}|1^2|266418^MDC_DIM_MILLI_VOLT^MDC" for n in range(1000)]
    rows += [f"OBX|1|NM|68320^MDC_ATTR_SAMP_RATE^MDC|1.{n}|{n + 1}|264640^MDC_DIM_HZ^MDC" for n in range(1000)]
    rows += ["OBX|1|NM|67945^MDC_ATTR_NU_MSMT_RES^MDC||1|266418^MDC_DIM_MILLI_VOLT^MDC"]
    reader, context = make_reader()
    assert len(reader.read(hl7.parse(oru(rows="\r".join(rows)).encode())).readings) <= 64
    assert context.counts["waveform with too many leads"] == 936
    assert context.counts["waveform with too many facets"] == 1


class Monitor:
    """The far end of a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, *messages: str, charset: str = "utf-8") -> None:
        self.writer.write(b"".join(b"\x0b" + message.encode(charset) + b"\x1c\r" for message in messages))

    async def answer(self) -> tuple[str, ...]:
        """Code and control id of the next acknowledgement."""
        framed = await self.reader.readuntil(b"\x1c\r")
        return hl7.parse(framed).segments[1].fields[1:]


class Session:
    """A driver session and the monitor it serves."""

    def __init__(self, monitor: Monitor, transfers: AsyncGenerator[Transfer, None], context: DriverContext) -> None:
        self.monitor = monitor
        self.transfers = transfers
        self.context = context


@asynccontextmanager
async def session() -> AsyncIterator[Session]:
    context = DriverContext(SystemClock(), MonitorOptions())
    async with asyncio.timeout(4), open_mllp("127.0.0.1:0", context.clock, silence_s=3) as link:
        monitor = Monitor(*await asyncio.open_connection(*link.address))
        async with aclosing(cast(AsyncGenerator[Transfer, None], stream(link, context))) as transfers:
            yield Session(monitor, transfers, context)
        monitor.writer.close()


async def test_positive_answer_comes_only_when_the_consumer_resumes() -> None:
    async with session() as one:
        one.monitor.say(oru("M1"), oru("M2"))
        first = await anext(one.transfers)
        assert first.key is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one.monitor.reader.read(1)
        await anext(one.transfers)
        assert await one.monitor.answer() == ("AA", "M1")


async def answers_to(*messages: str, charset: str = "utf-8") -> tuple[list[tuple[str, ...]], list[Transfer], Session]:
    """Everything answered to these messages, what was stored, and the session."""
    stored: list[Transfer] = []
    async with session() as one:
        one.monitor.say(*messages, charset=charset)
        one.monitor.writer.write_eof()
        with pytest.raises(LinkLost, match="closed the connection"):
            await store_all(one.transfers, stored)
        answers = []
        while (framed := await read_frame(one.monitor.reader)) is not None:
            answers.append(hl7.parse(framed).segments[1].fields[1:])
    return answers, stored, one


async def store_all(transfers: AsyncIterator[Transfer], stored: list[Transfer]) -> None:
    async for transfer in transfers:
        stored.append(transfer)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    try:
        return await reader.readuntil(b"\x1c\r")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None


async def test_lf_gb18030_name_and_missing_pid_are_read() -> None:
    lf = oru("M1", name="张^三").replace("\r", "\n")
    no_pid = "\r".join(line for line in oru("M2").split("\r") if not line.startswith("PID"))
    answers, stored, _ = await answers_to(lf, no_pid, charset="gb18030")
    assert answers == [("AA", "M1"), ("AA", "M2")]
    assert [len(transfer.readings) for transfer in stored] == [1, 1]


async def test_demo_data_is_marked_simulated() -> None:
    _, stored, _ = await answers_to(oru("M1", rows=spo2(97, "DEMO")), oru("M2"))
    assert [transfer.simulated for transfer in stored] == [True, False]


async def test_garbage_is_answered_counted_and_followed_by_the_next_message() -> None:
    answers, stored, one = await answers_to("garbage", oru("M2"))
    assert answers == [("AE", ""), ("AA", "M2")]
    assert len(stored) == 1
    assert one.context.counts == {"undecodable message": 1}


async def test_message_that_stays_unreadable_does_not_block_the_monitor_for_ever() -> None:
    answers, _, one = await answers_to(*["MSH|^~\\&|MON|||||||M1"] * 3)
    assert [answer[0] for answer in answers] == ["AE", "AE", "AA"]
    assert one.context.counts == {"undecodable message": 3}


async def test_enhanced_mode_and_unread_kinds_are_acknowledged() -> None:
    unread = oru("M2").replace("ORU^R01^ORU_R01", "ORU^W01^ORU_W01")
    answers, stored, one = await answers_to(oru("M1", head="|||AL|NE"), unread, oru("M3", rows=spo2(-999)))
    assert answers == [("CA", "M1"), ("AA", "M2"), ("AA", "M3")]
    assert len(stored) == 1
    assert one.context.counts == {"message kind not read": 1, "no value": 1}


async def test_resend_is_answered_and_not_read_twice() -> None:
    answers, stored, one = await answers_to(oru("M1"), oru("M1"))
    assert answers == [("AA", "M1"), ("AA", "M1")]
    assert len(stored) == 1
    assert one.context.counts == {"resend": 1}


def test_driver_promises_to_confirm() -> None:
    assert DRIVER.confirms
    assert set(DRIVER.provides) >= {"ecg", "pleth"}

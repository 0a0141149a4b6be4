import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_sim.faults import BadLink, Faults
from firmware_sim.network.hl7_monitor import Hl7Monitor, first_sample_index, first_second
from firmware_sim.network.unanswered import Unanswered
from firmware_sim.physiology.patient import Patient
from firmware_sim.scenario import LeadOff, Scenario
from firmware_sim.truth import Truth, TruthWriter
from firmware_sim.waves import MISSING_SAMPLE, Stream, SyntheticWaves
from tests.firmware_sim.receiver import Receiver, SelfMovingClock, groups, leads, message_id, receiving
from wire.vocabulary import TWELVE_LEADS


def monitor(clock: SelfMovingClock, port: int, truth: TruthWriter, scenario: Scenario, **more: Any) -> Hl7Monitor:
    patient = Patient(scenario)
    return Hl7Monitor(
        vehicle="AMB-07",
        address=("127.0.0.1", port),
        waves=SyntheticWaves(patient, scenario.lead_off),
        numbers=patient.numbers,
        lead_off=scenario.lead_off,
        truth=truth,
        clock=clock,
        sleep=clock.sleep,
        **more,
    )


async def play(receiver: Receiver, folder: Path, for_s: float, scenario: Scenario | None = None, **more: Any) -> Truth:
    with TruthWriter(folder) as truth:
        twin = monitor(SelfMovingClock(), receiver.port, truth, scenario or Scenario("test"), **more)
        end = await twin.run(asyncio.Event(), for_s)
    read = Truth.read(folder)
    assert read.end == end
    return read


def once(messages: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(messages))


async def test_every_sample_and_number_written_down_is_sent(tmp_path: Path) -> None:
    async with receiving() as receiver:
        truth = await play(receiver, tmp_path, 7)
    ecg = truth.streams["ecg"]
    assert ecg.leads == TWELVE_LEADS
    assert ecg.samples.shape == (3500, 12)
    assert truth.streams["pleth"].samples.shape == (700, 1)
    assert ecg.start_us % 1_000_000 == 0
    assert ecg.first_index == ecg.start_us * 500 // 1_000_000
    sent = [leads(message) for message in receiver.messages]
    for column, lead in enumerate(TWELVE_LEADS):
        column_sent = np.concatenate([block[f"MDC_ECG_ELEC_POTL_{lead.upper()}"] for block in sent])
        assert (column_sent == ecg.samples[:, column]).all()
    assert truth.end is not None
    assert (truth.end.unanswered, truth.end.resent, truth.end.messages) == (0, 0, 14)
    assert truth.answered == {message_id(message.decode()) for message in receiver.messages}


async def test_cuff_pressure_repeated_is_not_new_truth(tmp_path: Path) -> None:
    async with receiving() as receiver:
        truth = await play(receiver, tmp_path, 9)
    systolic = [number for number in truth.numerics if number.metric == "nibp_systolic"]
    rows = [row for m in receiver.messages for row in groups(m).get("182777000", []) if row[3].startswith("150021")]
    assert len(systolic) == 1
    assert len(rows) == 5  # reported at 5, 6, 7, 8 and 9 s
    assert {row[14] for row in rows} == {systolic[0].reported_time}
    assert {row[17] for row in rows} == {"^APERIODIC"}
    assert len([number for number in truth.numerics if number.metric == "heart_rate"]) == 9
    assert truth.end is not None
    assert truth.end.repeats == 12


async def test_message_says_who_what_when_and_that_it_is_simulated(tmp_path: Path) -> None:
    async with receiving() as receiver:
        await play(receiver, tmp_path, 1, utc_offset_minutes=480)
    segments = receiver.messages[1].decode().split("\r")
    header = segments[0].split("|")
    assert header[8] == "ORU^R01^ORU_R01"
    assert header[10:12] == ["D", "2.6"]
    assert header[14:18] == ["NE", "AL", "", "UNICODE UTF-8"]
    assert header[20].startswith("IHE_PCD_001^")
    assert "SIM" in segments[1].split("|")[3]
    assert segments[2].split("|")[3] == "AMB-07"
    parts = groups(receiver.messages[1])
    numbers, waves = parts["OBR"]
    assert (numbers[1], waves[1]) == ("1", "2")
    assert waves[7:9] == ["20270115160001.5000+0800", "20270115160002.0000+0800"]
    for row in parts["182777000"] + parts["69121"]:
        assert row[8] == ("" if row[11] == "X" else "DEMO")
        assert row[11] in "RX"
    facets = {row[3].split("^")[0]: (row[4], row[5]) for row in parts["69121"] if row[4] == "1.5.1"}
    assert facets["68320"] == ("1.5.1", "500")
    assert facets["67945"] == ("1.5.1", "0.00244")
    assert facets["VW_BAND"] == ("1.5.1", "0.05^150")
    assert "VW_SAMPLE_OFFSET" not in facets


async def test_lead_off_is_sent_as_missing_samples(tmp_path: Path) -> None:
    scenario = Scenario("off", lead_off=(LeadOff(1.0, 2.0, ("V6",)),))
    async with receiving() as receiver:
        truth = await play(receiver, tmp_path, 3, scenario)
    v6 = [set(leads(message)["MDC_ECG_ELEC_POTL_V6"]) == {MISSING_SAMPLE} for message in receiver.messages]
    assert v6 == [False, False, True, True, False, False]
    assert [(event.event, event.leads) for event in truth.events] == [("leads_off", ("V6",)), ("leads_on", ("V6",))]
    assert (truth.streams["ecg"].samples[500:1000, 11] == MISSING_SAMPLE).all()


async def test_unanswered_is_sent_again_with_the_same_bytes_and_in_order(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _id, times: "AA" if times > 1 else None
        truth = await play(receiver, tmp_path, 5)
    assert truth.end is not None
    assert truth.end.unanswered == 0
    assert len(truth.answered) == 10
    ids = [message_id(message.decode()) for message in once(receiver.messages)]
    assert ids == sorted(ids)
    assert len(once(receiver.messages)) == 10  # a resend with other bytes would count as another one
    assert all(receiver.times(one) == 2 for one in ids)
    assert len(truth.streams["ecg"].blocks) == 10


async def test_reconnects_and_sends_the_rest_after_the_receiver_hangs_up(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda own, times: "" if times == 1 and own.endswith(("3", "6")) else "AA"
        truth = await play(receiver, tmp_path, 5)
    assert receiver.connections == 3
    assert truth.end is not None
    assert (truth.end.unanswered, truth.end.answered) == (0, 10)
    answered_at = {message_id(m.decode()): i for i, m in enumerate(receiver.messages)}
    assert len(answered_at) == 10
    assert receiver.times(min(answered_at)) == 1  # answered before the first hang-up: never again


async def test_refused_message_is_tried_three_times(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda own, _times: "AE" if own.endswith("2") else "AA"
        truth = await play(receiver, tmp_path, 4)
    assert truth.end is not None
    assert (truth.end.refused, truth.end.answered, truth.end.unanswered) == (1, 7, 0)
    assert receiver.times(next(iter(truth.refused))) == 3


async def test_bad_link_loses_nothing(tmp_path: Path) -> None:
    faults = Faults(loss=0.3, garbage=0.3, disconnect_every_s=4, seed=5)
    async with receiving() as receiver:
        clock_free = BadLink(faults, _no_wait)
        truth = await play(receiver, tmp_path, 20, bad_link=clock_free)
    assert truth.end is not None
    assert (truth.end.unanswered, truth.end.answered) == (0, 40)
    assert truth.end.connects > 1
    assert len(once(receiver.messages)) == 40


async def _no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_full_memory_discards_the_oldest_and_says_so(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _id, _times: None
        truth = await play(receiver, tmp_path, 5, unanswered=Unanswered(memory_bytes=70_000))
    assert truth.end is not None
    assert truth.end.discarded == len(truth.discarded) > 0
    assert truth.end.discarded + truth.end.unanswered == 10


async def test_part_of_a_block_is_sent_at_the_end(tmp_path: Path) -> None:
    async with receiving() as receiver:
        truth = await play(receiver, tmp_path, 1.3)
    assert [block.n for block in truth.streams["ecg"].blocks] == [250, 250, 150]


async def test_stop_ends_without_a_receiver(tmp_path: Path) -> None:
    clock, stop = SelfMovingClock(), asyncio.Event()
    with TruthWriter(tmp_path) as truth:
        twin = monitor(clock, 1, truth, Scenario("nobody listens"))
        stop.set()
        end = await twin.run(stop)
    assert end.messages == 0


@pytest.mark.parametrize("rate", [500.0, 360.0, 333.0, 257.5, 250.25, 128.0])
def test_device_time_of_every_block_gives_its_index(rate: float) -> None:
    stream = Stream("ecg", ("I",), rate, (1.0,), (0.0,))
    start_us = first_second(1_800_000_001, [stream]) * 1_000_000
    base = first_sample_index(start_us, stream)
    for sent in range(0, 5000, 83):
        written_s = round((start_us + sent / rate * 1e6) / 100) / 10_000  # four decimals, as in OBR-7
        assert round(written_s * rate) == base + sent

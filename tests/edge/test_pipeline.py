import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinical.alarm_limits import AlarmLimits, Limit
from edge.pipeline import Output, Pipeline
from tests.conftest import START_US
from wire import waveform
from wire.messages import Lane, lane_of
from wire.readings import (
    Alert,
    AlertPhase,
    DeviceEvent,
    EventKind,
    Numeric,
    Position,
    SampleBlock,
    WaveformBlock,
)
from wire.vocabulary import Metric

LIMITS = AlarmLimits("t", "adult", 10, 5, {Metric.HEART_RATE: Limit(high=120, margin=3)})
SECOND_US = 1_000_000


class Box:
    """A pipeline with the memos a disk would hold."""

    def __init__(self, has_clock: bool = True) -> None:
        self.memos: dict[str, bytes] = {}
        self.has_clock = has_clock
        self.restart()

    def restart(self) -> None:
        self.pipeline = Pipeline("m", has_clock=self.has_clock, limits=LIMITS, saved=self.memos.get)

    def takes(self, *readings: Numeric | SampleBlock | DeviceEvent | Position, at_us: int) -> Output:
        output = self.pipeline.process(readings, at_us)
        lanes = {lane_of(body) for body in output.bodies}
        assert all(memo.lane in lanes for memo in output.memos), "every memo has records to be committed with"
        self.memos.update({memo.name: memo.value for memo in output.memos})
        return output


def heart_rate(value: float, time_us: int) -> Numeric:
    return Numeric(Metric.HEART_RATE, value, time_us, reported_time=str(time_us))


def cuff(value: float, said: str, time_us: int = START_US) -> Numeric:
    return Numeric(Metric.NIBP_SYSTOLIC, value, time_us, reported_time=said)


def block(start_us: int, count: int = 250) -> SampleBlock:
    samples = np.arange(count * 2, dtype=np.int32).reshape(count, 2)
    return SampleBlock("ecg", ("I", "II"), samples, 500.0, (0.001,) * 2, (0.0,) * 2, 7, start_us)


def test_all_readings_of_a_device_move_by_the_same_offset_and_keep_their_spacing() -> None:
    box = Box()
    ahead_us = 3600 * SECOND_US  # the monitor's clock is an hour ahead
    box.takes(heart_rate(80, START_US + ahead_us), at_us=START_US + 20_000)
    output = box.takes(
        heart_rate(81, START_US + ahead_us + SECOND_US),
        block(START_US + ahead_us + SECOND_US // 2),
        at_us=START_US + SECOND_US + 30_000,
    )
    numeric, waves = output.bodies
    assert isinstance(numeric, Numeric)
    assert isinstance(waves, WaveformBlock)
    assert numeric.time_us == START_US + 20_000 + SECOND_US
    assert numeric.reported_time == str(START_US + ahead_us + SECOND_US)
    assert waveform.peek(waves.data).start_us == numeric.time_us - SECOND_US // 2


def test_offset_survives_a_restart_so_a_resent_burst_is_not_restamped() -> None:
    box = Box()
    box.takes(heart_rate(80, START_US), at_us=START_US + 10_000)
    box.restart()
    late = box.takes(heart_rate(81, START_US + SECOND_US), at_us=START_US + 30 * SECOND_US)
    assert isinstance(late.bodies[0], Numeric)
    assert late.bodies[0].time_us == START_US + SECOND_US + 10_000


def test_device_without_a_clock_keeps_its_arrival_times() -> None:
    output = Box(has_clock=False).takes(heart_rate(80, START_US), at_us=START_US + 900_000)
    assert output.bodies == [heart_rate(80, START_US)]


def test_repeated_cuff_reading_is_stored_once_even_after_a_restart() -> None:
    box = Box()
    assert box.takes(cuff(120, "10:00"), at_us=START_US).bodies
    assert box.takes(cuff(120, "10:00"), at_us=START_US + SECOND_US).bodies == []
    box.restart()
    assert box.takes(cuff(120, "10:00"), at_us=START_US + 2 * SECOND_US).bodies == []
    assert len(box.takes(cuff(121, "10:03"), at_us=START_US + 3 * SECOND_US).bodies) == 1


def test_old_cuff_reading_does_not_move_the_clock_offset() -> None:
    box = Box()
    box.takes(cuff(120, "old", START_US - 600 * SECOND_US), heart_rate(80, START_US), at_us=START_US + 5_000)
    output = box.takes(heart_rate(80, START_US + SECOND_US), at_us=START_US + SECOND_US + 5_000)
    assert isinstance(output.bodies[0], Numeric)
    assert output.bodies[0].time_us == START_US + SECOND_US + 5_000


def test_alarm_follows_its_cause_and_its_state_is_committed_with_it() -> None:
    box = Box(has_clock=False)
    for second in range(11):
        at_us = START_US + second * SECOND_US
        output = box.takes(heart_rate(130, at_us), at_us=at_us)
    assert [type(body).__name__ for body in output.bodies] == ["Numeric", "Alert"]
    assert [memo.lane for memo in output.memos] == [Lane.URGENT]
    box.restart()
    again = box.takes(heart_rate(131, START_US + 11 * SECOND_US), at_us=START_US + 11 * SECOND_US)
    assert [type(body).__name__ for body in again.bodies] == ["Numeric"], "raised once, not again after a restart"


def test_silence_raises_one_technical_alarm_and_data_clears_it() -> None:
    box = Box(has_clock=False)
    first, second = box.pipeline.silent(START_US), box.pipeline.silent(START_US + SECOND_US)
    assert [body.condition for body in first.bodies if isinstance(body, Alert)] == ["no_data"]
    assert second.bodies == []
    output = box.pipeline.heard(START_US + 2 * SECOND_US)
    assert isinstance(output.bodies[0], Alert)
    assert output.bodies[0].phase is AlertPhase.CLEARED


@given(st.lists(st.tuples(st.integers(40, 200), st.integers(1, 30)), max_size=40))
def test_every_numeric_given_comes_out_once(beats: list[tuple[int, int]]) -> None:
    box = Box(has_clock=False)
    at_us = START_US
    for value, seconds in beats:
        at_us += seconds * SECOND_US
        output = box.takes(heart_rate(value, at_us), at_us=at_us)
        assert [body for body in output.bodies if isinstance(body, Numeric)] == [heart_rate(value, at_us)]


def test_cuff_alert_that_never_reached_the_disk_is_raised_by_the_repetition() -> None:
    limits = AlarmLimits("t", "adult", 10, 5, {Metric.NIBP_SYSTOLIC: Limit(low=90)})
    memos: dict[str, bytes] = {}
    first = Pipeline("m", has_clock=False, limits=limits, saved=memos.get).process((cuff(60, "10:00"),), START_US)
    # kill -9 between the two lanes: the numeric and its memo are on disk, the alert and its memo are not
    memos.update({memo.name: memo.value for memo in first.memos if memo.lane is Lane.ROUTINE})
    again = Pipeline("m", has_clock=False, limits=limits, saved=memos.get).process((cuff(60, "10:00"),), START_US)
    assert [body.condition for body in again.bodies if isinstance(body, Alert)] == ["nibp_systolic_low"]
    assert not [body for body in again.bodies if isinstance(body, Numeric)]


def test_clock_that_steps_back_does_not_mute_alarms_but_a_backlog_rings_nothing() -> None:
    box = Box(has_clock=False)
    box.takes(heart_rate(80, START_US), at_us=START_US)
    earlier_us = START_US - 3600 * SECOND_US
    raised = []
    for second in range(12):
        at_us = earlier_us + second * SECOND_US
        raised += [body for body in box.takes(heart_rate(130, at_us), at_us=at_us).bodies if isinstance(body, Alert)]
    assert len(raised) == 1
    late = Box(has_clock=False)
    for second in range(30):
        output = late.takes(heart_rate(130, START_US + second * SECOND_US), at_us=START_US + 3600 * SECOND_US)
        assert not [body for body in output.bodies if isinstance(body, Alert)]


def test_lead_that_brings_samples_again_clears_its_alarm() -> None:
    box = Box(has_clock=False)
    box.takes(DeviceEvent(EventKind.LEADS_OFF, START_US, leads=("I",)), at_us=START_US)
    box.restart()
    output = box.takes(block(START_US), at_us=START_US + SECOND_US)
    assert [body.phase for body in output.bodies if isinstance(body, Alert)] == [AlertPhase.CLEARED]


def test_block_larger_than_a_batch_is_cut_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.pipeline._MOST_BLOCK_BYTES", 400)
    chance = np.random.default_rng(1)
    samples = chance.integers(-(2**30), 2**30, (250, 2)).astype(np.int32)
    output = Box(has_clock=False).takes(block(START_US)._replace(samples=samples), at_us=START_US)
    bodies = [body for body in output.bodies if isinstance(body, WaveformBlock)]
    parts = [waveform.decode(body.data, stream="ecg") for body in bodies]
    assert len(parts) > 1
    assert all(len(body.data) <= 400 for body in bodies)
    np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), samples)
    for before, after in itertools.pairwise(parts):
        assert after.first_index == before.first_index + len(before.samples)
        assert after.start_us == before.start_us + len(before.samples) * 2000


def test_lead_off_event_is_kept_and_alarms() -> None:
    event = DeviceEvent(EventKind.LEADS_OFF, START_US, leads=("V6",))
    output = Box(has_clock=False).takes(event, at_us=START_US)
    assert output.bodies[0] == event
    assert isinstance(output.bodies[1], Alert)

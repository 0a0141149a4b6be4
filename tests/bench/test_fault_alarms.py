"""The alarms' oracle accuses whom it should and nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bench._fault_alarms import Span, Step, judge_alarms
from clinical.alarm_limits import AlarmLimits, Limit
from firmware_sim.truth import EventTruth, NumericTruth, Truth
from wire.readings import AlertPhase
from wire.vocabulary import Metric

S = 1_000_000
LIMITS = AlarmLimits("test", "test", 10.0, 5.0, {Metric.SPO2: Limit(low=90, very_low=85, margin=1)})
CONDITION = "spo2_low"


def truth(values: Mapping[range, float], *, unanswered: Sequence[int] = (), events: Sequence[EventTruth] = ()) -> Truth:
    """A value at every second of the ranges."""
    seconds = {second: value for stretch, value in values.items() for second in stretch}
    numerics = [NumericTruth("spo2", value, None, second * S, str(second)) for second, value in seconds.items()]
    answered = frozenset(str(second) for second in seconds if second not in unanswered)
    return Truth({}, tuple(numerics), tuple(events), answered, frozenset(), frozenset(), None)


# Outside from 20 s to 59 s, at the limit for a second, inside by the margin from 61 s.
EPISODE = {range(20): 97.0, range(20, 60): 86.0, range(60, 61): 90.0, range(61, 90): 97.0}


def step(phase: AlertPhase, at_s: float, alert_id: str = "a") -> Step:
    return Step(alert_id, CONDITION, phase, round(at_s * S))


RAISED, ESCALATED, CLEARED = (
    step(AlertPhase.RAISED, 30.1),
    step(AlertPhase.ESCALATED, 40.1),
    step(AlertPhase.CLEARED, 66.1),
)


@pytest.mark.parametrize(
    ("steps", "missing", "doubled"),
    [
        ([RAISED, CLEARED], [], []),
        ([RAISED, ESCALATED, CLEARED], [], []),
        ([], [f"{CONDITION} due and not raised"], []),
        ([RAISED], [f"{CONDITION} never cleared"], []),
        ([RAISED, step(AlertPhase.CLEARED, 40)], [f"{CONDITION} due and not raised"], []),  # forgotten on the way
        ([ESCALATED, CLEARED], [f"{CONDITION} without its RAISED", f"{CONDITION} due and not raised"], []),
        ([RAISED, RAISED, CLEARED], [], [f"{CONDITION} raised stored 2 times"]),
        ([RAISED, CLEARED, CLEARED], [], [f"{CONDITION} cleared stored 2 times"]),
        (
            [RAISED, step(AlertPhase.RAISED, 50, "b"), step(AlertPhase.CLEARED, 66, "b")],
            [f"{CONDITION} never cleared"],
            [f"{CONDITION} raised while it stood"],
        ),
        # Steps are stored in any order: an old epoch's may come after those of now.
        ([step(AlertPhase.RAISED, 80, "b"), step(AlertPhase.CLEARED, 85, "b"), RAISED, CLEARED], [], []),
    ],
)
def test_an_alarm_is_raised_once_and_cleared_once(
    steps: Sequence[Step], missing: list[str], doubled: list[str]
) -> None:
    found = judge_alarms(LIMITS, truth(EPISODE), steps, [])
    assert (found.missing, found.doubled) == (missing, doubled)
    assert found.due >= 1


@pytest.mark.parametrize(
    ("values", "due"),
    [
        ({range(20, 36): 86.0}, 1),  # 15 s
        ({range(20, 35): 86.0}, 0),
        ({range(20, 30): 86.0, range(32, 42): 86.0}, 0),  # a hole of two seconds
        ({range(20, 60): 90.0}, 0),  # at the limit is inside
    ],
)
def test_an_alarm_is_due_only_where_its_values_cannot_be_doubted(values: Mapping[range, float], due: int) -> None:
    found = judge_alarms(LIMITS, truth(values), [], [])
    assert (found.due, len(found.missing)) == (due, due)


def test_kills_lead_offs_and_what_the_box_never_had_excuse_it() -> None:
    kills = [Span(30 * S, 45 * S), Span(55 * S, 56 * S)]
    assert judge_alarms(LIMITS, truth(EPISODE), [], kills).due == 0
    off = [EventTruth("leads_off", 31 * S, ("V6",)), EventTruth("leads_on", 46 * S, ("V6",))]
    assert judge_alarms(LIMITS, truth(EPISODE, events=off), [], []).due == 0
    assert judge_alarms(LIMITS, truth(EPISODE, events=off[:1]), [], []).due == 0
    assert judge_alarms(LIMITS, truth(EPISODE, unanswered=[33, 46]), [], []).due == 0


def test_a_clear_is_due_only_when_the_scene_goes_that_far_undisturbed() -> None:
    short = {**EPISODE, range(61, 90): 90.0, range(90, 100): 97.0}
    assert judge_alarms(LIMITS, truth(short), [RAISED], []).missing == []
    assert judge_alarms(LIMITS, truth(EPISODE), [RAISED], [Span(70 * S, 85 * S)]).missing == []


def test_no_kill_excuses_a_second_alarm_while_the_first_stands() -> None:
    again = [RAISED, step(AlertPhase.RAISED, 50, "b")]
    found = judge_alarms(LIMITS, truth(EPISODE), again, [Span(0, 100 * S)])
    assert (found.missing, found.doubled) == ([], [f"{CONDITION} raised while it stood"])

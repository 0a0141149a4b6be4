from pathlib import Path

import configs
from clinical.alarm_limits import AlarmLimits, ConditionState, Limit, Transition, watch
from tests.conftest import START_US
from wire.configuration import load
from wire.readings import AlertPhase, Numeric, Priority, Quality
from wire.vocabulary import Metric

LIMITS = AlarmLimits(
    version="t1",
    population="adult",
    persist_s=10,
    clear_s=5,
    limits={
        Metric.HEART_RATE: Limit(low=50, high=120, very_high=150, margin=3),
        Metric.NIBP_SYSTOLIC: Limit(low=90, high=180),
    },
)


class Patient:
    """Feeds numerics and keeps the conditions' states as the box does."""

    def __init__(self) -> None:
        self.states: dict[str, ConditionState] = {}
        self.steps: list[tuple[float, Transition]] = []

    def says(
        self, value: float, at_s: float, metric: Metric = Metric.HEART_RATE, quality: Quality = Quality.GOOD
    ) -> None:
        numeric = Numeric(metric, value, START_US + round(at_s * 1e6), quality=quality)
        changed, steps = watch(LIMITS, self.states, numeric)
        for step in steps:
            alert_id = "" if step.phase is AlertPhase.CLEARED else "a1"
            state = changed[step.condition]
            changed[step.condition] = ConditionState(
                state.outside_since_us, state.inside_since_us, state.last_us, alert_id, state.priority, state.onset_us
            )
            self.steps.append((at_s, step))
        self.states.update(changed)

    @property
    def story(self) -> list[tuple[float, str, AlertPhase]]:
        return [(at_s, step.condition, step.phase) for at_s, step in self.steps]


def test_value_beyond_its_limit_alarms_only_after_it_persisted() -> None:
    patient = Patient()
    for second in range(30):
        patient.says(130, second)
    assert patient.story == [(10, "heart_rate_high", AlertPhase.RAISED)]
    step = patient.steps[0][1]
    assert step.onset_us == START_US
    assert step.priority is Priority.MEDIUM
    assert (step.evidence[0].value, step.evidence[0].limit) == (130, 120)


def test_value_at_its_limit_is_inside() -> None:
    patient = Patient()
    for second in range(30):
        patient.says(120, second)
    assert patient.story == []


def test_one_good_value_starts_persistence_anew() -> None:
    patient = Patient()
    for second in range(30):
        patient.says(100 if second == 9 else 130, second)
    assert patient.story == [(20, "heart_rate_high", AlertPhase.RAISED)]


def test_silence_starts_persistence_anew() -> None:
    patient = Patient()
    for second in (0, 1, 2, 70, 71):
        patient.says(130, second)
    assert patient.story == []


def test_alarm_clears_only_with_margin_and_time() -> None:
    patient = Patient()
    for second in range(11):
        patient.says(130, second)
    for second in range(11, 30):
        patient.says(118, second)  # inside, but not by the margin of 3
    assert [phase for _, _, phase in patient.story] == [AlertPhase.RAISED]
    for second in range(30, 40):
        patient.says(117, second)
    assert patient.story[1:] == [(35, "heart_rate_high", AlertPhase.CLEARED)]


def test_beyond_the_extreme_limit_a_raised_alarm_escalates_once() -> None:
    patient = Patient()
    for second in range(30):
        patient.says(130 if second < 15 else 160, second)
    assert [(phase, step.priority) for (_, step), (_, _, phase) in zip(patient.steps, patient.story, strict=True)] == [
        (AlertPhase.RAISED, Priority.MEDIUM),
        (AlertPhase.ESCALATED, Priority.HIGH),
    ]
    assert patient.steps[1][1].onset_us == START_US


def test_reading_of_bad_quality_neither_raises_nor_clears() -> None:
    patient = Patient()
    for second in range(30):
        patient.says(130, second, quality=Quality.QUESTIONABLE)
    assert patient.story == []
    for second in range(30, 41):
        patient.says(130, second)
    assert [phase for _, _, phase in patient.story] == [AlertPhase.RAISED]


def test_cuff_reading_alarms_at_once() -> None:
    patient = Patient()
    patient.says(85, 0, Metric.NIBP_SYSTOLIC)
    patient.says(110, 300, Metric.NIBP_SYSTOLIC)
    assert [(at_s, phase) for at_s, _, phase in patient.story] == [(0, AlertPhase.RAISED), (300, AlertPhase.CLEARED)]


def test_shipped_limits_are_valid_and_ordered() -> None:
    limits = load(Path(configs.ROOT) / "alarm_limits.toml", AlarmLimits)
    assert limits.version
    for limit in limits.limits.values():
        bounds = [bound for bound in (limit.very_low, limit.low, limit.high, limit.very_high) if bound is not None]
        assert bounds == sorted(bounds)
        assert limit.margin > 0

"""Limit alarms of one patient: when a numeric is outside its limits, for how long, and when it is back.

Pure, moved by the times of the readings themselves. Limits persist before they alarm and clear only with a margin
(CLINICAL.md §10, alarm burden); a reading that is not GOOD neither raises nor clears.
"""

from __future__ import annotations

import msgspec

from wire.readings import AlertKind, AlertPhase, Evidence, Numeric, Priority, Quality
from wire.vocabulary import METRICS, Metric

ALGORITHM = "alarm_limits"


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metric's limits in its canonical unit; a value beyond a limit is outside it, at it is inside."""

    low: float | None = None
    high: float | None = None
    very_low: float | None = None
    very_high: float | None = None
    margin: float = 0.0


class AlarmLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A versioned set of limits: `low`/`high` raise MEDIUM, `very_low`/`very_high` HIGH."""

    version: str
    population: str
    persist_s: float
    clear_s: float
    limits: dict[Metric, Limit]


class ConditionState(msgspec.Struct, frozen=True, array_like=True):
    """Where one condition stands: outside or back inside since when, and the alert raised for it, if any."""

    outside_since_us: int | None = None
    inside_since_us: int | None = None
    last_us: int = 0
    alert_id: str = ""
    priority: Priority = Priority.MEDIUM
    onset_us: int = 0
    parts: tuple[str, ...] = ()  # of a technical condition: the leads or sensors it concerns


class Transition(msgspec.Struct, frozen=True):
    """A step an alert condition takes now."""

    condition: str
    phase: AlertPhase
    priority: Priority
    onset_us: int
    evidence: tuple[Evidence, ...]
    kind: AlertKind = AlertKind.PHYSIOLOGICAL


# Readings further apart than this say nothing of the time between them: persistence starts anew. Monitors that report
# every 20 or 30 s must still alarm on their second reading.
_HOLE_US = 60_000_000


def watch(
    limits: AlarmLimits, state: dict[str, ConditionState], numeric: Numeric
) -> tuple[dict[str, ConditionState], list[Transition]]:
    """The changed conditions' new states and the steps they take, given one numeric."""
    limit = limits.limits.get(numeric.metric)
    if limit is None or numeric.quality is not Quality.GOOD:
        return {}, []
    changed: dict[str, ConditionState] = {}
    steps: list[Transition] = []
    for side in ("low", "high"):
        condition = f"{numeric.metric}_{side}"
        before = state.get(condition, ConditionState())
        if numeric.time_us == before.last_us:
            continue  # the same reading again
        after, step = _advance(limits, _Side(limit, side), before, numeric, condition)
        changed[condition] = after
        if step is not None:
            steps.append(step)
    return changed, steps


class _Side:
    """The low or the high limits of a metric, seen the same way."""

    def __init__(self, limit: Limit, side: str) -> None:
        self._sign = 1 if side == "high" else -1
        self.outer = limit.high if side == "high" else limit.low
        self.extreme = limit.very_high if side == "high" else limit.very_low
        self._margin = limit.margin

    def breached(self, value: float) -> tuple[Priority, float] | None:
        """The priority and limit a value is beyond, None when inside."""
        for bound, priority in ((self.extreme, Priority.HIGH), (self.outer, Priority.MEDIUM)):
            if bound is not None and self._sign * (value - bound) > 0:
                return priority, bound
        return None

    def is_back(self, value: float) -> bool:
        """Whether a value is inside by the margin."""
        bound = self.outer if self.outer is not None else self.extreme
        return bound is None or self._sign * (value - bound) <= -self._margin


def _advance(
    limits: AlarmLimits, side: _Side, before: ConditionState, numeric: Numeric, condition: str
) -> tuple[ConditionState, Transition | None]:
    now_us, value = numeric.time_us, numeric.value
    # A clock that stepped back says as little of the time between as a hole does.
    has_hole = not 0 < now_us - before.last_us <= _HOLE_US and not METRICS[numeric.metric].episodic
    breach = side.breached(value)
    replace = msgspec.structs.replace
    if breach is not None:
        priority, bound = breach
        evidence = (Evidence(numeric.metric, value, bound),)
        since_us = now_us if before.outside_since_us is None or has_hole else before.outside_since_us
        after = replace(before, outside_since_us=since_us, inside_since_us=None, last_us=now_us)
        if before.alert_id and priority <= before.priority:
            return after, None
        if before.alert_id:
            step = Transition(condition, AlertPhase.ESCALATED, priority, before.onset_us, evidence)
            return replace(after, priority=priority), step
        # An episodic reading is a person's one measurement: there is no stretch of time it could persist over.
        if METRICS[numeric.metric].episodic or now_us - since_us >= limits.persist_s * 1e6:
            return replace(after, priority=priority, onset_us=since_us), Transition(
                condition, AlertPhase.RAISED, priority, since_us, evidence
            )
        return after, None
    if not before.alert_id:
        return replace(before, outside_since_us=None, last_us=now_us), None
    if not side.is_back(value):
        return replace(before, inside_since_us=None, last_us=now_us), None
    since_us = now_us if before.inside_since_us is None or has_hole else before.inside_since_us
    if METRICS[numeric.metric].episodic or now_us - since_us >= limits.clear_s * 1e6:
        cleared = Transition(
            condition, AlertPhase.CLEARED, before.priority, before.onset_us, (Evidence(numeric.metric, value),)
        )
        return ConditionState(last_us=now_us), cleared
    return replace(before, inside_since_us=since_us, last_us=now_us), None

"""Promise 2 for the fault laboratory: an alarm is neither raised twice, forgotten nor left standing.

A second reading of the rule in CLINICAL.md §10, from what the monitor's twin says it measured: it shares the table of
limits with the boxes and none of their code. Steps are timed by their records' monotonic clock, which no fault bends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from clinical.alarm_limits import AlarmLimits, Limit
from firmware_sim.truth import NumericTruth, Truth
from wire.clock import MICROSECONDS
from wire.readings import AlertPhase
from wire.vocabulary import METRICS

# A killed box is back after 0.2-5 s of back-off, about 2 s of start and its monitor's reconnection.
RECOVERY_US = 15 * MICROSECONDS
# Beyond the time a value has to persist: readings stand at whole seconds, and a busy machine hands them on late. Also
# how long after the last reading of a stretch its alarm may come.
_SLACK_US = 5 * MICROSECONDS
# The monitor says its numbers every second: one missing breaks a stretch.
_HOLE_US = 1_500_000


class Span(NamedTuple):
    """A stretch of true time, both ends in it."""

    from_us: int
    to_us: int


class Step(NamedTuple):
    """One stored step of a limit alarm, at the true time the box took it."""

    alert_id: str
    condition: str
    phase: AlertPhase
    time_us: int


class Alarms(NamedTuple):
    """What was due, and what is wrong with it, in words."""

    due: int
    missing: list[str]
    doubled: list[str]


def judge_alarms(
    limits: AlarmLimits, truth: Truth, steps: Sequence[Step], disturbed: Sequence[Span], *, slack_us: int = _SLACK_US
) -> Alarms:
    """Whether the stored steps of a monitor's limit alarms are those its measurements called for.

    An alarm is due where a continuous metric stayed outside its limit for the persistence and 5 s more, a clear where
    it then stayed inside by the margin for the time to clear and 5 s more. Only readings count that the box
    acknowledged and that lie in no `disturbed` span (faults of the box itself, which may start persistence anew, with
    the time it takes to recover) and in no lead-off: the rest, like a hole of over a second, breaks a stretch. So a
    box is not accused for what a gap, a lead-off or a kill near the episode kept it from seeing.

    Missing: nothing raised stands at the end of a due stretch; a due clear that never came; a later step without its
    RAISED. Doubled: one step of an alert_id stored twice; a second alert_id raised while the first still stands, which
    no kill excuses. Steps not called for are no matter of this promise. Readings held back for 30 s do not ring by
    design: a machine that slow is accused wrongly.
    """
    due, missing = 0, _orphans(steps)
    for condition, limit, side in _conditions(limits):
        mine = [step for step in steps if step.condition == condition]
        raised = {step.alert_id: step.time_us for step in reversed(mine) if step.phase is AlertPhase.RAISED}
        cleared = {step.alert_id: step.time_us for step in mine if step.phase is AlertPhase.CLEARED}
        readings = _readings(truth, condition, disturbed)
        for span in _stretches(readings, _is_outside(limit, side)):
            if span.to_us - span.from_us < limits.persist_s * MICROSECONDS + slack_us:
                continue
            due += 1
            if not any(
                at_us <= span.to_us + slack_us and cleared.get(one, span.to_us) >= span.to_us
                for one, at_us in raised.items()
            ):
                missing.append(f"{condition} due and not raised")
        inside = _stretches(readings, _is_inside(limit, side))
        need_us = limits.clear_s * MICROSECONDS + slack_us
        for one, at_us in raised.items():
            has_recovered = any(span.to_us - max(span.from_us, at_us) >= need_us for span in inside)
            due += has_recovered
            if has_recovered and one not in cleared:
                missing.append(f"{condition} never cleared")
    return Alarms(due, missing, _doubled(steps))


def _conditions(limits: AlarmLimits) -> Iterator[tuple[str, Limit, int]]:
    """Every limit of a continuous metric: condition, limits, +1 for high and -1 for low. Of an episodic one (a cuff)
    each reading stands alone: there is no stretch to be judged."""
    for metric, limit in limits.limits.items():
        if not METRICS[metric].episodic:
            if limit.high is not None:
                yield f"{metric}_high", limit, 1
            if limit.low is not None:
                yield f"{metric}_low", limit, -1


def _bound(limit: Limit, side: int) -> float:
    bound = limit.high if side > 0 else limit.low
    assert bound is not None, "conditions without a limit are not listed"
    return bound


def _is_outside(limit: Limit, side: int) -> Callable[[float], bool]:
    return lambda value: side * (value - _bound(limit, side)) > 0


def _is_inside(limit: Limit, side: int) -> Callable[[float], bool]:
    """By the margin."""
    return lambda value: side * (value - _bound(limit, side)) <= -limit.margin


def _readings(truth: Truth, condition: str, disturbed: Sequence[Span]) -> list[NumericTruth]:
    """What the box certainly saw of the condition's metric, undisturbed, oldest first."""
    metric = condition.rpartition("_")[0]
    blind = [*disturbed, *_lead_offs(truth)]
    seen = [
        one
        for one in truth.numerics
        if one.metric == metric
        and one.message_id in truth.answered
        and not any(span.from_us <= one.time_us <= span.to_us for span in blind)
    ]
    return sorted(seen, key=lambda one: one.time_us)


def _lead_offs(truth: Truth) -> Iterator[Span]:
    off: dict[tuple[str, ...], int] = {}
    for event in truth.events:
        if event.event == "leads_off":
            off[event.leads] = event.time_us
        elif event.event == "leads_on" and event.leads in off:
            yield Span(off.pop(event.leads), event.time_us)
    for since_us in off.values():
        yield Span(since_us, max((one.time_us for one in truth.numerics), default=since_us))


def _stretches(readings: Sequence[NumericTruth], holds: Callable[[float], bool]) -> list[Span]:
    """The longest spans of readings without a hole between them for which it holds."""
    found: list[Span] = []
    previous_us = None
    for one in readings:
        if not holds(one.value):
            previous_us = None
            continue
        if previous_us is not None and one.time_us - previous_us <= _HOLE_US:
            found[-1] = Span(found[-1].from_us, one.time_us)
        else:
            found.append(Span(one.time_us, one.time_us))
        previous_us = one.time_us
    return found


def _orphans(steps: Sequence[Step]) -> list[str]:
    raised = {step.alert_id for step in steps if step.phase is AlertPhase.RAISED}
    lost = {step.alert_id: step.condition for step in steps if step.alert_id not in raised}
    return [f"{condition} without its RAISED" for condition in lost.values()]


def _doubled(steps: Sequence[Step]) -> list[str]:
    often = Counter((step.alert_id, step.phase, step.condition) for step in steps)
    found = [f"{condition} {phase} stored {n} times" for (_, phase, condition), n in often.items() if n > 1]
    standing: dict[str, set[str]] = {}
    for step in sorted(steps, key=lambda step: step.time_us):
        mine = standing.setdefault(step.condition, set())
        if step.phase is AlertPhase.CLEARED:
            mine.discard(step.alert_id)
        elif step.phase is AlertPhase.RAISED:
            if mine - {step.alert_id}:
                found.append(f"{step.condition} raised while it stood")
            mine.add(step.alert_id)
    return found

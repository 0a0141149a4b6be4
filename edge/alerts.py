"""First alerts on the box: limit alarms and technical ones, with a state that survives kill -9.

Every step is handed out together with the new state as memos, so both are committed at once: after a restart an alert
is neither raised again nor forgotten.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

import msgspec

from clinical.alarm_limits import ALGORITHM, AlarmLimits, ConditionState, Transition, watch
from edge.spool import Memo
from wire.messages import Lane
from wire.readings import Alert, AlertKind, AlertPhase, DeviceEvent, EventKind, Evidence, Numeric, Priority
from wire.vocabulary import METRICS

MEMO_PREFIX = "alarm/"
_TECHNICAL = "technical"
_TECHNICAL_VERSION = "1"

# Device events that open and close a technical condition; the value names its condition.
_OPENS = {EventKind.LEADS_OFF: "leads_off", EventKind.SENSOR_OFF: "sensor_off"}
_CLOSES = {EventKind.LEADS_ON: "leads_off", EventKind.SENSOR_ON: "sensor_off"}
# A lead that falls off stops part of the picture; a silent device stops all of it.
_PRIORITY = {"leads_off": Priority.LOW, "sensor_off": Priority.LOW, "no_data": Priority.MEDIUM}

_WHOLE = "sensor"  # a device that does not say which part it means

Steps = tuple[list[Alert], list[Memo]]

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(ConditionState).decode


class DeviceAlarms:
    """The alarm conditions of one device."""

    def __init__(
        self,
        device_id: str,
        limits: AlarmLimits,
        *,
        saved: Callable[[str], bytes | None],
        conditions: Iterable[str],
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._prefix = f"{MEMO_PREFIX}{device_id}/"
        self._limits = limits
        self._new_id = new_id
        self._states: dict[str, ConditionState] = {}
        for condition in conditions:
            if (state := saved(self._prefix + condition)) is not None:
                self._states[condition] = _decode(state)

    @property
    def active(self) -> dict[str, ConditionState]:
        """Conditions that were raised and not cleared."""
        return {condition: state for condition, state in self._states.items() if state.alert_id}

    def numeric(self, numeric: Numeric, *, is_late: bool = False) -> Steps:
        """What a numeric raises, escalates or clears; one that comes late does none of it."""
        if is_late and not METRICS[numeric.metric].episodic:
            return [], []
        changed, steps = watch(self._limits, self._states, numeric)
        version = self._limits.version
        alerts = [self._alert(step, changed, numeric.time_us, ALGORITHM, version) for step in steps]
        self._states.update(changed)
        return alerts, [self._memo(step.condition) for step in steps]

    def event(self, event: DeviceEvent) -> Steps:
        """What a device's own word on its leads or sensor raises, changes or clears."""
        parts = set(event.leads or (_WHOLE,))
        if condition := _OPENS.get(event.kind):
            return self.technical(condition, self._parts(condition) | parts, event.time_us)
        if condition := _CLOSES.get(event.kind):
            return self.technical(condition, self._parts(condition) - parts if event.leads else set(), event.time_us)
        return [], []

    def heard_leads(self, leads: tuple[str, ...], time_us: int) -> Steps:
        """A lead that brings samples is on, also when the device's word of it was lost with a connection."""
        return self.technical("leads_off", self._parts("leads_off") - set(leads), time_us)

    def _parts(self, condition: str) -> set[str]:
        return set(self._states.get(condition, ConditionState()).parts)

    def technical(self, condition: str, parts: set[str], time_us: int) -> Steps:
        """Sets which parts of the equipment a condition concerns, none clearing it; nothing when that is known."""
        before = self._states.get(condition, ConditionState())
        now = tuple(sorted(parts))
        if before.parts == now:
            return [], []
        step = Transition(
            condition,
            AlertPhase.RAISED if now else AlertPhase.CLEARED,
            _PRIORITY[condition],
            before.onset_us if before.alert_id else time_us,
            tuple(Evidence(condition, 1.0 if now else 0.0, lead=part) for part in now or before.parts),
            AlertKind.TECHNICAL,
        )
        after = ConditionState(
            last_us=time_us, alert_id=before.alert_id, priority=step.priority, onset_us=step.onset_us, parts=now
        )
        changed = {condition: after}
        alert = self._alert(step, changed, time_us, _TECHNICAL, _TECHNICAL_VERSION)
        self._states.update(changed)
        return [alert], [self._memo(condition)]

    def hand_over(self, time_us: int) -> tuple[list[Alert], list[Alert], list[Memo]]:
        """Another patient from here on: what ends with the one before, what begins anew for the next, the memos.

        Limits are watched from nothing; a lead that is off or a silent device is so for the next patient too.
        """
        ended: list[Alert] = []
        begun: list[Alert] = []
        active = self.active
        for condition, state in active.items():
            if state.parts:
                ended += self.technical(condition, set(), time_us)[0]
                begun += self.technical(condition, set(state.parts), time_us)[0]
                continue
            step = Transition(condition, AlertPhase.CLEARED, state.priority, state.onset_us, ())
            ended.append(self._alert(step, {condition: state}, time_us, ALGORITHM, self._limits.version))
        for condition, state in self._states.items():
            if not state.parts:
                self._states[condition] = ConditionState()
        return ended, begun, [self._memo(condition) for condition in active]

    def _alert(
        self, step: Transition, changed: dict[str, ConditionState], time_us: int, algorithm: str, version: str
    ) -> Alert:
        """The step as a record; a condition gets its id when first raised and gives it up when cleared."""
        alert_id = self._states.get(step.condition, ConditionState()).alert_id or self._new_id()
        still = "" if step.phase is AlertPhase.CLEARED else alert_id
        changed[step.condition] = msgspec.structs.replace(changed[step.condition], alert_id=still)
        return Alert(
            alert_id=alert_id,
            condition=step.condition,
            kind=step.kind,
            priority=step.priority,
            phase=step.phase,
            onset_us=step.onset_us,
            time_us=time_us,
            evidence=step.evidence,
            algorithm=algorithm,
            version=version,
        )

    def _memo(self, condition: str) -> Memo:
        return Memo(Lane.URGENT, self._prefix + condition, _encode(self._states[condition]))

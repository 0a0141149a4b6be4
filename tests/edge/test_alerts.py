from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import configs
from clinical.alarm_limits import AlarmLimits
from edge.alerts import DeviceAlarms, Steps
from edge.spool import Memo
from tests.conftest import START_US
from wire.configuration import load
from wire.readings import Alert, AlertKind, AlertPhase, DeviceEvent, EventKind, Numeric
from wire.vocabulary import Metric

LIMITS = load(Path(configs.ROOT) / "alarm_limits.toml", AlarmLimits)
CONDITIONS = ["heart_rate_high", "heart_rate_low", "spo2_low", "leads_off", "no_data"]


class AlarmMachine(RuleBasedStateMachine):
    """Whatever happens, kill -9 included, an alert id is raised once, cleared at most once, and then gone."""

    def __init__(self) -> None:
        super().__init__()
        self.disk: dict[str, bytes] = {}
        self.now_us = START_US
        self.count = 0
        self.open: dict[str, str] = {}
        self.closed: set[str] = set()
        self.restart()

    def new_id(self) -> str:
        self.count += 1
        return f"a{self.count}"

    @rule()
    def restart(self) -> None:
        self.alarms = DeviceAlarms("m", LIMITS, saved=self.disk.get, conditions=CONDITIONS, new_id=self.new_id)
        assert {condition: state.alert_id for condition, state in self.alarms.active.items()} == self.open

    def take(self, steps: Steps) -> None:
        alerts, memos = steps
        assert len(alerts) == len(memos)
        self.keep(alerts, memos)

    def keep(self, alerts: list[Alert], memos: list[Memo]) -> None:
        self.disk.update({memo.name: memo.value for memo in memos})
        for alert in alerts:
            assert alert.alert_id not in self.closed
            if alert.phase is AlertPhase.CLEARED:
                assert self.open.pop(alert.condition) == alert.alert_id
                self.closed.add(alert.alert_id)
            else:
                assert self.open.setdefault(alert.condition, alert.alert_id) == alert.alert_id

    @rule(value=st.sampled_from([30, 45, 80, 118, 130, 170]), seconds=st.sampled_from([1, 6, 11, 20]))
    def heart_rate(self, value: int, seconds: int) -> None:
        self.now_us += seconds * 1_000_000
        self.take(self.alarms.numeric(Numeric(Metric.HEART_RATE, value, self.now_us)))

    @rule(kind=st.sampled_from([EventKind.LEADS_OFF, EventKind.LEADS_ON]), lead=st.sampled_from(["V1", "V6"]))
    def lead(self, kind: EventKind, lead: str) -> None:
        self.now_us += 1
        self.take(self.alarms.event(DeviceEvent(kind, self.now_us, leads=(lead,))))

    @rule(is_silent=st.booleans())
    def silence(self, is_silent: bool) -> None:
        self.now_us += 1
        self.take(self.alarms.technical("no_data", {"m"} if is_silent else set(), self.now_us))

    @rule()
    def another_patient(self) -> None:
        self.now_us += 1
        ended, begun, memos = self.alarms.hand_over(self.now_us)
        assert {alert.alert_id for alert in ended} == set(self.open.values())
        self.keep([*ended, *begun], memos)
        assert set(self.open) == {alert.condition for alert in begun} <= {"leads_off", "no_data"}


AlarmMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAlarmMachine = pytest.mark.timeout(60)(AlarmMachine.TestCase)


def alarms(disk: dict[str, bytes]) -> DeviceAlarms:
    return DeviceAlarms("m", LIMITS, saved=disk.get, conditions=CONDITIONS)


def lead_event(kind: EventKind, *leads: str) -> DeviceEvent:
    return DeviceEvent(kind, START_US, leads=leads)


def test_lead_off_is_technical_and_names_every_lead_until_the_last_is_back() -> None:
    device = alarms({})
    story: list[Alert] = []
    for event in (
        lead_event(EventKind.LEADS_OFF, "V6"),
        lead_event(EventKind.LEADS_OFF, "V5"),
        lead_event(EventKind.LEADS_OFF, "V5"),
        lead_event(EventKind.LEADS_ON, "V6"),
        lead_event(EventKind.LEADS_ON, "V5"),
    ):
        story += device.event(event)[0]
    assert [(alert.phase, [fact.lead for fact in alert.evidence]) for alert in story] == [
        (AlertPhase.RAISED, ["V6"]),
        (AlertPhase.RAISED, ["V5", "V6"]),
        (AlertPhase.RAISED, ["V5"]),
        (AlertPhase.CLEARED, ["V5"]),
    ]
    assert {alert.alert_id for alert in story} == {story[0].alert_id}
    assert {alert.kind for alert in story} == {AlertKind.TECHNICAL}

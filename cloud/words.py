"""Stored and live things as the JSON that screens read (docs/live.md)."""

from __future__ import annotations

from typing import Any

from cloud.store.alerts import StoredAlert
from cloud.store.reader import StoredNumeric, StoredSession
from wire.readings import Alert, DeviceEvent, SessionKind
from wire.vocabulary import METRICS, TWELVE_LEADS, WAVEFORMS

Json = dict[str, Any]  # Any: JSON

# A home's label may tell who lives there, and what is of no known kind might be one.
_PLACES = (SessionKind.MISSION.value, SessionKind.VISIT.value)


def session_json(session: StoredSession, stored_us: int = 0) -> Json:
    """`stored_us` is when something of the session was last committed, if that is known better than by the board."""
    return {
        "session_id": session.session_id,
        "gateway_id": session.gateway,
        "kind": session.kind,
        "label": session.label,
        "origin": session.origin,
        "opened_us": session.opened_us,
        "closed_us": session.closed_us,
        "stored_us": max(session.stored_us, stored_us),
    }


def public_label(kind: str, label: str) -> str:
    """The vehicle or booth, for who may not see the session; a home's is not told."""
    return label if kind in _PLACES else ""


def elsewhere_json(session: StoredSession) -> Json:
    """A session for who may not see it: enough to know the ambulance at the door, nothing of the patient."""
    return {
        "session_id": session.session_id,
        "kind": session.kind,
        "label": public_label(session.kind, session.label),
        "origin": session.origin,
        "opened_us": session.opened_us,
    }


def alert_json(stored: StoredAlert) -> Json:
    """The newest step of an alert."""
    alert: Alert = stored.alert
    return {
        "alert_id": alert.alert_id,
        "condition": alert.condition,
        "kind": alert.kind.value,
        "priority": alert.priority.value,
        "phase": alert.phase.value,
        "onset_us": alert.onset_us,
        "time_us": alert.time_us,
        "evidence": [
            {"metric": fact.metric, "value": fact.value, "limit": fact.limit, "lead": fact.lead}
            for fact in alert.evidence
        ],
        "algorithm": alert.algorithm,
        "version": alert.version,
        "delayed": stored.delayed,
        "placed": stored.placed,
    }


def event_json(event: DeviceEvent) -> Json:
    """What a device said."""
    return {
        "kind": event.kind.value,
        "time_us": event.time_us,
        "detail": event.detail,
        "leads": list(event.leads),
    }


def numeric_json(numeric: StoredNumeric) -> Json:
    """One stored value."""
    return numeric._asdict()


def vocabulary_json() -> Json:
    """What screens must know of every metric and waveform to show it."""
    return {
        "metrics": {
            metric.value: {
                "en": facts.title_en,
                "zh": facts.title_zh,
                "unit": facts.unit,
                "decimals": facts.decimals,
                "low": facts.plausible[0],
                "high": facts.plausible[1],
                "episodic": facts.episodic,
            }
            for metric, facts in METRICS.items()
        },
        "waveforms": {
            name: {"en": facts.title_en, "zh": facts.title_zh, "unit": facts.unit} for name, facts in WAVEFORMS.items()
        },
        "leads": list(TWELVE_LEADS),
    }

"""Text from a box, in whatever field a screen shows, in a real browser: it is shown, and is never markup."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.screens.conftest import Room

pytestmark = pytest.mark.timeout(60)

SCRIPT = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><b>AMB</b>"


def test_no_field_of_a_patient_becomes_markup(room: Room) -> None:
    patient = room.patient
    now_us = patient.clock.now_us()
    patient.label = SCRIPT
    patient.gateway |= {"version": SCRIPT, "counters": {SCRIPT: 5}, "gateway_id": SCRIPT}
    patient.numerics = {"heart_rate": [[now_us, 61, 0]], SCRIPT: [[now_us, 5, 0]]}
    patient.events = [{"kind": SCRIPT, "time_us": now_us, "detail": SCRIPT, "leads": [SCRIPT]}]
    alert = {"alert_id": SCRIPT, "condition": SCRIPT, "kind": "physiological", "priority": 3, "phase": "raised"}
    evidence = [{"metric": SCRIPT, "value": 5, "limit": 9, "lead": SCRIPT}]
    times = {"onset_us": now_us, "time_us": now_us, "delayed": False, "placed": True}
    patient.alerts = [alert | times | {"evidence": evidence, "algorithm": SCRIPT, "version": SCRIPT}]
    room.open()
    expect(room.page.get_by_text("<b>AMB</b>").first).to_be_visible()
    assert room.page.locator("[onerror], #screen script, b:text-is('AMB')").count() == 0
    assert room.page.title() != "owned"
    assert not [error for error in room.errors if "Security Policy" in error]

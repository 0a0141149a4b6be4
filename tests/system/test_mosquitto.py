"""The same promise over a broker of the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.sites import HAS_MOSQUITTO
from tests.system.kills import kill_broker, play
from vitalwire import demo

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not HAS_MOSQUITTO, reason="no mosquitto here: apt-get install mosquitto"),
]


def test_kill9_of_a_mosquitto_loses_and_doubles_nothing(tmp_path: Path) -> None:
    report = play(tmp_path, 6, [(3.0, kill_broker)], broker="mosquitto")
    assert demo.is_clean(report), report["findings"]
    assert report["restarts"]["broker"] == 1
    assert report["truth_samples"] == report["stored_samples"] > 20_000
    assert report["records_stored"] > 20
    # Screens saw the traces come and found them again after the broker had died.
    assert report["live_blocks"] > 10

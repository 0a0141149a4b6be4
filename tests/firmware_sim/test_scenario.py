from pathlib import Path

import numpy as np
import pytest

from firmware_sim.physiology.patient import Patient
from firmware_sim.scenario import Curve, Rhythm, load_scenario, rhythm_at
from wire.configuration import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[stretch]]\nfrom = 3", ["stretch[0].from", "from_s, over_s, heart_rate, rhythm"]),
        ('[baseline]\nrhythm = "flutter"', ["baseline.rhythm", "sinus, atrial_fibrillation, ventricular_tachycardia"]),
        ("[baseline]\nheart_rate = 840", ["baseline.heart_rate", "300"]),
        ("[[stretch]]\nfrom_s = 9\n[[stretch]]\nfrom_s = 3", ["stretch.from_s", "back in time"]),
        ('[[lead_off]]\nfrom_s = 1\nto_s = 2\nleads = ["V9"]', ["lead_off[0].leads", "V9", "I, II, III, aVR"]),
        ('[[lead_off]]\nfrom_s = 2\nto_s = 2\nleads = ["V1"]', ["lead_off[0].to_s", "after from_s"]),
    ],
)
def test_wrong_scenario_names_the_key_and_what_is_allowed(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n' + text)
    with pytest.raises(ConfigError) as raised:
        load_scenario(str(path))
    for words in ["mine.toml", *said]:
        assert words in str(raised.value)


def test_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(ConfigError, match="calm, first_light, rhythms"):
        load_scenario("last_light")


def test_shipped_scenarios_load() -> None:
    assert rhythm_at(load_scenario("rhythms"), 95) is Rhythm.VENTRICULAR_TACHYCARDIA
    assert load_scenario("calm").stretch == ()


def test_first_light_crosses_limits_long_enough_for_an_alarm_in_forty_seconds() -> None:
    patient = Patient(load_scenario("first_light"))
    shown = {at_s: {n.metric.value: n.value for n in patient.numbers(at_s)} for at_s in range(1, 111)}
    assert all(shown[at_s]["heart_rate"] < 95 and shown[at_s]["spo2"] >= 96 for at_s in range(1, 9))
    assert all(shown[at_s]["heart_rate"] > 140 and shown[at_s]["spo2"] < 88 for at_s in range(20, 75))
    assert all(shown[at_s]["heart_rate"] < 95 and shown[at_s]["spo2"] > 95 for at_s in range(100, 111))


def test_curve_moves_without_steps() -> None:
    curve = Curve(84, [(8, 6, 150), (75, 15, 88)])
    values = curve.over(np.arange(0, 120, 0.1))
    assert np.abs(np.diff(values)).max() < 2
    assert (curve.at(0), curve.at(8), curve.at(14), curve.at(60), curve.at(90)) == (84, 84, 150, 150, 88)


def test_change_within_a_change_goes_on_from_where_it_was() -> None:
    curve = Curve(100, [(0, 10, 200), (5, 10, 100)])
    assert curve.at(5) == pytest.approx(150)
    assert curve.at(15) == 100

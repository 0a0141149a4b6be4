import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.physiology.beats import BeatTrain
from firmware_sim.physiology.patient import ECG_MV_PER_COUNT, ECG_RATE_HZ, Patient
from firmware_sim.scenario import Baseline, Nibp, Rhythm, Scenario, Stretch
from wire.vocabulary import TWELVE_LEADS, Metric

I, II, III, AVR, AVL, AVF = range(6)  # noqa: E741


def resting(heart_rate: float = 72, rhythm: Rhythm = Rhythm.SINUS, seed: int = 0) -> Scenario:
    return Scenario("resting", seed, Baseline(heart_rate=heart_rate, rhythm=rhythm))


@pytest.mark.parametrize("rhythm", list(Rhythm))
def test_limb_leads_obey_einthoven_and_goldberger_within_rounding(rhythm: Rhythm) -> None:
    counts = Patient(resting(rhythm=rhythm)).ecg(5000)
    assert counts.dtype == np.int32
    assert counts.shape == (5000, 12)
    assert np.abs(counts[:, I] + counts[:, III] - counts[:, II]).max() <= 1.5
    assert np.abs(counts[:, AVR] + counts[:, AVL] + counts[:, AVF]).max() <= 1.5
    assert np.abs(2 * counts[:, AVL] - counts[:, I] + counts[:, III]).max() <= 2


@pytest.mark.parametrize("heart_rate", [45, 72, 110, 150, 180])
def test_measured_heart_rate_is_the_scripted_one(heart_rate: int) -> None:
    patient = Patient(resting(heart_rate))
    shown = [number.value for at_s in range(1, 60) for number in patient.numbers(at_s) if number.metric == "heart_rate"]
    assert len(shown) == 59
    assert np.mean(shown) == pytest.approx(heart_rate, rel=0.02)
    assert max(abs(value - heart_rate) for value in shown) <= 0.04 * heart_rate


@pytest.mark.parametrize("heart_rate", [60, 84, 150])
def test_r_peaks_on_screen_are_the_beats(heart_rate: int) -> None:
    scenario = resting(heart_rate)
    lead = Patient(scenario).ecg(20 * ECG_RATE_HZ)[:, II] * ECG_MV_PER_COUNT
    is_peak = (lead[1:-1] > 0.6) & (lead[1:-1] >= lead[:-2]) & (lead[1:-1] > lead[2:])
    peaks = (np.flatnonzero(is_peak) + 1) / ECG_RATE_HZ
    beats = [beat.at_s for beat in BeatTrain(scenario).between(0.02, 19.98)]
    assert len(beats) == pytest.approx(heart_rate / 3, abs=2)
    for beat in beats:
        assert np.abs(peaks - beat).min() < 0.012
    assert all(min(abs(beat - peak) for beat in beats) < 0.03 for peak in peaks[1:-1])


def test_amplitudes_are_those_of_a_normal_ecg() -> None:
    millivolts = Patient(resting()).ecg(5000) * ECG_MV_PER_COUNT
    highest = dict(zip(TWELVE_LEADS, millivolts.max(axis=0), strict=True))
    lowest = dict(zip(TWELVE_LEADS, millivolts.min(axis=0), strict=True))
    assert 0.8 < highest["II"] < 2
    assert lowest["aVR"] < -0.5
    assert lowest["V1"] < -0.4  # rS in V1
    assert highest["V5"] > 1  # dominant R in V5
    assert np.abs(np.median(millivolts, axis=0)).max() < 0.15


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=12))
def test_block_sizes_do_not_change_the_samples(sizes: list[int]) -> None:
    scenario = Scenario("af", 4, Baseline(), (Stretch(from_s=0.7, rhythm=Rhythm.ATRIAL_FIBRILLATION),))
    whole, pieces = Patient(scenario), Patient(scenario)
    assert (np.vstack([pieces.ecg(size) for size in sizes]) == whole.ecg(sum(sizes))).all()
    assert (np.vstack([pieces.pleth(size) for size in sizes]) == whole.pleth(sum(sizes))).all()


def test_same_seed_same_patient_other_seed_another() -> None:
    assert (Patient(resting(seed=5)).ecg(2000) == Patient(resting(seed=5)).ecg(2000)).all()
    assert (Patient(resting(seed=5)).ecg(2000) != Patient(resting(seed=6)).ecg(2000)).any()


def test_atrial_fibrillation_is_irregular_and_sinus_is_not() -> None:
    def spread(rhythm: Rhythm) -> float:
        intervals = [beat.rr_s for beat in BeatTrain(resting(90, rhythm)).between(0, 60)]
        return float(np.std(intervals) / np.mean(intervals))

    assert spread(Rhythm.ATRIAL_FIBRILLATION) > 0.12
    assert spread(Rhythm.SINUS) < 0.05
    assert spread(Rhythm.VENTRICULAR_TACHYCARDIA) < 0.02


def test_pleth_pulses_once_a_beat() -> None:
    wave = Patient(resting(75)).pleth(2000)[:, 0]
    middle = (wave.max() + wave.min()) / 2
    rises = np.flatnonzero((wave[:-1] < middle) & (wave[1:] >= middle))
    assert len(rises) == pytest.approx(25, abs=1)


def test_cuff_is_measured_now_and_then_and_keeps_its_time() -> None:
    patient = Patient(Scenario("cuff", nibp=Nibp(first_s=5, every_s=60)))

    def systolic(at_s: float) -> list[tuple[float, float]]:
        numbers = patient.numbers(at_s)
        return [(n.value, n.at_s) for n in numbers if n.metric is Metric.NIBP_SYSTOLIC and n.episodic]

    assert systolic(4) == []
    assert systolic(5) == systolic(64)
    assert systolic(5)[0][1] == 5
    assert systolic(65)[0][1] == 65

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.window import Point, SessionWindow, WaveFrame, thin

SECOND_US = 1_000_000


@given(st.lists(st.tuples(st.integers(0, 3_000), st.floats(0, 200)), max_size=300))
def test_thinning_keeps_order_peaks_and_everything_recent(values: list[tuple[int, float]]) -> None:
    trend = sorted(Point(at * SECOND_US, value, 0) for at, value in values)
    newest_us = max((point.time_us for point in trend), default=0)
    kept = thin(trend, newest_us)
    shown = [point for point in trend if point.time_us >= newest_us - 1800 * SECOND_US]
    assert [point.time_us for point in kept] == sorted(point.time_us for point in kept)
    assert [point for point in shown if point.time_us >= newest_us - 300 * SECOND_US] == [
        point for point in kept if point.time_us >= newest_us - 300 * SECOND_US
    ]
    if shown:
        assert max(point.value or 0 for point in kept) == max(point.value or 0 for point in shown)
        assert min(point.value or 0 for point in kept) == min(point.value or 0 for point in shown)


@given(st.lists(st.integers(0, 1_000), max_size=60))
def test_points_in_any_order_make_the_same_trend(times: list[int]) -> None:
    window = SessionWindow()
    for at in times:
        window.add_point("spo2", "monitor", Point(at * SECOND_US, float(at), 0), 1_000 * SECOND_US)
    trend = window.numerics().get("spo2", [])
    recent = sorted({at for at in times if at * SECOND_US >= max(times) * SECOND_US - 300 * SECOND_US}) if times else []
    assert [point.time_us // SECOND_US for point in trend][-len(recent) :] == recent or not recent


def test_an_older_value_never_counts_as_the_newest() -> None:
    window = SessionWindow()
    assert window.add_point("spo2", "monitor", Point(20, 97.0, 0), 0)
    assert not window.add_point("spo2", "monitor", Point(10, 80.0, 0), 0)
    assert not window.add_point("spo2", "monitor", Point(20, 97.0, 0), 0)
    assert window.is_backfilled
    assert [point.value for point in window.numerics()["spo2"]] == [80.0, 97.0]


def test_after_a_clock_was_set_back_values_of_now_are_shown_again() -> None:
    window, hour_us, now_us = SessionWindow(), 3_600 * SECOND_US, 10**15
    assert window.add_point("spo2", "monitor", Point(now_us + hour_us, 97.0, 0), now_us)
    assert not window.add_point("spo2", "monitor", Point(now_us - hour_us, 50.0, 0), now_us)
    assert window.add_point("spo2", "monitor", Point(now_us, 80.0, 0), now_us)
    assert [point.value for point in window.numerics()["spo2"]] == [80.0]
    assert window.add_wave("ecg", WaveFrame(now_us + hour_us, 500, now_us + hour_us, b"future"), now_us)
    assert window.add_wave("ecg", WaveFrame(now_us, 600, now_us, b"now"), now_us)
    assert window.waves() == [b"now"]


def test_what_lies_long_behind_its_session_is_history_even_where_it_is_the_newest_of_its_kind() -> None:
    window, now_us = SessionWindow(), 10**15
    assert window.add_point("heart_rate", "monitor", Point(now_us, 80.0, 0), now_us)
    assert not window.is_backfilled
    for ago_s in (600, 599, 61):
        assert not window.add_point("spo2", "monitor", Point(now_us - ago_s * SECOND_US, 97.0, 0), now_us)
    assert window.is_backfilled
    assert window.add_point("spo2", "monitor", Point(now_us - 59 * SECOND_US, 96.0, 0), now_us)
    assert len(window.numerics()["spo2"]) == 4
    old_us = now_us - 600 * SECOND_US
    assert not window.add_wave("pleth", WaveFrame(old_us, 500, old_us + SECOND_US, b"old"), now_us)
    assert window.add_wave("pleth", WaveFrame(now_us, 900, now_us + SECOND_US, b"new"), now_us)


def test_a_box_whose_clock_is_slow_is_shown_as_it_speaks() -> None:
    window, now_us, slow_us = SessionWindow(), 10**15, 10**15 - 3_600 * SECOND_US
    for second in range(3):
        assert window.add_point("spo2", "monitor", Point(slow_us + second * SECOND_US, 97.0, 0), now_us)
    assert not window.is_backfilled


def test_after_a_clock_was_set_back_every_kind_is_news_again() -> None:
    window, hour_us, now_us = SessionWindow(), 3_600 * SECOND_US, 10**15
    assert window.add_point("heart_rate", "monitor", Point(now_us + hour_us, 80.0, 0), now_us)
    assert window.add_point("spo2", "monitor", Point(now_us, 97.0, 0), now_us)

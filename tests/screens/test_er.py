"""The emergency room's screen as a person sees it: moving, alarming, silent, old, in both languages."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from bench.screen import FeedPatient
from tests.screens.conftest import Room
from wire.vocabulary import TWELVE_LEADS

pytestmark = pytest.mark.timeout(60)

# For each pixel column under a lead: is there trace colour in it? Trace and pulse are the only bright green on a sheet.
COLUMNS = """
(lead) => {
  const box = document.querySelector(`[data-testid=lead-canvas][data-lead="${lead}"]`);
  const canvas = document.querySelector("canvas.trace");
  const dpr = window.devicePixelRatio;
  const [x, y] = [box.offsetLeft * dpr, box.offsetTop * dpr];
  const size = [box.offsetWidth * dpr, box.offsetHeight * dpr];
  const { data, width, height } = canvas.getContext("2d").getImageData(x, y, ...size);
  return Array.from({ length: width }, (_, column) => {
    for (let row = 0; row < height; row++) {
      const at = (row * width + column) * 4;
      if (data[at + 1] > 150 && data[at] < 140) return 1;
    }
    return 0;
  });
}
"""

PULSE_ROOM = 30  # px: 8 mm for the calibration pulse


def alert(condition: str, priority: int, **changes: Any) -> dict[str, Any]:
    return {
        "alert_id": f"{condition}-1",
        "condition": condition,
        "kind": "physiological",
        "priority": priority,
        "phase": "raised",
        "onset_us": 1_795_000_000_000_000,
        "time_us": 1_795_000_000_000_000,
        "evidence": [{"metric": "spo2", "value": 82.0, "limit": 90.0, "lead": ""}],
        "algorithm": "alarm_limits",
        "version": "1.2",
        "delayed": False,
        **changes,
    }


def test_every_lead_moves(room: Room) -> None:
    room.patient.leads = TWELVE_LEADS
    room.open()
    expect(room.page.get_by_test_id("lead-canvas")).to_have_count(12)
    moved = """
      (before) => Object.values(window.vitalwire.stats().sessions)[0] && Object.entries(before).every(([lead, was]) =>
        Object.values(window.vitalwire.stats().sessions)[0][lead].samples > was.samples + 200)
    """
    before = room.page.evaluate("() => Object.values(window.vitalwire.stats().sessions)[0]")
    room.page.wait_for_function(moved, arg=before, polling=100)
    for lead in TWELVE_LEADS:
        assert sum(room.page.evaluate(COLUMNS, lead)) > 100, lead
    assert room.errors == []


def test_any_lead_set_and_rate_is_drawn_full_width(room: Room) -> None:
    room.patient.leads, room.patient.rate_hz = ("MLII", "V5"), 360
    room.open()
    expect(room.page.get_by_test_id("lead-canvas")).to_have_count(2)
    expect(room.page.locator(".stream-caption")).to_contain_text("25 mm/s · 10 mm/mV · 96 dpi · 360 Hz")


def test_a_crowded_sheet_says_its_true_size(room: Room) -> None:
    room.patient.leads = TWELVE_LEADS
    room.open("?lang=en&view=wall")
    room.page.set_viewport_size({"width": 640, "height": 480})
    expect(room.page.locator(".stream-caption")).to_contain_text("size ")


@pytest.mark.parametrize(
    ("priority", "stars", "colour", "period"),
    [
        (3, "***", "rgb(212, 18, 31)", "0.5s"),
        (2, "**", "rgb(255, 214, 10)", "1.6667s"),
        (1, "*", "rgb(34, 199, 220)", ""),
    ],
)
def test_an_alarm_has_the_colour_and_words_of_its_priority(
    room: Room, priority: int, stars: str, colour: str, period: str
) -> None:
    room.open()
    raised = alert("spo2_low", priority, delayed=True)
    room.feed.say({"type": "alert", "session_id": room.patient.session_id, "alert": raised})
    banner = room.page.locator("[data-testid=alarm-banner][data-condition=spo2_low]")
    expect(banner).to_have_attribute("data-priority", str(priority))
    expect(banner).to_contain_text(f"{stars}Oxygen saturation low")
    expect(banner).to_contain_text("Oxygen saturation 82 % (limit 90)")
    for words in ("DELAYED", "alarm_limits 1.2", "onset ", "A-01"):
        expect(banner).to_contain_text(words)
    expect(banner).to_have_css("background-color", colour)
    style = banner.evaluate("(node) => getComputedStyle(node, '::before').animationDuration")
    assert style == (period or "0s")


def test_an_alarm_raised_without_a_clock_says_so_until_its_onset_is_known(room: Room) -> None:
    room.open()
    session = {"type": "alert", "session_id": room.patient.session_id}
    room.feed.say({**session, "alert": alert("spo2_low", 3, placed=False, onset_us=107_000_000)})
    banner = room.page.locator("[data-testid=alarm-banner][data-condition=spo2_low]")
    expect(banner).to_contain_text("onset unknown: clock not set")
    room.feed.say({**session, "alert": alert("spo2_low", 3, placed=True)})
    expect(banner).not_to_contain_text("unknown")


def test_alarms_are_sorted_and_cleared_ones_listed_quietly(room: Room) -> None:
    room.open()
    session = {"type": "alert", "session_id": room.patient.session_id}
    for condition, priority in (("leads_off", 1), ("heart_rate_high", 3), ("unheard_of", 2)):
        room.feed.say({**session, "alert": alert(condition, priority)})
    banners = room.page.locator("[data-testid=alarm-banner]:not([data-condition=no_data])")
    expect(banners).to_have_count(3)
    assert [node.get_attribute("data-priority") for node in banners.all()] == ["3", "2", "1"]
    now_us = room.patient.clock.now_us()
    cleared = alert("heart_rate_high", 3, phase="cleared", time_us=now_us)
    room.feed.say({**session, "alert": cleared})
    expect(banners).to_have_count(2)
    expect(room.page.get_by_test_id("cleared-alarms")).to_contain_text("Heart rate high")


def test_reduced_motion_keeps_the_colour(room: Room) -> None:
    room.page.emulate_media(reduced_motion="reduce")
    room.patient.alerts = [alert("spo2_low", 3)]
    room.open()
    banner = room.page.locator("[data-testid=alarm-banner][data-condition=spo2_low]")
    expect(banner).to_have_css("background-color", "rgb(212, 18, 31)")
    assert banner.evaluate("(node) => getComputedStyle(node, '::before').animationName") == "none"


def test_the_language_switches_and_is_remembered(room: Room) -> None:
    room.patient.alerts = [alert("spo2_low", 2)]
    room.open("?lang=zh")
    html = room.page.locator("html")
    expect(html).to_have_attribute("lang", "zh-CN")
    banner = room.page.locator("[data-testid=alarm-banner][data-condition=spo2_low]")
    expect(banner).to_contain_text("血氧饱和度过低")
    room.page.get_by_test_id("language-switch").click()
    expect(html).to_have_attribute("lang", "en")
    expect(banner).to_contain_text("Oxygen saturation low")
    room.open("")
    expect(html).to_have_attribute("lang", "en")
    disclaimer = room.page.get_by_test_id("disclaimer")
    expect(disclaimer).to_contain_text("辅助决策与第二报警通道,不能替代床旁监护")
    expect(disclaimer).to_contain_text("not a substitute for the bedside monitor")


def test_a_stream_that_stops_says_no_data_and_comes_back(room: Room) -> None:
    room.open()
    no_data = room.page.locator(".stream [data-testid=no-data]")
    room.page.wait_for_function("() => Object.values(window.vitalwire.stats().sessions)[0]?.II?.samples > 500")
    expect(no_data).to_be_hidden()
    room.patient.flows = False
    expect(no_data).to_be_visible()
    expect(no_data).to_contain_text("NO DATA / 无数据")
    expect(no_data).to_contain_text("since ")
    expect(room.page.locator("[data-testid=alarm-banner][data-condition=no_data]")).to_have_attribute(
        "data-kind", "technical"
    )
    room.patient.flows = True
    expect(no_data).to_be_hidden()
    assert room.lead("II")["gaps"] == 1


def test_a_gateway_offline_is_no_data_at_once(room: Room) -> None:
    room.open()
    room.page.wait_for_function("() => Object.values(window.vitalwire.stats().sessions)[0]?.II?.samples > 500")
    room.feed.say({"type": "gateway", "gateway": {**room.patient.gateway, "online": False}})
    expect(room.page.locator(".stream [data-testid=no-data]")).to_contain_text("gateway offline", timeout=2000)
    expect(room.page.get_by_test_id("patient-card")).to_contain_text("OFFLINE")


def test_losing_the_server_is_said_over_the_whole_screen_until_it_is_back(room: Room) -> None:
    room.open()
    dead = room.page.get_by_test_id("screen-dead")
    expect(dead).to_be_hidden()
    room.feed.ticks = room.patient.flows = False
    expect(dead).to_contain_text("Screen disconnected from server / 屏幕与服务器断开")
    expect(room.page.locator(".stream [data-testid=no-data]")).to_contain_text("screen disconnected")
    room.feed.ticks = room.patient.flows = True
    expect(dead).to_be_hidden()
    room.feed.refuses = True
    room.feed.hang_up()
    expect(dead).to_be_visible()
    room.feed.refuses = False
    expect(dead).to_be_hidden()


def test_a_block_seen_twice_is_drawn_once(room: Room) -> None:
    room.patient.flows = False
    room.open()
    first = room.now_index() - 500
    blocks = [room.patient.block_bytes(index, 125) for index in range(first, first + 500, 125)]
    room.feed.say(*blocks, *blocks, blocks[1])
    room.page.wait_for_function("() => Object.values(window.vitalwire.stats().sessions)[0]?.II?.samples >= 500")
    room.page.wait_for_timeout(500)
    drawn = room.lead("II")
    assert (drawn["samples"], drawn["duplicates"], drawn["gaps"]) == (500, 5, 0)


def test_a_missing_block_is_a_gap_of_its_true_width(room: Room) -> None:
    room.patient.flows = False
    room.open()
    first = room.now_index() - 625
    room.feed.say(*(room.patient.block_bytes(first + index, 125) for index in (0, 125, 375, 500)))
    # Looked at in the moment the last sample is drawn: three seconds later the trace freezes and turns grey.
    columns = room.page.wait_for_function(
        f"() => Object.values(window.vitalwire.stats().sessions)[0]?.II?.samples >= 500 && ({COLUMNS})('II')"
    )
    assert room.lead("II")["gaps"] == 1
    gap, never_drawn = sorted(runs_of_nothing(columns.json_value()[PULSE_ROOM:]))
    # 126 sample steps of 1/250 s at 25 mm/s and 96 dpi: 47.6 px, between the traces on either side.
    assert 46 <= gap <= 49
    assert never_drawn > 200
    room.feed.say(room.patient.block_bytes(first + 250, 125))
    room.page.wait_for_function(f"() => ({COLUMNS})('II').slice({PULSE_ROOM}).filter(Boolean).length >= 232")


def runs_of_nothing(columns: list[int]) -> list[int]:
    """Lengths of the empty runs of a sweep, which goes round: what is cut by the edge is one run."""
    text = "".join(map(str, columns))
    start = text.index("1")
    return [len(run) for run in (text[start:] + text[:start]).split("1") if run]


@pytest.mark.parametrize(("origin", "name"), [(2, "demo"), (1, "test")])
def test_what_is_not_a_patient_is_watermarked(room: Room, origin: int, name: str) -> None:
    room.patient.origin = origin
    room.open()
    watermark = room.page.get_by_test_id(f"{name}-watermark")
    expect(watermark).to_be_visible()
    assert watermark.evaluate("(node) => getComputedStyle(node.firstChild).backgroundImage").endswith(f'{name}.svg")')
    expect(room.page.get_by_test_id("patient-card")).to_contain_text(name.upper())
    expect(room.page.get_by_test_id("auto-sign-in")).to_have_text("demo: signed in automatically")


def test_a_real_patient_has_no_watermark(room: Room) -> None:
    room.patient.origin = 0
    room.open()
    expect(room.page.locator(".watermark")).to_be_hidden()


def test_missing_and_old_values_are_never_shown_as_current(room: Room) -> None:
    now_us = room.patient.clock.now_us()
    room.patient.numerics = {
        "heart_rate": [[now_us - 60_000_000, 88, 0]],
        "nibp_systolic": [[now_us - 600_000_000, 142, 0]],
        "nibp_diastolic": [[now_us - 600_000_000, 85, 0]],
        "nibp_mean": [[now_us - 600_000_000, 104, 0]],
    }
    room.open()

    def tile(metric: str) -> Any:
        return room.page.locator(f"[data-testid=numeric][data-metric={metric}]")

    expect(tile("spo2").locator(".numeric-value")).to_have_text("---")
    expect(tile("heart_rate")).to_have_attribute("data-state", "old")
    expect(tile("heart_rate").locator(".numeric-value")).to_have_css("text-decoration-line", "line-through")
    expect(tile("nibp")).to_have_attribute("data-state", "current")
    expect(tile("nibp")).to_contain_text("142/85(104)")
    expect(tile("nibp")).to_contain_text("10 min ago")


@pytest.mark.parametrize(
    ("language", "words", "ahead"), [("en", "WRONG CLOCK", "min ahead"), ("zh", "时钟错误", "超前")]
)
def test_a_clock_set_back_leaves_no_value_of_the_future_and_hides_no_escalation(
    room: Room, language: str, words: str, ahead: str
) -> None:
    now_us, hour_us = room.patient.clock.now_us(), 3_600_000_000
    future = {metric: [[now_us + hour_us, value, 0]] for metric, value in (("heart_rate", 80), ("spo2", 97))}
    nibp = {"nibp_systolic": [[now_us + hour_us, 128, 0]], "nibp_diastolic": [[now_us + hour_us, 82, 0]]}
    room.patient.numerics = future | nibp
    raised = alert("spo2_low", 2, time_us=now_us + hour_us, onset_us=now_us + hour_us)
    room.patient.alerts = [raised]
    room.open(f"?lang={language}")
    tile = room.page.locator("[data-testid=numeric][data-metric=heart_rate]")
    expect(tile).to_have_attribute("data-state", "wrong_clock")
    expect(tile).to_contain_text(words)
    expect(tile.locator(".numeric-age")).to_contain_text(ahead)
    expect(tile.locator(".numeric-value")).to_have_css("color", "rgb(255, 180, 84)")
    expect(tile.locator(".numeric-tag")).to_have_css("background-color", "rgb(255, 180, 84)")
    # The clock is set back by an hour: the server gives the future up and says what stands.
    room.patient.numerics = nibp | {"heart_rate": [[now_us, 131, 0]]}
    escalated = {**raised, "phase": "escalated", "priority": 3, "time_us": now_us}
    told: list[dict[str, Any]] = [
        {"type": "numeric", "session_id": room.patient.session_id, "metric": "heart_rate", "time_us": now_us}
        | {"value": 131, "quality": 0, "reason": "", "device_id": "monitor"},
        room.patient.snapshot(),
        {"type": "alert", "session_id": room.patient.session_id, "alert": escalated},
    ]
    room.feed.say(*told)
    expect(tile).to_have_attribute("data-state", "current")
    expect(tile.locator(".numeric-value")).to_have_text("131")
    expect(room.page.locator("[data-testid=numeric][data-metric=nibp]")).to_have_attribute("data-state", "wrong_clock")
    banner = room.page.locator("[data-testid=alarm-banner][data-condition=spo2_low]")
    expect(banner).to_have_attribute("data-priority", "3")
    assert room.errors == []


@pytest.mark.parametrize("size", [(1024, 768), (1280, 800), (1920, 1080)])
def test_everything_fits_the_screen(room: Room, size: tuple[int, int]) -> None:
    room.patient.leads = TWELVE_LEADS
    room.patient.alerts = [alert("spo2_low", 3), alert("heart_rate_high", 2)]
    room.feed.patients += [FeedPatient(k, f"A-0{k + 1}", room.patient.clock, flows=False) for k in range(1, 6)]
    room.page.set_viewport_size({"width": size[0], "height": size[1]})
    for query in ("?lang=en", "?lang=zh&view=wall"):
        room.open(query)
        outside = room.page.evaluate(
            """() => [...document.querySelectorAll(
                 ".toolbar > *, .card, .alarm, .panel, .sheet, .disclaimer, .numeric:not(.small)")]
               .filter((node) => node.offsetParent && !node.matches("dialog"))
               .filter((node) => !node.closest(".cards") || node.matches(".cards"))
               .map((node) => [node.className || node.tagName, node.getBoundingClientRect()])
               .filter(([, box]) => box.right > innerWidth + 1 || box.bottom > innerHeight + 1)
               .map(([name, box]) => `${name} ${box.right} ${box.bottom}`)"""
        )
        assert outside == []

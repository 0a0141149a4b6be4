from edge.window import RoundTrip, Sent, Window

EPOCH = b"e" * 16


def sent(first: int, last: int, at_us: int, size: int = 100) -> Sent:
    return Sent(EPOCH, first, last, b"x" * size, at_us)


def test_window_closes_at_its_byte_limit_and_opens_with_receipts() -> None:
    window = Window(250)
    for first in (0, 10, 20):
        assert window.is_open
        window.opened(sent(first, first + 9, 0))
    assert not window.is_open
    assert [one.first_seq for one in window.receipted(EPOCH, 0, 19, 50_000)] == [0, 10]
    assert window.is_open
    assert [window.holds(EPOCH, seq, seq) for seq in (0, 19, 20, 29, 30)] == [False, False, True, True, False]


def test_receipt_that_covers_half_a_batch_leaves_it_in_flight() -> None:
    window = Window(1000)
    window.opened(sent(0, 9, 0))
    window.receipted(EPOCH, 0, 4, 10)
    assert len(window) == 1


def test_receipt_answers_only_batches_on_their_way() -> None:
    window = Window(1000)
    window.opened(sent(20, 29, 0))
    assert window.receipted(b"f" * 16, 20, 29, 5) == []
    assert [one.last_seq for one in window.receipted(EPOCH, 20, 29, 5)] == [29]
    assert window.receipted(EPOCH, 20, 29, 5) == []


def test_timeout_follows_measured_round_trips_and_doubles_when_overdue() -> None:
    window = Window(1000)
    first_us = window.round_trip.timeout_us
    window.opened(sent(0, 0, 0))
    window.opened(sent(1, 1, 0))
    assert window.overdue(first_us - 1) is None
    again = [window.overdue(first_us) for _ in range(3)]
    assert [one.first_seq if one else None for one in again] == [0, 1, None]
    assert window.round_trip.timeout_us == 2 * first_us
    for _ in range(50):
        window.round_trip.measured(400_000)
    assert 1_000_000 <= window.round_trip.timeout_us < first_us


def test_batch_sent_twice_measures_nothing() -> None:
    window = Window(1000)
    window.opened(sent(0, 0, 0))
    before_us = window.round_trip.timeout_us
    window._sent[EPOCH, 0].tries = 2  # as the uplink notes it
    window.receipted(EPOCH, 0, 0, 5)
    assert window.round_trip.timeout_us == before_us


def test_timeout_has_a_cap() -> None:
    trip = RoundTrip()
    for day in range(30):
        trip.expired(day * 86_400_000_000)
    assert trip.timeout_us == 60_000_000


def test_batches_lost_together_come_again_together() -> None:
    window = Window(1000)
    timeout_us = window.round_trip.timeout_us
    for number, at_us in enumerate((0, 50_000, 300_000)):
        window.opened(sent(number, number, at_us))
    for number, at_us in enumerate((0, 50_000, 300_000)):
        again = window.overdue(at_us + timeout_us)
        assert again is not None
        assert again.first_seq == number
    assert window.round_trip.timeout_us == 2 * timeout_us
    assert window.next_expiry_us() == 3 * timeout_us


def test_a_way_grown_longer_makes_what_is_on_it_wait_longer() -> None:
    window = Window(1000)
    window.opened(sent(0, 0, 0))
    for _ in range(50):
        window.round_trip.measured(20_000_000)
    assert window.next_expiry_us() == window.round_trip.timeout_us > 20_000_000


def test_forgetting_the_link_frees_everything() -> None:
    window = Window(50)
    window.opened(sent(0, 9, 0))
    window.forget()
    assert window.is_open
    assert not window.holds(EPOCH, 0, 9)
    assert window.next_expiry_us() is None


def test_an_alert_lost_on_a_new_link_waits_as_long_as_was_measured_not_as_the_old_link_was_silent() -> None:
    window = Window(1000)
    window.round_trip.measured(400_000)
    measured_us = window.round_trip.timeout_us
    for minute in range(10):
        window.round_trip.expired(minute * 60_000_000)
    assert window.round_trip.timeout_us == 60_000_000
    window.forget()
    window.opened(sent(0, 9, 600_000_000))
    assert window.next_expiry_us() == 600_000_000 + measured_us < 602_000_000
    assert window.overdue(600_000_000 + measured_us) is not None
    assert window.round_trip.timeout_us == 2 * measured_us, "on the new link it doubles from the start"


def test_no_second_copy_leaves_while_a_slow_link_may_still_carry_the_first() -> None:
    window = Window(1_000_000)
    large, behind = sent(0, 9, 0, size=100_000), sent(10, 19, 0, size=100)
    window.opened(large)
    window.opened(behind)
    assert window.overdue(49_000_000) is None
    window.carried(large)
    assert window.overdue(49_000_000) is large, "the broker had it for longer than a receipt takes"
    window.carried(large)
    window.opened(later := sent(20, 29, 60_000_000))
    assert later.way_us == 100_000, "only its own bytes and those behind the large one are under way"
    window.receipted(EPOCH, 0, 29, 61_000_000)
    window.carried(large)
    window.opened(last := sent(30, 39, 62_000_000))
    assert last.way_us == 50_000


def test_a_retry_does_not_renew_how_long_a_batch_waits() -> None:
    window = Window(1000)
    assert window.waiting_since_us() is None
    window.opened(sent(0, 9, 5))
    assert window.overdue(10_000_000) is not None
    assert window.waiting_since_us() == 5

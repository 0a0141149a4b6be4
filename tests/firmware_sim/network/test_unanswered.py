from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.network.mllp import Answer, AnswerReader
from firmware_sim.network.unanswered import Unanswered, Verdict


def filled(count: int, **limits: int) -> Unanswered:
    queue = Unanswered(**limits)
    for number in range(count):
        queue.add(f"m{number}", f"message {number}".encode())
    return queue


def test_window_limits_what_is_on_its_way() -> None:
    queue = filled(5, window=2)
    assert queue.due(0) == [b"message 0", b"message 1"]
    assert queue.due(1) == []
    assert queue.answer("m0", "AA") is Verdict.ACCEPTED
    assert queue.due(2) == [b"message 2"]


def test_timed_out_is_due_again_and_an_answer_ends_it() -> None:
    queue = filled(1)
    queue.due(0)
    assert queue.due(2_999_999) == []
    assert queue.due(3_000_000) == [b"message 0"]
    assert queue.answer("m0", "AA") is Verdict.ACCEPTED
    assert queue.answer("m0", "AA") is Verdict.UNKNOWN
    assert queue.due(9_000_000) == []
    assert queue.counters.resent == 1


def test_lost_connection_makes_all_due_oldest_first() -> None:
    queue = filled(3)
    queue.due(0)
    queue.answer("m1", "AA")
    queue.connection_lost()
    assert queue.due(1) == [b"message 0", b"message 2"]


def test_refused_waits_and_is_given_up_after_three_tries() -> None:
    queue = filled(1)
    verdicts = []
    for attempt in range(3):
        assert queue.due(attempt * 3_000_000) == [b"message 0"]
        verdicts.append(queue.answer("m0", "AR"))
    assert verdicts == [Verdict.REFUSED_FOR_NOW, Verdict.REFUSED_FOR_NOW, Verdict.REFUSED]
    assert len(queue) == 0


def test_commit_answer_that_was_not_asked_for_promises_nothing() -> None:
    queue = filled(1)
    assert queue.answer("m0", "CA") is Verdict.UNKNOWN
    assert len(queue) == 1


def test_oldest_goes_when_memory_is_full() -> None:
    queue = filled(3, memory_bytes=27)
    assert queue.add("m3", b"message 3") == ["m0"]
    assert queue.counters.discarded == 1


@given(st.lists(st.integers(1, 40), max_size=30), st.binary(max_size=20))
def test_answers_are_found_however_the_bytes_are_cut(cuts: list[int], noise: bytes) -> None:
    noise = noise.replace(b"\x1c", b"").replace(b"\x0b", b"")
    sent = [Answer("AA", "a-1"), Answer("AE", "a-2"), Answer("AR", "a-3")]
    frames = [b"\x0bMSH|^~\\&|R\rMSA|%s|%s\r\x1c\x0d" % (code.encode(), own.encode()) for code, own in sent]
    stream = noise + noise.join(frames)
    reader, heard = AnswerReader(), []
    for cut in cuts:
        heard += reader.feed(stream[:cut])
        stream = stream[cut:]
    heard += reader.feed(stream)
    assert heard == sent


def test_endless_bytes_without_an_answer_are_not_kept() -> None:
    reader = AnswerReader()
    for _ in range(100):
        reader.feed(b"x" * 4096)
    assert reader.feed(b"\x0bMSH|^~\\&|R\rMSA|AA|a\r\x1c\x0d") == [Answer("AA", "a")]

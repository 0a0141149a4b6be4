import itertools

from hypothesis import given
from hypothesis import strategies as st

from wire.runs import RunSet

runs = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), runs), max_size=40)


def numbers(found: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in found for number in range(first, last + 1)}


@given(steps)
def test_run_set_behaves_as_a_set_of_integers(steps: list[tuple[str, tuple[int, int]]]) -> None:
    runs, model = RunSet(), set[int]()
    for step, (first, last) in steps:
        span = set(range(first, last + 1))
        assert numbers(runs.missing(first, last)) == span - model
        assert runs.intersects(first, last) == bool(span & model)
        if step == "add":
            assert numbers(runs.add(first, last)) == span - model
            model |= span
        else:
            assert numbers(runs.remove(first, last)) == span & model
            model -= span
        assert numbers(list(runs)) == model
        assert runs.count() == len(model)
        listed = list(runs)
        assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(listed))

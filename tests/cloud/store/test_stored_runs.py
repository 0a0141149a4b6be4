"""Merged runs against a plain set, through every restart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloud.store.runs import StoredRuns


class Runs(RuleBasedStateMachine):
    """The table is a dict; the model is a set of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.model: set[int] = set()
        self.committed: set[int] = set()
        self.table: dict[int, int] = {}
        self.runs = StoredRuns()

    @rule(first=st.integers(-20, 60), length=st.integers(1, 12))
    def add(self, first: int, length: int) -> None:
        asked = set(range(first, first + length))
        fresh = [seq for low, high in self.runs.add(first, first + length - 1) for seq in range(low, high + 1)]
        assert fresh == sorted(asked - self.model)
        self.model |= asked

    @rule()
    def commit(self) -> None:
        written, deleted = self.runs.take_changes()
        for first in deleted:
            del self.table[first]
        self.table.update(written)
        self.committed = set(self.model)

    @rule()
    def restart(self) -> None:
        self.commit()
        self.runs = StoredRuns(self.table.items())

    @invariant()
    def runs_are_merged(self) -> None:
        runs = sorted(self.table.items())
        assert {seq for first, last in runs for seq in range(first, last + 1)} == self.committed
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(runs))


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

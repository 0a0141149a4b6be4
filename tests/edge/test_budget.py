from hypothesis import given
from hypothesis import strategies as st

from edge.budget import Budget

HOUR_US = 3_600_000_000


def test_no_limit_allows_everything() -> None:
    budget = Budget(None)
    budget.spend(1 << 40, 0)
    assert budget.allows(0, backlog=True)


def test_backlog_leaves_half_to_what_is_live() -> None:
    budget = Budget(36_000)  # 3,600 bytes may be saved up
    assert budget.allows(0, backlog=True)
    budget.spend(1_800, 0)
    assert not budget.allows(0, backlog=True)
    assert budget.allows(0, backlog=False)
    budget.spend(2_000, 0)
    assert not budget.allows(0, backlog=False)
    # 200 bytes overdrawn at 10 bytes/s.
    assert not budget.allows(20_000_000, backlog=False)
    assert budget.allows(20_100_001, backlog=False)


@given(
    st.integers(1_000, 10_000_000),
    st.lists(st.tuples(st.integers(0, 60_000_000), st.integers(1, 50_000)), max_size=300),
)
def test_no_more_than_the_budget_leaves(per_h: int, offers: list[tuple[int, int]]) -> None:
    budget, now_us, spent, largest = Budget(per_h), 0, 0, 0
    for waited_us, size in offers:
        now_us += waited_us
        if budget.allows(now_us, backlog=False):
            budget.spend(size, now_us)
            spent, largest = spent + size, max(largest, size)
    assert spent <= per_h * (now_us / HOUR_US + 0.1) + largest

"""However much fails, retries stay a fraction of the load; they wait, and none is dropped."""

import heapq
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.model import ErrorClass, Fail, Retry
from batchrunner.policy.budget import PER_SECOND, SHARE, WINDOW_S, RetryBudget
from batchrunner.policy.judge import Judge, Lesson
from batchrunner.settings import default_rules
from builders import attempt, failure

RESERVE = PER_SECOND * WINDOW_S


def busiest(instants: list[float], span_s: float = WINDOW_S) -> int:
    """Return the most of *instants* in any span of whole seconds."""
    by_second = Counter(int(at // 1) for at in instants)
    return max(sum(by_second[second + i] for i in range(int(span_s))) for second in by_second)


def test_a_few_failures_wait_for_nothing_but_their_rule() -> None:
    budget = RetryBudget()
    assert [budget.due(100.0, 100.0 + n / 50) for n in range(RESERVE)] == [100.0 + n / 50 for n in range(RESERVE)]


def test_beyond_the_reserve_they_wait_and_go_on_at_its_pace() -> None:
    budget = RetryBudget()
    instants = [budget.due(100.0, 100.5) for _ in range(10 * RESERVE)]
    assert instants == sorted(instants)
    assert busiest(instants) == RESERVE
    assert max(instants) == pytest.approx(100.5 + 9 * WINDOW_S)
    assert {at % 1 for at in instants} == {0.5}, "what chance has spread within a second stays spread"


def test_the_more_is_sent_the_more_may_be_repeated() -> None:
    budget = RetryBudget()
    for n in range(5000):
        budget.sent(100.0 + n / 500)
    instants = [budget.due(109.9, 110.0) for _ in range(3000)]
    assert busiest(instants) == RESERVE + SHARE * 5000
    later = RetryBudget()
    for n in range(5000):
        later.sent(n / 500)
    assert busiest([later.due(109.9, 110.0) for _ in range(3000)]) == RESERVE, "what was sent long ago permits nothing"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.floats(0, 60), st.integers(1, 60)), max_size=80),
    st.floats(-1e6, 1e6),
)
def test_nothing_is_due_early_and_no_window_holds_too_much(
    happenings: list[tuple[float, bool, float, int]], now: float
) -> None:
    budget, instants, fresh = RetryBudget(), [], 0
    for passed, is_fresh, wait, times in happenings:
        now += passed
        for _ in range(times):
            if is_fresh:
                budget.sent(now)
                fresh += 1
            else:
                instants.append(budget.due(now, now + wait))
                assert instants[-1] >= now + wait
    if instants:
        assert busiest(instants) <= RESERVE + SHARE * fresh


def test_what_it_remembers_does_not_grow() -> None:
    budget = RetryBudget()
    for second in range(20_000):
        budget.sent(second)
        budget.due(second, second + 3.0)
    assert len(budget._due) + len(budget._windows) + len(budget._next) + len(budget._fresh) < 300


def played(*, excused: bool = False) -> tuple[list[float], list[float], Counter[int]]:
    """A server that fails everything, and 100 new requests a second for 30 s: return fresh calls, retries, calls by row."""
    judge = Judge(default_rules(), accept=frozenset(), official=True, rng=random.Random(4))
    due = [(n / 100, n, 0) for n in range(3000)]
    fresh: list[float] = []
    again: list[float] = []
    calls = Counter[int]()
    while due:
        now, seq, failures = heapq.heappop(due)
        (again if failures else fresh).append(now)
        calls[seq] += 1
        tried = attempt(seq, calls[seq], failures={ErrorClass.SERVER: failures} if failures else {})
        _, decision = judge.judge(tried, failure(), now, Lesson())
        if isinstance(decision, Retry):
            assert decision.at >= now
            heapq.heappush(due, (decision.at, seq, failures + 1))
        else:
            assert decision == Fail()
    return fresh, again, calls


def test_a_mass_of_failures_does_not_multiply_the_load_and_costs_no_request_an_attempt() -> None:
    fresh, again, calls = played()
    assert busiest(fresh) == 1000
    assert busiest(again) <= RESERVE + SHARE * 1000
    while_it_lasts = [at for at in again if at < 30]
    assert len(while_it_lasts) <= (RESERVE + SHARE * 1000) / WINDOW_S * 30 + RESERVE
    assert set(calls.values()) == {default_rules()[ErrorClass.SERVER].attempts}, "they wait; none is dropped"
    assert max(later - earlier for earlier, later in pairwise(sorted(fresh + again))) < 5, "and go on steadily"

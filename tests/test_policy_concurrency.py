"""How many may be in flight: what rate and latency need, or what calm has permitted so far."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.policy.concurrency import MARGIN, OPENING, PER_S, Concurrency

CAP, CAUTIOUS = 500, 50

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answered", "refused", "at once", "restart", "permit"]),
        st.floats(0.0, 60.0),
        st.floats(0.0, 60.0),
        st.integers(1, 600),
    ),
    max_size=60,
)


def answered(concurrency: Concurrency, count: int, latency_s: float, *, every_s: float = 0.5) -> float:
    """Let so many answers come; return when the last one did."""
    for n in range(count):
        concurrency.answered(n * every_s, n * every_s - latency_s)
    return (count - 1) * every_s


def test_without_a_rate_it_begins_with_five_and_takes_more_every_second() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    assert concurrency.limit(100.0, math.inf) == OPENING
    assert concurrency.limit(102.0, math.inf) == OPENING + 2 * PER_S
    assert concurrency.limit(1000.0, math.inf) == CAUTIOUS


def test_without_a_rate_each_answer_permits_one_more() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    assert concurrency.limit(0.0, math.inf) == OPENING
    for n in range(10):
        concurrency.answered(0.0, 0.0)
        assert concurrency.limit(0.0, math.inf) == OPENING + n + 1


def test_after_a_refusal_it_grows_slowly() -> None:
    """One more per round of answers, and no more by the mere passing of time."""
    concurrency = Concurrency(CAP, CAUTIOUS)
    concurrency.limit(0.0, math.inf)
    concurrency.refused(4.0, 3.0, 20, at_once=False)
    assert concurrency.limit(4.0, math.inf) == 16
    assert concurrency.limit(400.0, math.inf) == 16
    for _ in range(17):
        concurrency.answered(5.0, 4.5)
    assert concurrency.limit(5.0, math.inf) == 17


def test_refusals_of_one_burst_cut_once() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    assert concurrency.limit(0.0, math.inf) == OPENING
    for n in range(50):
        concurrency.refused(10.0, 9.0, 50 - n, at_once=True)
    assert concurrency.limit(10.0, 1000.0) == concurrency.limit(10.0, math.inf) == 40
    concurrency.refused(11.0, 10.5, 40, at_once=True)
    assert concurrency.limit(11.0, 1000.0) == 32


def test_with_a_rate_it_is_the_cap_until_latencies_are_believed_and_littles_law_then() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    assert concurrency.limit(0.0, 10.0) == CAP
    answered(concurrency, 50, 4.0)
    assert concurrency.limit(1000.0, 10.0) == CAP, "fifty answers are too few"
    concurrency = Concurrency(CAP, CAUTIOUS)
    answered(concurrency, 200, 4.0, every_s=0.1)
    assert concurrency.limit(19.9, 10.0) == CAP, "the first answers are the quick ones"
    concurrency = Concurrency(CAP, CAUTIOUS)
    now = answered(concurrency, 200, 4.0)
    assert concurrency.limit(now, 10.0) == math.floor(MARGIN * 10.0 * 4.0 + OPENING)
    assert concurrency.limit(now, 1000.0) == CAP


def test_it_follows_answers_that_take_longer() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    for n in range(1000):
        concurrency.answered(n * 0.5, n * 0.5 - (2.0 if n < 300 else 8.0))
    assert concurrency.limit(500.0, 10.0) == pytest.approx(MARGIN * 80 + OPENING, abs=2)


def test_in_a_burst_everything_up_to_the_cap_may_be_in_flight() -> None:
    assert Concurrency(CAP, CAUTIOUS).limit(0.0, None) == CAP


def test_a_refusal_of_too_many_at_once_holds_for_twenty_seconds_and_loosens_by_answers_then() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    concurrency.refused(100.0, 99.0, 100, at_once=True)
    for _ in range(500):
        concurrency.answered(119.0, 118.0)
    assert concurrency.limit(119.0, 1000.0) == 80
    for _ in range(81):
        concurrency.answered(121.0, 120.0)
    assert concurrency.limit(121.0, 1000.0) == 81


def test_a_refusal_of_the_rate_leaves_the_slots_alone_where_the_rate_is_known() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    concurrency.refused(100.0, 99.0, 100, at_once=False)
    assert concurrency.limit(100.0, 1000.0) == CAP


def test_after_an_outage_it_begins_anew() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    concurrency.limit(0.0, math.inf)
    assert concurrency.limit(8.0, math.inf) == 45
    concurrency.restart()
    assert concurrency.limit(8.0, math.inf) == OPENING
    assert concurrency.limit(9.0, math.inf) == OPENING + PER_S


def test_what_the_user_permits_anew_holds_at_once() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    concurrency.permit(400, 400)
    assert concurrency.limit(0.0, math.inf) == 400
    concurrency.permit(3, 3)
    assert concurrency.limit(0.0, math.inf) == concurrency.limit(0.0, 1000.0) == concurrency.limit(0.0, None) == 3


def test_a_change_of_other_limits_permits_no_more_at_once() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    before = concurrency.limit(0.0, math.inf)
    concurrency.permit(CAP, CAUTIOUS)
    assert concurrency.limit(0.0, math.inf) == before


def test_what_was_refused_is_not_forgotten_because_the_user_permits_more() -> None:
    concurrency = Concurrency(CAP, CAUTIOUS)
    concurrency.refused(10.0, 9.0, 10, at_once=True)
    concurrency.permit(400, 400)
    assert concurrency.limit(10.0, 1000.0) == 8
    assert concurrency.limit(10.0, math.inf) <= 8


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), _STEPS, st.floats(0.001, 1e5))
def test_it_is_always_from_one_to_the_cap(
    cap: int, cautious: int, steps: list[tuple[str, float, float, int]], rate: float
) -> None:
    concurrency, now = Concurrency(cap, min(cap, cautious)), 0.0
    for what, wait_s, ago_s, number in steps:
        now += wait_s
        match what:
            case "answered":
                concurrency.answered(now, now - ago_s)
            case "restart":
                concurrency.restart()
            case "permit":
                concurrency.permit(number, min(number, cautious))
            case _:
                concurrency.refused(now, now - ago_s, number, at_once=what == "at once")
        assert 1 <= concurrency.limit(now, rate) <= concurrency.cap
        assert 1 <= concurrency.limit(now, None) <= concurrency.cap
        assert 1 <= concurrency.limit(now, math.inf) <= concurrency.cautious_cap

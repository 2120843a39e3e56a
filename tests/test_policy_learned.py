"""The learned rate: cut once by refusals, held, and climbing back to its ceiling, never above it."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.policy.learned import CUT, HOLD_S, SPAN_S, Accepted, LearnedRate

_CEILINGS = st.floats(0.01, 1e5) | st.just(math.inf)
#: Seconds until the next refusal, how long ago it was sent, and what came through meanwhile.
_REFUSALS = st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 30.0), st.floats(0.01, 1e5)), max_size=20)


def cut_at(now: float, ceiling: float = 100.0, accepted: float = 50.0) -> LearnedRate:
    learned = LearnedRate(ceiling)
    assert learned.refused(now, now - 1.0, accepted)
    return learned


def test_without_a_refusal_it_is_its_ceiling() -> None:
    learned = LearnedRate(100.0)
    assert learned.at(0.0) == learned.at(1e6) == 100.0
    assert not learned.is_cut(0.0)


def test_a_refusal_cuts_to_nine_tenths_of_what_came_through() -> None:
    learned = cut_at(10.0)
    assert learned.at(10.0) == CUT * 50.0
    assert learned.is_cut(10.0)


def test_what_came_through_is_no_more_than_the_rate_was() -> None:
    """Sends that were caught up in a moment are no measure of what the server permits."""
    assert cut_at(10.0, accepted=5000.0).at(10.0) == CUT * 100.0


def test_refusals_of_what_was_sent_before_the_cut_cut_no_further() -> None:
    learned = cut_at(10.0)
    for n in range(50):
        assert not learned.refused(10.0 + n / 10, 10.0 - n / 50, 1.0)
    assert learned.at(15.0) == CUT * 50.0
    assert learned.refused(15.0, 10.001, 30.0)
    assert learned.at(15.0) == CUT * 30.0


def test_it_is_held_for_twenty_seconds_and_climbs_then() -> None:
    learned = cut_at(10.0)
    assert learned.at(10.0 + HOLD_S) == CUT * 50.0
    assert learned.at(10.0 + HOLD_S + 1.0) > CUT * 50.0
    assert learned.at(10.0 + HOLD_S + 60.0) == 100.0
    assert not learned.is_cut(10.0 + HOLD_S + 60.0)


def test_it_climbs_steadily_and_ever_more_steeply() -> None:
    learned = cut_at(0.0, accepted=1.0)
    rates = [learned.at(HOLD_S + n) for n in range(60)]
    steps = [after - before for before, after in pairwise(rates)]
    assert all(step > 0 for step in steps)
    assert steps == sorted(steps)


@pytest.mark.parametrize("ceiling", [100.0, math.inf])
def test_a_cut_after_a_cut_goes_on_from_where_the_climb_was(ceiling: float) -> None:
    learned = cut_at(0.0, ceiling)
    climbed = learned.at(HOLD_S + 10.0)
    assert learned.refused(HOLD_S + 10.0, HOLD_S + 9.0, 1e9)
    assert learned.at(HOLD_S + 10.0) == pytest.approx(CUT * climbed)


def test_where_nobody_named_a_ceiling_it_is_unlimited_until_the_first_refusal_and_grows_for_ever() -> None:
    learned = LearnedRate()
    assert learned.at(0.0) == math.inf
    assert not learned.is_cut(0.0)
    learned.refused(10.0, 9.0, 50.0)
    assert learned.at(10.0) == 45.0
    assert learned.is_cut(1e6)
    assert learned.at(10.0 + HOLD_S + 250.0) > 90.0
    assert math.isfinite(learned.at(1e9))


def test_a_lower_ceiling_holds_at_once_and_a_higher_one_does_not_forgive_a_cut() -> None:
    learned = cut_at(0.0)
    learned.ceiling = 20.0
    assert learned.at(0.0) == 20.0
    learned.ceiling = 1000.0
    assert learned.at(0.0) == CUT * 50.0


@hypothesis_settings(max_examples=300, deadline=None)
@given(_CEILINGS, _REFUSALS)
def test_it_is_never_above_its_ceiling_never_nothing_and_only_refusals_lower_it(
    ceiling: float, refusals: list[tuple[float, float, float]]
) -> None:
    learned, now = LearnedRate(ceiling), 0.0
    for wait_s, ago_s, accepted in refusals:
        before = learned.at(now)
        after = learned.at(now + wait_s)
        assert before <= after <= ceiling
        now += wait_s
        was_cut = learned.refused(now, now - ago_s, accepted)
        assert 0.0 < learned.at(now) <= ceiling
        assert learned.at(now) >= (0.02 * ceiling * (1 - 1e-9) if ceiling < math.inf else 0.0)
        if not was_cut:
            assert learned.at(now) == after
        elif ceiling == math.inf or CUT * after > 0.02 * ceiling:
            assert learned.at(now) < after
    assert learned.at(now + 1e7) == ceiling or ceiling == math.inf


# What came through.


def test_what_came_through_is_what_was_sent_in_the_last_three_seconds_less_what_was_refused() -> None:
    accepted = Accepted()
    for n in range(100):
        accepted.sent(n / 10)
    assert accepted.per_s(9.9) == pytest.approx(10.0, rel=0.05)
    for n in range(90, 96):
        accepted.refused(n / 10)
    assert accepted.per_s(9.9) == pytest.approx((31 - 6) / SPAN_S)


def test_in_the_first_seconds_it_is_measured_over_what_there_was() -> None:
    accepted = Accepted()
    for n in range(10):
        accepted.sent(5.0 + n / 10)
    assert accepted.per_s(6.0) == pytest.approx(10.0)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 5.0)), max_size=60))
def test_what_came_through_is_always_above_nothing_and_finite(steps: list[tuple[bool, float]]) -> None:
    accepted, now = Accepted(), 0.0
    for is_sent, pause in steps:
        now += pause
        if is_sent:
            accepted.sent(now)
        else:
            accepted.refused(now - pause)
        assert 1 / SPAN_S <= accepted.per_s(now) < math.inf

"""The ramp: from a tenth to the whole rate, evenly, and slower where the server says so."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.policy.ramp import FIRST, Ramp

_STEPS = st.lists(st.tuples(st.sampled_from(["begin", "slow", "same"]), st.floats(0.0, 100.0), st.floats(0.1, 120.0)))


def test_there_is_no_ramp_until_one_begins() -> None:
    ramp = Ramp()
    assert ramp.factor(0.0) == 1.0
    assert ramp.is_over(0.0)


def test_it_grows_evenly_from_a_tenth_to_the_whole() -> None:
    ramp = Ramp()
    ramp.begin(100.0, 30.0)
    assert [ramp.factor(100.0 + s) for s in (0, 10, 20, 30, 40)] == pytest.approx([0.1, 0.4, 0.7, 1.0, 1.0])


def test_a_ramp_under_way_is_not_begun_anew_unless_the_new_one_takes_longer() -> None:
    ramp = Ramp()
    ramp.begin(100.0, 30.0)
    ramp.begin(120.0, 10.0)
    assert ramp.factor(120.0) == pytest.approx(0.1), "both end together, so the careful one counts"
    ramp = Ramp()
    ramp.begin(100.0, 30.0)
    ramp.begin(110.0, 10.0)
    assert ramp.factor(110.0) == pytest.approx(0.4)
    ramp.begin(110.0, 60.0)
    assert ramp.factor(110.0) == FIRST


def test_a_server_that_refuses_the_growth_gets_half_the_pace_and_twice_the_time() -> None:
    ramp = Ramp()
    ramp.begin(100.0, 30.0)
    ramp.slow(120.0)
    assert ramp.factor(120.0) == pytest.approx(0.35)
    assert not ramp.is_over(179.0)
    assert ramp.factor(180.0) == 1.0
    ramp.slow(150.0)
    ramp.slow(150.0)
    ramp.slow(150.0)
    assert ramp.factor(150.0) == FIRST
    assert ramp.is_over(270.0), "two minutes are the most"


def test_without_a_ramp_such_a_refusal_begins_one() -> None:
    ramp = Ramp()
    ramp.slow(100.0)
    assert ramp.factor(100.0) == pytest.approx(0.5)
    assert ramp.is_over(160.0)


def test_another_full_rate_changes_the_share_and_not_the_pace() -> None:
    ramp = Ramp()
    ramp.rescale(100.0, 0.5)
    assert ramp.factor(100.0) == pytest.approx(0.5)
    assert ramp.factor(110.0) == pytest.approx(0.8), "as steep as at the beginning of a run"
    ramp.rescale(110.0, 2.0)
    assert ramp.factor(110.0) == 1.0
    ramp.rescale(110.0, 0.01)
    assert ramp.factor(110.0) == FIRST


def test_a_ramp_that_was_slowed_stays_slow_when_the_full_rate_changes() -> None:
    ramp = Ramp()
    ramp.slow(100.0)
    ramp.rescale(100.0, 0.8)
    assert ramp.factor(100.0) == pytest.approx(0.4)
    assert ramp.factor(160.0) == pytest.approx(0.9), (
        "from a half to the whole takes a minute, so half of that takes one"
    )


@hypothesis_settings(max_examples=200, deadline=None)
@given(_STEPS)
def test_it_is_never_below_a_tenth_never_above_one_only_grows_and_ends(steps: list[tuple[str, float, float]]) -> None:
    ramp, now = Ramp(), 0.0
    for what, wait_s, length_s in steps:
        before = ramp.factor(now)
        now += wait_s
        assert before <= ramp.factor(now) + 1e-9
        if what == "begin":
            ramp.begin(now, length_s)
        elif what == "slow":
            ramp.slow(now)
        else:
            factor = ramp.factor(now)
            ramp.rescale(now, 1.0)
            assert ramp.factor(now) == pytest.approx(factor)
        assert FIRST <= ramp.factor(now) <= 1.0
        assert FIRST <= ramp.factor(now - 50.0) <= 1.0, "a clock that goes back does no harm"
        assert ramp.factor(now + 120.0) == 1.0

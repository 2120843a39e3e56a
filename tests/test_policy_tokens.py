"""The limits on tokens: whose figure holds, what is in flight when one appears, and what refusals teach."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.model import LimitKind, Quota
from batchrunner.policy.accounts import DEPTH_S, MINUTE_DEPTH_S
from batchrunner.policy.holdups import Reason
from batchrunner.policy.tokens import TokenLimit


def outputs(wanted: int | None = None) -> TokenLimit:
    return TokenLimit(LimitKind.OUTPUT_TOKENS, wanted)


def offer(limit: TokenLimit, figure: int, sent_at: float) -> bool:
    return limit.offer(Quota(figure, None), sent_at, sent_at)


def test_without_a_figure_everything_is_permitted() -> None:
    limit = outputs()
    limit.reserve(0.0, 10**9)
    assert limit.admit_at(0.0, 10**9) == 0.0
    assert limit.per_minute is None
    assert not limit.is_impossible(10**9)
    assert limit.reason is Reason.OUTPUT_TOKENS


def test_what_is_in_flight_when_the_first_figure_comes_is_reserved_of_it() -> None:
    limit = outputs()
    limit.reserve(0.0, 300.0)
    limit.reserve(0.0, 400.0)
    limit.settle(0.0, 400.0, 50.0)
    assert offer(limit, 6000, 1.0)
    assert limit.admit_at(1.0, 200.0) == 1.0
    assert limit.admit_at(1.0, 201.0) == pytest.approx(1.01)
    limit.settle(1.0, 300.0, 0.0)
    assert limit.admit_at(1.0, 500.0) == 1.0


def test_the_lower_figure_holds_and_a_higher_one_is_believed_after_three() -> None:
    limit = outputs(6000)
    assert offer(limit, 12_000, 1.0)
    assert limit.per_minute == 6000
    assert offer(limit, 3000, 2.0)
    assert limit.per_minute == 3000
    assert [offer(limit, 4000, at) for at in (3.0, 4.0, 5.0)] == [False, False, True]
    assert limit.per_minute == 4000
    assert not offer(limit, 5, 4.5), "an older answer tells of an older limit"


def test_only_more_than_a_whole_minute_is_impossible() -> None:
    limit = outputs(6000)
    assert not limit.is_impossible(6000)
    assert limit.is_impossible(6000.5)


def test_a_change_of_the_users_figure_keeps_the_debt() -> None:
    limit = outputs(6000)
    limit.reserve(0.0, 1500.0)
    limit.retune(0.0, 600)
    assert limit.admit_at(0.0, 0.0) == pytest.approx(1000 / 10)


def test_the_depth_chosen_holds_for_an_account_that_is_opened_later() -> None:
    limit = outputs()
    limit.deepen(0.0, MINUTE_DEPTH_S)
    offer(limit, 6000, 1.0)
    assert limit.admit_at(1.0, 600.0) == pytest.approx(2.0), "it begins with five seconds' worth all the same"
    assert limit.admit_at(61.0, 6000.0) == 61.0
    limit.deepen(61.0, DEPTH_S)
    limit.reserve(61.0, 500.0)
    assert limit.admit_at(61.0, 10**6) == pytest.approx(66.0), "of more than that nothing is left"


def test_a_refusal_cuts_the_refill_to_what_was_used_but_never_deeply_at_once() -> None:
    limit = outputs(6000)
    assert limit.refused(10.0, 9.0, used_per_s=90.0)
    assert limit.is_cut(10.0)
    limit.reserve(10.0, 81.0 * DEPTH_S)
    assert limit.admit_at(10.0, 81.0) == pytest.approx(11.0)
    assert not limit.refused(11.0, 9.5, used_per_s=1.0), "sent before the cut"
    assert limit.refused(12.0, 11.0, used_per_s=0.0)
    limit = outputs(6000)
    limit.refused(10.0, 9.0, used_per_s=0.0)
    limit.reserve(10.0, 63.0 * DEPTH_S)
    assert limit.admit_at(10.0, 63.0) == pytest.approx(11.0), "tokens are counted in lumps"


def test_after_a_cut_the_refill_climbs_back_by_itself() -> None:
    limit = outputs(6000)
    limit.refused(0.0, -1.0, used_per_s=50.0)
    assert limit.is_cut(20.0)
    limit.admit_at(300.0, 0.0)
    assert not limit.is_cut(300.0)
    limit.reserve(310.0, 600.0)
    assert limit.admit_at(310.0, 0.0) == pytest.approx(311.0)


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "settle", "offer", "retune", "auto", "refused", "deepen"]),
        st.floats(-5.0, 60.0),
        st.integers(1, 50_000),
    ),
    max_size=80,
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.none() | st.integers(1, 10**6), _STEPS)
def test_whatever_happens_the_next_start_has_an_instant(
    wanted: int | None, steps: list[tuple[str, float, int]]
) -> None:
    limit, now, asked, out = outputs(wanted), 0.0, 0.0, [0.0]
    for what, wait_s, number in steps:
        now += wait_s
        match what:
            case "reserve":
                limit.reserve(now, number)
                out.append(float(number))
            case "settle":
                limit.settle(now, out.pop() if len(out) > 1 else 0.0, number)
            case "offer":
                asked += 1.0
                limit.offer(Quota(number, None), now, asked)
            case "retune" | "auto":
                limit.retune(now, number if what == "retune" else None)
            case "refused" if limit.per_minute is not None:
                limit.refused(now, now - 1.0, number / 60)
            case "deepen":
                limit.deepen(now, DEPTH_S if number % 2 else MINUTE_DEPTH_S)
            case _:
                pass
        assert now <= limit.admit_at(now, number) < math.inf

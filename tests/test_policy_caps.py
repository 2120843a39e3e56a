"""The caps on a run's money and time, and the percentile that the latter goes by."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.policy.last_start import LastStart
from batchrunner.policy.purse import Purse
from batchrunner.policy.recent import Recent


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=60),
    st.integers(1, 20),
    st.floats(0, 1, exclude_min=True),
)
def test_a_percentile_is_the_nearest_rank_of_the_latest(figures: list[float], size: int, share: float) -> None:
    recent = Recent(size)
    for figure in figures:
        recent.note(figure)
    latest = sorted(figures[-size:])
    assert len(recent) == len(latest)
    assert recent.largest == latest[-1]
    assert recent.percentile(share) == latest[math.ceil(share * len(latest)) - 1]


def test_what_is_held_leaves_less_for_the_next_call() -> None:
    purse = Purse(1.0, spent_usd=0.5)
    assert purse.fits(0.5)
    purse.hold(0.3)
    assert not purse.fits(0.25)
    purse.settle(0.3, 0.1)
    assert purse.fits(0.25)
    assert purse.spent_usd == pytest.approx(0.6)


def test_a_call_of_which_nobody_knows_what_it_cost_counts_as_what_was_held() -> None:
    purse = Purse(1.0)
    purse.hold(0.4)
    purse.settle(0.4, None)
    assert purse.spent_usd == 0.4
    assert (purse.in_flight, purse.held_usd) == (0, 0.0)


@settings(max_examples=200, deadline=None)
@given(st.integers(), st.floats(0.01, 100), st.integers(1, 50))
def test_a_purse_is_overdrawn_by_no_more_than_the_calls_cost_beyond_what_was_held(
    seed: int, cap_usd: float, slots: int
) -> None:
    """Whatever the order of sends and answers; and as long as nothing costs more than was held, it is not at all."""
    rng = random.Random(seed)
    flying: list[float] = []
    purse, beyond = Purse(cap_usd), 0.0
    for _ in range(300):
        need = rng.uniform(0, cap_usd / 10)
        if len(flying) < slots and purse.fits(need):
            purse.hold(need)
            flying.append(need)
        elif flying:
            held = flying.pop(rng.randrange(len(flying)))
            cost = held * rng.choice((0.0, 0.5, 1.0, 1.5))
            beyond += max(0.0, cost - held)
            purse.settle(held, cost)
        assert purse.in_flight == len(flying)
        assert purse.held_usd == pytest.approx(sum(flying), abs=1e-9)
        assert purse.spent_usd + purse.held_usd <= cap_usd + beyond + 1e-9


def test_the_last_call_goes_out_so_early_that_its_answer_comes_in_time() -> None:
    last = LastStart(began=1000.0, duration_s=60.0)
    for _ in range(95):
        last.answered(4.0)
    for _ in range(5):
        last.answered(50.0)
    assert last.at == 1056.0


def test_before_anything_was_answered_a_tenth_of_the_time_is_kept_for_the_last_call() -> None:
    assert LastStart(began=0.0, duration_s=60.0).at == 54.0


def test_calls_that_take_longer_than_the_whole_time_end_it_at_once_and_not_before_it_began() -> None:
    last = LastStart(began=10.0, duration_s=5.0)
    last.answered(80.0)
    assert last.at == 10.0

"""Ranges from samples: do they hold the truth as often as they say?"""

import math
import random
from collections.abc import Callable
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.policy.intervals import Range, mean, share


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_stays_within_nothing_and_everything(case: tuple[int, int]) -> None:
    hits, draws = case
    found = share(hits, draws)
    assert 0 <= found.low <= found.likely <= found.high <= 1
    assert found.likely == hits / draws


def test_nothing_drawn_says_nothing() -> None:
    assert share(0, 0) == (0.0, 0.0, 1.0)
    assert mean([], [], 0.0, 100) == (0.0, 0.0, math.inf)
    assert mean([3.0], [1.0], 1.0, 100) == (0.0, 3.0, math.inf)


def test_whoever_has_drawn_everything_knows_it() -> None:
    assert mean([1.0, 2.0, 6.0], [1.0, 1.0, 1.0], 1.0, 3) == pytest.approx((3.0, 3.0, 3.0))


def test_what_depends_on_the_size_follows_the_mean_size_of_the_whole() -> None:
    sizes = [float(n) for n in range(1, 41)]
    found = mean([2 * size for size in sizes], sizes, 100.0, 10_000)
    assert found == pytest.approx((200.0, 200.0, 200.0))


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(1, 1e6)), min_size=2, max_size=60),
    st.floats(1, 1e6),
    st.integers(1, 10**7),
)
def test_a_range_is_in_order_and_not_below_nothing(draws: list[tuple[float, float]], size: float, more: int) -> None:
    values, sizes = [value for value, _ in draws], [size for _, size in draws]
    found = mean(values, sizes, size, len(draws) + more)
    assert found.low >= 0
    assert found.low <= found.high
    assert found.likely <= found.high


SHAPES: dict[str, Callable[[random.Random, float], float]] = {
    "even": lambda rng, _: rng.uniform(50, 150),
    "skewed": lambda rng, _: rng.lognormvariate(5, 0.7),
    "by size": lambda rng, size: 0.5 * size + rng.uniform(0, 50),
    "mostly nothing": lambda rng, _: rng.choice((0.0, 0.0, 0.0, 400.0)),
    "two kinds": lambda rng, _: rng.choice((20.0, 25.0, 300.0, 320.0)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_truth_is_in_the_range_nine_times_out_of_ten_at_least(shape: str) -> None:
    rng = random.Random(shape)
    held, trials = 0, 300
    for _ in range(trials):
        sizes = [rng.lognormvariate(5, 0.5) for _ in range(1500)]
        values = [SHAPES[shape](rng, size) for size in sizes]
        drawn = rng.sample(range(1500), 40)
        found = mean([values[i] for i in drawn], [sizes[i] for i in drawn], fmean(sizes), 1500)
        held += found.low <= fmean(values) <= found.high
    assert held >= 0.9 * trials


def test_a_range_can_be_scaled() -> None:
    assert Range(1.0, 2.0, 3.0).times(2) == (2.0, 4.0, 6.0)


def test_what_is_left_of_a_small_job_is_held_as_often_as_that_of_a_large_one() -> None:
    """Half is drawn: the other half differs from it by an error of its own."""
    chance, held = random.Random(5), 0
    for _ in range(400):
        job = [chance.lognormvariate(0, 0.7) for _ in range(80)]
        drawn, left = job[:40], job[40:]
        found = mean(drawn, [1.0] * 40, 1.0, 80)
        held += found.low <= sum(left) / 40 <= found.high
    assert held >= 370

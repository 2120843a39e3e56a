"""Estimates before anything is sent, and projections from a sample: against whole jobs, and as arithmetic."""

from datetime import date
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.policy.intervals import GOOD_SPAN, draws_for
from batchrunner.prices import price_of
from batchrunner.prices.estimating import WIDEST, between, estimate
from batchrunner.prices.sizing import JobSize, likely_output
from estimates import Outcome, holds, measure
from shapes import SHAPES

PRICES = partial(price_of, today=date(2026, 11, 25))
HAIKU = "claude-haiku-4-5"


def size(
    count: int = 100, model: str = HAIKU, text: str = "x" * 400, max_tokens: int = 1000, extra: str = ""
) -> JobSize:
    made = JobSize()
    for _ in range(count):
        params = (
            f'{{"model":"{model}","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"{text}"}}]{extra}}}'
        )
        made.add(params, model, max_tokens)
    return made


# Whole jobs of twenty shapes, in virtual time.


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [measure(shape, 160, 70) for shape in SHAPES]


def test_estimates_and_projections_hold_what_twenty_jobs_cost_in_at_least_eighteen(outcomes: list[Outcome]) -> None:
    """Two shapes are beyond any guess: `max_tokens` that most answers hit, and one a thousand times too large."""
    missed = [one.name for one in outcomes if not holds(one.before, one.truth)]
    assert len(missed) <= 2, missed
    assert all(one.before.span <= WIDEST + 1e-9 for one in outcomes)
    missed = [one.name for one in outcomes if not holds(one.after, one.rest)]
    assert len(missed) <= 2, missed
    # Half of so small a job is no pilot of the size that some need; benchmarks/estimates.py has larger ones.
    wide = [one for one in outcomes if one.after.span > GOOD_SPAN]
    assert all(one.pilot > 70 for one in wide)
    assert sum(one.after.span <= GOOD_SPAN for one in outcomes) >= 12
    assert sum(one.after.span < one.before.span for one in outcomes) >= 19


# Before.


def test_an_estimate_gives_both_ways_and_the_worst_case() -> None:
    found = estimate(size(), PRICES)
    assert found.live_usd is not None
    assert found.batch_usd is not None
    assert found.batch_usd == pytest.approx(found.live_usd.times(0.5))
    assert found.requests == 100
    assert found.max_output_tokens == 100_000
    assert found.worst_usd == pytest.approx(100_000 * 5e-6 + found.input_tokens.high * 1e-6)
    assert found.input_tokens.low < 100 * 480 / 4 < found.input_tokens.high


def test_streams_and_fast_requests_are_not_half_as_dear_in_batches() -> None:
    for extra, model in ((',"stream":true', HAIKU), (',"speed":"fast"', "claude-opus-5")):
        found = estimate(size(model=model, extra=extra), PRICES)
        assert found.live_usd == found.batch_usd


def test_a_model_without_a_price_makes_the_cost_unknown_and_is_named() -> None:
    made = size(10)
    made.kinds.update(size(10, "gpt-5").kinds)
    found = estimate(made, PRICES)
    assert (found.live_usd, found.batch_usd, found.worst_usd, found.unpriced) == (None, None, None, ("gpt-5",))
    assert found.input_tokens.low > 0


def test_counted_tokens_narrow_the_input() -> None:
    long = size(text="x" * 40_000, max_tokens=100)
    guessed, counted = estimate(long, PRICES), estimate(long, PRICES, {HAIKU: 0.25})
    assert counted.input_tokens.span < 1.07 < guessed.input_tokens.span
    assert counted.live_usd is not None
    assert guessed.live_usd is not None
    assert counted.live_usd.span < guessed.live_usd.span


def test_a_shared_prefix_is_paid_for_once_and_read_by_the_rest() -> None:
    marker = ',"system":[{"type":"text","text":"' + "y" * 20_000 + '","cache_control":{"type":"ephemeral"}}]'
    model = "claude-opus-5-5"
    marked = estimate(size(1000, model, extra=marker, max_tokens=10), PRICES)
    plain = estimate(size(1000, model, text="y" * 20_400, max_tokens=10), PRICES)
    assert marked.live_usd is not None
    assert plain.live_usd is not None
    assert marked.live_usd.low < 0.2 * plain.live_usd.low


def test_images_and_other_scripts_count_apart_from_plain_text() -> None:
    chinese = estimate(size(text="字" * 400), PRICES).input_tokens
    assert chinese.high / 100 > 600
    image = '{"type":"image","source":{"type":"base64","media_type":"image/png","data":"' + "A" * 400_000 + '"}}'
    made = JobSize()
    made.add(f'{{"model":"{HAIKU}","messages":[{image}]}}', HAIKU, 10)
    assert 300 < estimate(made, PRICES).input_tokens.low < estimate(made, PRICES).input_tokens.high < 3000


@given(st.floats(1, 300_000), st.floats(1, 300_000))
def test_who_permits_more_expects_more(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for less, more in zip(likely_output(low), likely_output(high), strict=True):
        assert 1 <= less <= more
    assert likely_output(high)[0] <= likely_output(high)[1] <= max(1, high)


# Ranges.


@given(st.floats(0.001, 1e6), st.floats(1, 100), st.floats(1.1, 10))
def test_a_range_is_drawn_in_around_its_middle(low: float, span: float, widest: float) -> None:
    whole = between(low, low * span)
    drawn = whole.drawn_in(widest)
    assert drawn.likely == pytest.approx(whole.likely)
    assert drawn.span <= max(widest, 1) * (1 + 1e-9)
    assert whole.low <= drawn.low * (1 + 1e-9)
    assert drawn.low <= drawn.likely * (1 + 1e-9) <= drawn.high * (1 + 2e-9)
    assert drawn.high <= whole.high * (1 + 1e-9)


@given(st.floats(0.001, 1e6), st.floats(1.4, 10), st.integers(2, 1000))
def test_a_range_that_is_too_wide_says_how_many_draws_would_do(low: float, span: float, draws: int) -> None:
    found = between(low, low * span)
    enough = draws_for(found, draws)
    assert enough > draws
    half = (found.high - found.low) / (found.high + found.low) * (draws / enough) ** 0.5
    assert (1 + half) / (1 - half) <= GOOD_SPAN * (1 + 1e-9)
    assert draws_for(between(low, low * 1.3), draws) == draws

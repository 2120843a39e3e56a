"""Estimates before anything is sent, and projections from a sample: against whole jobs, and as arithmetic."""

from dataclasses import replace
from datetime import date
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.prices import price_of
from batchrunner.prices.estimating import WIDEST, Range, estimate
from batchrunner.prices.projecting import GOOD_SPAN, Sampled, project
from batchrunner.prices.sizing import JobSize, Kind, likely_output
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
    assert all(one.pilot > 70 and one.projected.enough is not None for one in wide)
    assert sum(one.after.span <= GOOD_SPAN for one in outcomes) >= 12
    assert sum(one.after.span < one.before.span for one in outcomes) >= 19


# Before.


def test_an_estimate_gives_both_ways_and_the_worst_case() -> None:
    found = estimate(size(), PRICES)
    assert found.live_usd is not None
    assert found.batch_usd is not None
    assert found.batch_usd == pytest.approx((found.live_usd.low / 2, found.live_usd.high / 2))
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


# After a sample.

SAMPLES = st.lists(
    st.builds(
        Sampled,
        model=st.just(HAIKU),
        chars=st.floats(50, 5000),
        input_tokens=st.integers(1, 5000),
        output_tokens=st.integers(0, 5000),
        cost_usd=st.floats(0, 5),
        seconds=st.floats(0.1, 60),
        failed=st.booleans(),
        truncated=st.booleans(),
    ),
    min_size=2,
    max_size=60,
)


def cost(sample: list[Sampled], rest: JobSize) -> Range:
    found = project(sample, rest).cost_usd
    assert found is not None
    return found


def close(one: Range, other: Range) -> bool:
    return one == pytest.approx(other, rel=1e-6, abs=1e-9)


@settings(max_examples=50)
@given(SAMPLES)
def test_a_projection_is_in_order_and_does_not_depend_on_the_order_of_the_sample(sample: list[Sampled]) -> None:
    found = project(sample, size(50))
    assert found.cost_usd is not None
    for each in (
        found.cost_usd,
        found.input_tokens,
        found.output_tokens,
        found.seconds_each,
        found.failed,
        found.truncated,
    ):
        assert 0 <= each.low <= each.high
    assert found.failed.high <= 1
    share = sum(one.failed for one in sample) / len(sample)
    assert found.failed.low <= share <= found.failed.high
    assert close(cost(sample[::-1], size(50)), found.cost_usd)


@settings(max_examples=50)
@given(SAMPLES.filter(lambda sample: len(sample) >= 8))
def test_the_same_answers_twice_give_a_range_that_is_narrower_around_the_same_middle(sample: list[Sampled]) -> None:
    rest = JobSize({Kind(HAIKU): replace(size(1).kinds[Kind(HAIKU)].times(1e6))})
    once, twice = cost(sample, rest), cost(sample * 2, rest)
    assert twice.high - twice.low <= (once.high - once.low) * 1.0001 + 1e-9


@settings(max_examples=50)
@given(SAMPLES, st.integers(2, 50))
def test_a_dearer_job_costs_as_much_more(sample: list[Sampled], factor: int) -> None:
    dearer = [replace(one, cost_usd=(one.cost_usd or 0) * factor) for one in sample]
    assert close(cost(dearer, size(50)), cost(sample, size(50)).times(factor))


def test_answers_that_are_all_alike_leave_no_doubt() -> None:
    found = cost([Sampled(HAIKU, 500, 100, 20, 0.01)] * 20, size(1000))
    assert found == pytest.approx((10, 10))


def test_cost_that_follows_the_length_of_the_request_is_followed() -> None:
    """A pilot of short requests by bad luck: the rest is twice as long on the whole, and that is known."""
    sample = [Sampled(HAIKU, chars, chars // 4, 10, chars * 1e-5) for chars in range(300, 700, 10)]
    rest = size(100, text="x" * 910)  # 1,000 characters each with what is around the text
    each = rest.kinds[Kind(HAIKU)].chars / 100
    assert cost(sample, rest) == pytest.approx((each * 1e-3, each * 1e-3), rel=0.01)


def test_an_unknown_cost_in_the_sample_makes_the_projection_unknown() -> None:
    sample = [Sampled(HAIKU, 500, 100, 20, 0.01), Sampled(HAIKU, 500, 100, 20, None)]
    assert project(sample, size()).cost_usd is None


def test_a_model_that_the_sample_lacks_is_taken_from_the_estimate() -> None:
    rest = size(50)
    rest.kinds.update(size(50, "claude-opus-5").kinds)
    prior = estimate(rest, PRICES)
    found = project([Sampled(HAIKU, 500, 130, 100, 0.0006)] * 10, rest, prior)
    assert found.cost_usd is not None
    assert prior.live_usd is not None
    assert 0.03 < found.cost_usd.low < prior.live_usd.high
    assert found.output_tokens.low == pytest.approx(50 * 100 + prior.by_model["claude-opus-5"][1].low)


def test_a_projection_that_is_too_wide_says_how_large_a_pilot_would_do() -> None:
    sample = [Sampled(HAIKU, 500, 100, 20, usd) for usd in (0.001, 0.002, 0.01, 0.03) * 5]
    found = project(sample, size(10_000))
    assert found.cost_usd is not None
    assert found.cost_usd.span > GOOD_SPAN
    assert found.enough is not None
    wider = project(sample * (found.enough // 20 + 1), size(10_000)).cost_usd
    assert wider is not None
    assert wider.span < GOOD_SPAN * 1.02


@given(st.floats(0.001, 1e6), st.floats(1, 100), st.floats(1.1, 10))
def test_a_range_is_drawn_in_around_its_middle(low: float, span: float, widest: float) -> None:
    whole = Range(low, low * span)
    drawn = whole.at_most(widest)
    assert drawn.middle == pytest.approx(whole.middle)
    assert drawn.span <= max(widest, 1) * (1 + 1e-9)
    assert whole.low <= drawn.low * (1 + 1e-9)
    assert drawn.high <= whole.high * (1 + 1e-9)

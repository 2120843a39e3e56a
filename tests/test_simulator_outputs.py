"""Output tokens while answers are under way: nothing ticks, and yet every question gets the figure of its instant."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrunner.simulator.limits import Limits, Refusal
from batchrunner.simulator.meters import Bucket, SlidingWindow
from batchrunner.simulator.outputs import Outputs
from batchrunner.simulator.settings import Quota, SimulatorSettings

ANSWERS = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 400), st.floats(0, 20)),  # begins, tokens, lasts
    min_size=1,
    max_size=40,
)


def produced_by(answers: list[tuple[float, int, float]], now: float) -> float:
    """What has been produced up to *now*, summed over the answers one by one; one of a microsecond is there at once."""
    return sum(
        tokens * (1.0 if lasts <= 1e-6 or now >= begins + lasts else (now - begins) / lasts)
        for begins, tokens, lasts in answers
        if begins <= now
    )


@given(ANSWERS, st.lists(st.floats(0, 60), max_size=20))
@example([(0.0, 1, 1.4e-40)], [2.3e-308])
def test_what_was_produced_is_used_at_every_instant(
    answers: list[tuple[float, int, float]], questions: list[float]
) -> None:
    """In a window that forgets nothing meanwhile, with questions strewn in."""
    outputs = Outputs(SlidingWindow(Quota(100_000, 1000)), reserved=False)
    asked = [(instant, None) for instant in questions] + [(begins, (t, lasts)) for begins, t, lasts in answers]
    for instant, answer in sorted(asked, key=lambda pair: pair[0]):
        if answer is not None:
            outputs.begin(instant, answer[0], 4096, answer[1])
        else:
            begun = [a for a in answers if a[0] < instant]
            assert 100_000 - outputs.meter(instant).left(instant) == pytest.approx(
                produced_by(begun, instant), abs=1e-3
            )
    total = sum(tokens for _, tokens, _ in answers)
    assert 100_000 - outputs.meter(100.0).left(100.0) == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("strict", [False, True])
def test_tokens_count_while_they_are_produced(strict: bool) -> None:
    limits = Limits(SimulatorSettings(output_tokens_limit=Quota(6000), bucket_s=10.0, strict=strict))
    capacity = 6000 if strict else 1000
    assert limits.admit("claude-x", 1, 32_000, 0.0) is None
    limits.answering("claude-x", 2 * capacity, 32_000, 0.0, 10.0)
    assert limits.admit("claude-x", 1, 32_000, 4.0) is None
    refused = limits.admit("claude-x", 1, 32_000, 10.0)
    assert refused is not None
    assert refused.limit == "output-tokens"


def test_a_full_bucket_stays_full_while_less_is_produced_than_flows_in() -> None:
    outputs = Outputs(Bucket(Quota(6000), 10.0), reserved=False)
    outputs.begin(0.0, 5000, 5000, 100.0)  # 50 a second, 100 flow in
    assert outputs.meter(90.0).left(90.0) == pytest.approx(1000)
    assert outputs.meter(1000.0).left(1000.0) == pytest.approx(1000)


def test_a_bucket_in_debt_is_paid_back_before_the_next_is_let_in() -> None:
    limits = Limits(SimulatorSettings(output_tokens_limit=Quota(6000), bucket_s=10.0))
    limits.answering("claude-x", 1500, 4096, 0.0, 0.0)
    assert limits.admit("claude-x", 1, 4096, 0.0) == Refusal("output-tokens", 6000, 6)
    assert limits.admit("claude-x", 1, 4096, 6.0) is None


@pytest.mark.parametrize("strict", [False, True])
def test_a_reservation_takes_max_tokens_and_gives_back_what_was_not_produced(strict: bool) -> None:
    settings = SimulatorSettings(output_tokens_limit=Quota(6000), strict=strict, reserve_output=True)
    limits = Limits(settings)
    assert limits.admit("claude-x", 1, 4096, 0.0) is None
    limits.answering("claude-x", 100, 4096, 0.0, 5.0)
    refused = limits.admit("claude-x", 1, 4096, 1.0)
    assert refused is not None
    assert refused.limit == "output-tokens"
    assert limits.admit("claude-x", 1, 4096, 5.0) is None


def test_a_reservation_in_a_strict_window_leaves_only_what_was_produced() -> None:
    window = SlidingWindow(Quota(6000))
    outputs = Outputs(window, reserved=True)
    outputs.begin(0.0, 100, 4096, 5.0)
    outputs.begin(1.0, 200, 1000, 2.0)
    assert outputs.meter(2.0).left(2.0) == 6000 - 5096
    assert outputs.meter(5.0).left(5.0) == 5700
    assert outputs.meter(60.5).left(60.5) == 5800
    outputs.begin(61.0, 50, 4096, 90.0)  # lasts for longer than the window remembers
    assert outputs.meter(151.0).left(151.0) == 6000


def test_ten_thousand_answers_at_once_are_no_more_work_than_their_beginnings_and_ends() -> None:
    """Were every answer gone through for every question, this would take minutes."""
    rng = random.Random(1)
    outputs = Outputs(Bucket(Quota(1e9), 60.0), reserved=False)
    for i in range(10_000):
        outputs.begin(i / 1000, rng.randrange(2000), 4096, rng.uniform(20, 60))
    for i in range(20_000):
        outputs.meter(10.0 + i / 1000)
    assert outputs.meter(100.0).left(100.0) == pytest.approx(1e9)

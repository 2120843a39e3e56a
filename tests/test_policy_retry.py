"""Retry rules and decisions."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.model import ErrorClass, Fail, Halt, Retry
from batchrunner.policy.retry import Action, Jitter, Rule, Wait, decide
from batchrunner.settings import default_rules
from builders import attempt, failure

_RULES = st.builds(
    Rule,
    action=st.just(Action.RETRY),
    attempts=st.integers(1, 20),
    first_s=st.floats(0.001, 300.0),
    cap_s=st.floats(0.001, 3600.0),
    wait=st.sampled_from(Wait),
    counted=st.booleans(),
)
_FAILURES = st.integers(1, 10**6)


@settings(max_examples=300, deadline=None)
@given(_RULES, _FAILURES, st.integers())
def test_no_wait_is_negative_or_above_the_cap(rule: Rule, failures: int, seed: int) -> None:
    assert 0.0 <= rule.wait_s(failures, random.Random(seed)) <= rule.nominal_s(failures) <= rule.cap_s


@settings(max_examples=200, deadline=None)
@given(_RULES, st.lists(_FAILURES, min_size=2, max_size=10))
def test_waits_before_jitter_never_shrink_from_failure_to_failure(rule: Rule, failures: list[int]) -> None:
    nominal = [rule.nominal_s(count) for count in [*range(1, 70), *sorted(failures)] if count >= 1]
    by_count = dict(zip([*range(1, 70), *sorted(failures)], nominal, strict=True))
    waits = [by_count[count] for count in sorted(by_count)]
    assert waits == sorted(waits)


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (Wait.EXPO, [2, 4, 8, 16, 30, 30]),
        (Wait.FIBO, [2, 2, 4, 6, 10, 16, 26, 30]),
        (Wait.CONSTANT, [2, 2, 2]),
    ],
)
def test_waits_grow_as_their_generator_says(wait: Wait, expected: list[float]) -> None:
    rule = Rule(Action.RETRY, first_s=2, cap_s=30, wait=wait)
    assert [rule.nominal_s(count) for count in range(1, len(expected) + 1)] == expected


@pytest.mark.parametrize("wait", list(Wait))
def test_any_count_of_failures_is_reckoned_at_once(wait: Wait) -> None:
    """A wait that looped through them all would not end in this life."""
    rule = Rule(Action.RETRY, first_s=0.001, cap_s=1e9, wait=wait)
    assert rule.nominal_s(10**15) == rule.nominal_s(64)


@settings(max_examples=100, deadline=None)
@given(st.integers())
def test_full_jitter_reaches_from_nothing_to_the_nominal_wait(seed: int) -> None:
    rule, rng = Rule(Action.RETRY, first_s=8, wait=Wait.CONSTANT), random.Random(seed)
    waits = [rule.wait_s(1, rng) for _ in range(200)]
    assert min(waits) < 2
    assert max(waits) > 6


def test_the_same_chance_gives_the_same_wait() -> None:
    rule = Rule(Action.RETRY)
    assert rule.wait_s(3, random.Random(7)) == rule.wait_s(3, random.Random(7))


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_a_class_gets_the_attempts_of_its_rule_and_no_more(error_class: ErrorClass) -> None:
    rules = default_rules()
    rule, rng = rules[error_class], random.Random(1)
    made = 0
    while made < 50:
        decision = decide(failure(error_class), attempt(failures={error_class: made}), rules, 100.0, rng)
        made += 1
        if not isinstance(decision, Retry):
            break
        assert decision.counted == rule.counted
        assert 100.0 <= decision.at <= 100.0 + rule.cap_s
    match rule.action:
        case Action.HALT:
            assert decision == Halt("It broke.", lane_only=rule.lane_only)
        case Action.FAIL:
            assert (decision, made) == (Fail(), 1)
        case Action.RETRY if rule.counted:
            assert (decision, made) == (Fail(), rule.attempts)
        case Action.RETRY:
            assert made == 50


def test_failures_of_other_classes_use_up_no_attempt_of_this_one() -> None:
    earlier = dict.fromkeys(ErrorClass, 99)
    del earlier[ErrorClass.SERVER]
    decision = decide(failure(), attempt(failures=earlier), default_rules(), 0.0, random.Random(1))
    assert isinstance(decision, Retry)


@settings(max_examples=100, deadline=None)
@given(_RULES, _FAILURES)
def test_a_failure_that_does_not_count_never_fails_the_request(rule: Rule, failures: int) -> None:
    uncounted = Rule(Action.RETRY, attempts=rule.attempts, first_s=rule.first_s, wait=rule.wait, counted=False)
    rules = {ErrorClass.RATE_LIMITED: uncounted}
    tried = attempt(failures={ErrorClass.RATE_LIMITED: failures})
    decision = decide(failure(ErrorClass.RATE_LIMITED), tried, rules, 0.0, random.Random(1))
    assert isinstance(decision, Retry)
    assert not decision.counted


@settings(max_examples=100, deadline=None)
@given(_RULES, st.floats(0.0, 300.0))
def test_a_longer_retry_after_wins_over_the_rule(rule: Rule, retry_after_s: float) -> None:
    plenty = Rule(Action.RETRY, attempts=2, first_s=rule.first_s, cap_s=rule.cap_s, wait=rule.wait)
    refused = failure(retry_after_s=retry_after_s)
    decision = decide(refused, attempt(), {ErrorClass.SERVER: plenty}, 50.0, random.Random(1))
    assert isinstance(decision, Retry)
    assert 50.0 + retry_after_s <= decision.at <= 50.0 + max(retry_after_s, rule.cap_s)


# How chance spreads the waits.


@settings(max_examples=50, deadline=None)
@given(st.integers())
def test_jitter_draws_from_the_part_of_the_wait_that_it_names(seed: int) -> None:
    rng = random.Random(seed)
    full, equal, none = (
        [Rule(Action.RETRY, first_s=8, wait=Wait.CONSTANT, jitter=jitter).wait_s(1, rng) for _ in range(200)]
        for jitter in (Jitter.FULL, Jitter.EQUAL, Jitter.NONE)
    )
    assert min(full) < 2
    assert 4 <= min(equal) < 5
    assert 7 < max(equal) <= 8
    assert set(none) == {8}

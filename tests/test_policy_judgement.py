"""From outcome to decision: flawed answers, halts, and the one row that is refused again and again."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.model import Attempt, Decision, ErrorClass, Fail, Failure, Halt, Outcome, Retry
from batchrunner.policy.answers import ACCEPTABLE, judge
from batchrunner.policy.halts import OPENING, REMEDIES, HaltWatch
from batchrunner.policy.judge import GATED, Judge, Lesson
from batchrunner.policy.lanes import model_class
from batchrunner.policy.refusals import PATIENCE, RefusalWatch
from batchrunner.policy.retry import Action
from batchrunner.settings import default_rules, with_retries
from builders import LANE, attempt, failure, success

HALT = Halt("The key is not valid.")
RETRY = Retry(5.0)
DEAD_KEY = failure(ErrorClass.AUTHENTICATION, "The key is not valid.")


def judge_of(*, official: bool = True, accept: frozenset[ErrorClass] = frozenset()) -> Judge:
    return Judge(default_rules(), accept=accept, official=official, rng=random.Random(1))


# What an answer amounts to.


@pytest.mark.parametrize(
    ("stop_reason", "text", "expected"),
    [
        ("end_turn", "Hello.", None),
        ("end_turn", "", ErrorClass.EMPTY),
        ("stop_sequence", "", None),
        ("tool_use", "", None),
        ("pause_turn", "", ErrorClass.PAUSED),
        ("max_tokens", "Hel", ErrorClass.TRUNCATED),
        ("max_tokens", "", ErrorClass.TRUNCATED),
        ("model_context_window_exceeded", "Hel", ErrorClass.TRUNCATED),
        ("refusal", "", ErrorClass.REFUSED),
        ("refusal", "I cannot.", ErrorClass.REFUSED),
        ("something_new", "Hello.", None),
    ],
)
def test_an_answer_is_judged_by_why_it_stopped(stop_reason: str, text: str, expected: ErrorClass | None) -> None:
    answer = success(text, stop_reason=stop_reason)
    outcome = judge(answer)
    if expected is None:
        assert outcome is answer
        return
    assert isinstance(outcome, Failure)
    assert outcome.error_class is expected
    assert outcome.answer is answer, "it was paid for, so it is kept"
    assert (outcome.http_status, outcome.api_request_id) == (200, "req_1")
    assert stop_reason in outcome.message
    assert judge(answer, {expected}) is answer
    assert judge(answer, set(ACCEPTABLE) - {expected}) == outcome


# When the whole run is to stop.


def test_on_the_official_endpoint_the_first_refusal_halts() -> None:
    assert isinstance(HaltWatch(official=True).review(DEAD_KEY, HALT, 10.0), Halt)


def test_on_a_gateway_the_second_refusal_in_a_row_halts() -> None:
    watch = HaltWatch(official=False)
    second_look = watch.review(DEAD_KEY, HALT, 10.0)
    assert isinstance(second_look, Retry)
    assert second_look.at > 10.0
    assert not second_look.counted
    assert isinstance(watch.review(DEAD_KEY, HALT, 11.0), Halt)


@pytest.mark.parametrize("between", ["success", "retry", "fail"])
def test_on_a_gateway_anything_between_two_refusals_starts_the_count_anew(between: str) -> None:
    watch = HaltWatch(official=False)
    watch.review(DEAD_KEY, HALT, 10.0)
    match between:
        case "success":
            watch.succeeded()
        case "retry":
            watch.review(failure(), RETRY, 10.0)
        case _:
            watch.review(failure(ErrorClass.TRUNCATED), Fail(), 10.0)
    assert isinstance(watch.review(DEAD_KEY, HALT, 11.0), Retry)
    assert isinstance(watch.review(DEAD_KEY, HALT, 12.0), Halt)


def fails(watch: HaltWatch, count: int, message: str, error_class: ErrorClass = ErrorClass.INVALID) -> list[Decision]:
    return [watch.review(failure(error_class, message.format(n)), Fail(), 0.0) for n in range(count)]


def test_the_first_twenty_failing_alike_halt() -> None:
    watch = HaltWatch(official=True)
    decisions = fails(watch, OPENING, "max_tokens: {} is too large")
    assert decisions[:-1] == [Fail()] * (OPENING - 1)
    assert isinstance(decisions[-1], Halt)
    assert "max_tokens: 19 is too large" in decisions[-1].reason


def test_twenty_alike_after_the_opening_fail_one_by_one() -> None:
    watch = HaltWatch(official=True)
    watch.succeeded()
    assert fails(watch, 3 * OPENING, "max_tokens: {} is too large") == [Fail()] * 3 * OPENING


@pytest.mark.parametrize("place", [0, 1, 10, OPENING - 1])
@pytest.mark.parametrize("other", ["success", "other message", "other class"])
def test_one_of_the_first_twenty_that_is_different_keeps_the_run_going(place: int, other: str) -> None:
    watch = HaltWatch(official=True)
    decisions = fails(watch, place, "wrong parameter")
    match other:
        case "success":
            watch.succeeded()
        case "other message":
            decisions += fails(watch, 1, "wrong model")
        case _:
            decisions += fails(watch, 1, "cut off", ErrorClass.TRUNCATED)
    decisions += fails(watch, 2 * OPENING, "wrong parameter")
    assert all(decision == Fail() for decision in decisions)


def test_retries_and_halts_do_not_count_among_the_first_twenty() -> None:
    watch = HaltWatch(official=False)
    decisions = []
    for _ in range(OPENING - 1):
        decisions += fails(watch, 1, "wrong parameter")
        watch.review(failure(), RETRY, 0.0)
        watch.review(DEAD_KEY, HALT, 0.0)
    assert decisions == [Fail()] * (OPENING - 1)
    assert isinstance(fails(watch, 1, "wrong parameter")[0], Halt)


# The row that is refused while its lane flows.


def test_a_row_refused_ten_times_while_others_get_through_is_given_up() -> None:
    watch, row, other = RefusalWatch(), attempt(1), attempt(2)
    for _ in range(PATIENCE - 1):
        assert watch.refused(row, 100.0) is None
        watch.succeeded(other)
    assert watch.refused(row, 100.0) == Fail()


def test_refusals_of_a_lane_that_stands_still_count_once() -> None:
    watch, row = RefusalWatch(), attempt(1)
    assert [watch.refused(row, 100.0) for _ in range(5 * PATIENCE)] == [None] * 5 * PATIENCE


def test_successes_of_another_lane_say_nothing_about_this_one() -> None:
    watch, row, other = RefusalWatch(), attempt(1), attempt(2, lane="opus-4")
    for _ in range(5 * PATIENCE):
        assert watch.refused(row, 100.0) is None
        watch.succeeded(other)


def test_a_row_that_got_through_starts_anew() -> None:
    watch, row, other = RefusalWatch(), attempt(1), attempt(2)
    for _ in range(PATIENCE - 1):
        watch.refused(row, 100.0)
        watch.succeeded(other)
    watch.succeeded(row)
    assert watch.refused(row, 100.0) is None


def test_refusals_while_others_are_refused_too_blame_nobody() -> None:
    """Where the limit is used up by all together, everybody is refused now and then."""
    watch, row = RefusalWatch(), attempt(1)
    for n in range(20 * PATIENCE):
        assert watch.refused(row, 100.0) is None
        watch.refused(attempt(1000 + n), 100.0)
        watch.succeeded(attempt(2))


def test_a_row_is_under_suspicion_from_its_second_refusal_that_counts_on() -> None:
    watch, row, other = RefusalWatch(), attempt(1), attempt(2)
    watch.refused(row, 100.0)
    assert not watch.is_suspect(row)
    watch.refused(row, 100.0)
    assert (watch.is_suspect(row), watch.times(row)) == (False, 2)
    watch.succeeded(other)
    watch.refused(row, 100.0)
    assert (watch.is_suspect(row), watch.times(row)) == (True, 3)
    assert (watch.is_suspect(other), watch.times(other)) == (False, 0)
    watch.succeeded(row)
    assert (watch.is_suspect(row), watch.times(row)) == (False, 0)


def test_the_last_row_of_a_lane_is_given_up_by_the_minute() -> None:
    """Nobody else can show that the lane flows; a limit that one request a minute draws on is not used up."""
    watch, row = RefusalWatch(), attempt(1)
    refusals = [watch.refused(row, 20.0 * n, alone=True) for n in range(3 * PATIENCE)]
    assert refusals.index(Fail()) == 3 * (PATIENCE - 1)


# All of them together.


def judged(judge_: Judge, attempt_: Attempt, outcome: Outcome, gate: float = 0.0) -> Decision | None:
    return judge_.judge(attempt_, outcome, 100.0, Lesson(retry_at=gate))[1]


def test_an_accepted_answer_needs_no_decision() -> None:
    assert judge_of().judge(attempt(), success(), 100.0) == (success(), None)


def test_a_flawed_answer_becomes_a_failure_unless_it_is_accepted() -> None:
    cut = success("Hel", stop_reason="max_tokens")
    outcome, decision = judge_of().judge(attempt(), cut, 100.0)
    assert isinstance(outcome, Failure)
    assert decision == Fail()
    assert judge_of(accept=frozenset({ErrorClass.TRUNCATED})).judge(attempt(), cut, 100.0) == (cut, None)


@pytest.mark.parametrize("error_class", sorted(GATED))
def test_a_refused_request_waits_for_the_gate_and_for_nothing_of_its_own(error_class: ErrorClass) -> None:
    refused = failure(error_class, retry_after_s=30.0)
    assert judged(judge_of(), attempt(), refused, gate=107.0) == Retry(107.0, counted=False)
    assert judged(judge_of(), attempt(), refused, gate=7.0) == Retry(100.0, counted=False)


def test_a_limit_on_refusals_that_the_user_set_holds_behind_the_gate_too() -> None:
    rules = with_retries(default_rules(), ["rate_limited=1"])
    judge_ = Judge(rules, accept=frozenset(), official=True, rng=random.Random(1))
    refused = failure(ErrorClass.RATE_LIMITED)
    assert judged(judge_, attempt(), refused, gate=107.0) == Retry(107.0, counted=True)
    assert judged(judge_, attempt(failures={ErrorClass.RATE_LIMITED: 1}), refused) == Fail()


def test_a_row_that_is_refused_for_ever_fails_in_the_end() -> None:
    judge_, refused = judge_of(), failure(ErrorClass.RATE_LIMITED)
    decisions = []
    for n in range(PATIENCE):
        judged(judge_, attempt(n + 2), success())
        decisions.append(judged(judge_, attempt(1), refused))
    assert [type(decision) for decision in decisions] == [Retry] * (PATIENCE - 1) + [Fail]


def test_a_request_that_fails_for_good_is_not_kept_in_mind() -> None:
    """What is remembered of refusals must not grow with the number of requests."""
    judge_ = judge_of()
    for seq in range(1, 200):
        judged(judge_, attempt(seq), failure(ErrorClass.RATE_LIMITED))
        judged(judge_, attempt(seq), failure(ErrorClass.TRUNCATED))
    assert not judge_._refusals._refused


def test_an_unknown_model_halts_its_lane_only_and_a_dead_key_everything() -> None:
    unknown_model = judged(judge_of(), attempt(), failure(ErrorClass.NOT_FOUND, "no such model"))
    dead_key = judged(judge_of(), attempt(), DEAD_KEY)
    assert isinstance(unknown_model, Halt)
    assert isinstance(dead_key, Halt)
    assert (unknown_model.lane_only, dead_key.lane_only) == (True, False)


@pytest.mark.parametrize("error_class", [c for c, rule in default_rules().items() if rule.action is Action.HALT])
def test_the_reason_of_a_halt_says_what_happened_and_what_to_look_at(error_class: ErrorClass) -> None:
    halt = judged(judge_of(), attempt(), failure(error_class, "The server said no."))
    assert isinstance(halt, Halt)
    assert "The server said no" in halt.reason
    assert REMEDIES[error_class] in halt.reason


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(sorted(ErrorClass)), max_size=60), st.booleans(), st.booleans())
def test_every_failure_gets_a_decision_that_blames_or_waits(classes: list[str], official: bool, excused: bool) -> None:
    judge_ = judge_of(official=official)
    for name in classes:
        outcome, decision = judge_.judge(
            attempt(), failure(ErrorClass(name)), 100.0, Lesson(excused=excused, retry_at=103.0)
        )
        assert isinstance(outcome, Failure)
        assert isinstance(decision, Retry | Fail | Halt)
        assert not isinstance(decision, Retry) or decision.at >= 100.0


# Which models share a pool.


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-opus-4-7", "opus-4"),
        ("claude-opus-4-8", "opus-4"),
        ("claude-opus-4-10", "opus-4"),
        ("claude-opus-4-1-20250805", "opus-4"),
        ("claude-sonnet-4-5", "sonnet-4"),
        ("claude-sonnet-4-20250514", "sonnet-4"),
        ("claude-haiku-4-5", LANE),
        ("claude-haiku-4-5-20251001", LANE),
        ("claude-3-5-haiku-20241022", "3-5-haiku"),
        ("claude-fable-5", "fable-5"),
        ("claude-fable-5-1", "fable-5"),
        ("claude-opus-5", "opus-5"),
        ("anthropic.claude-opus-4-7-v1:0", "anthropic.claude-opus-4-7-v1:0"),
        ("my-own-model", "my-own-model"),
        ("claude-", "claude-"),
    ],
)
def test_models_with_a_common_pool_share_a_lane(model: str, expected: str) -> None:
    assert model_class(model) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_every_model_has_a_lane_with_a_name(model: str) -> None:
    """The claims skip from lane to lane by name, from the empty name on."""
    assert model_class(model) > ""

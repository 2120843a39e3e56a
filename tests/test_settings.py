"""The settings of a run: what holds unless the user says otherwise, and what the user may say."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.answers import ACCEPTABLE
from batchrunner.policy.judge import GATED
from batchrunner.policy.retry import Action, Rule
from batchrunner.policy.window import Rate
from batchrunner.settings import (
    Limits,
    RunSettings,
    Stopping,
    default_max_tokens,
    default_rules,
    parse_accept,
    parse_rate,
    with_retries,
)


def test_every_error_class_has_a_rule() -> None:
    assert set(default_rules()) == set(ErrorClass)


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_every_rule_makes_sense(error_class: ErrorClass) -> None:
    rule = default_rules()[error_class]
    assert 0 < rule.first_s <= rule.cap_s
    if rule.action is Action.RETRY:
        assert rule.attempts >= 2 or not rule.counted
        assert rule.nominal_s(10**6) <= 300, "no retry is due later than a new run would believe"
    else:
        assert rule.counted
        assert rule.attempts == 1
    assert not rule.lane_only or rule.action is Action.HALT


def test_refusals_of_the_limits_use_up_no_attempt_and_nothing_else_is_free() -> None:
    assert {error_class for error_class, rule in default_rules().items() if not rule.counted} == GATED


def test_keys_and_money_halt_and_a_model_halts_its_lane() -> None:
    rules = default_rules()
    halting = {error_class for error_class, rule in rules.items() if rule.action is Action.HALT}
    assert halting == {"authentication", "permission", "billing", "endpoint", "not_found"}
    assert {error_class for error_class in halting if rules[error_class].lane_only} == {ErrorClass.NOT_FOUND}


def test_the_defaults_can_run() -> None:
    settings = RunSettings()
    assert settings.limits == Limits(rate=None, concurrency=None, itpm=None, otpm=None, burst=False)
    assert (settings.limits.cap, settings.limits.cautious_cap) == (500, 50)
    assert settings.max_outage_s == 3600
    assert settings.stopping == Stopping(drain_s=60, drain_sigterm_s=25)
    assert settings.rules == default_rules()
    assert default_max_tokens() == 1024


def test_the_defaults_of_one_run_are_not_shared_with_the_next() -> None:
    rules = default_rules()
    rules.clear()
    assert set(default_rules()) == set(ErrorClass)


# --retries


@pytest.mark.parametrize(
    ("count", "attempts", "action"), [(0, 1, Action.FAIL), (1, 2, Action.RETRY), (9, 10, Action.RETRY)]
)
@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_retries_are_attempts_after_the_first(
    error_class: ErrorClass, count: int, attempts: int, action: Action
) -> None:
    before = default_rules()
    after = with_retries(before, [f"{error_class}={count}"])
    changed = after[error_class]
    assert (changed.attempts, changed.action, changed.counted) == (attempts, action, True)
    kept = {field.name for field in fields(Rule)} - {"attempts", "action", "counted"}
    assert all(getattr(changed, name) == getattr(before[error_class], name) for name in kept)
    assert {c: rule for c, rule in after.items() if c is not error_class} == {
        c: rule for c, rule in before.items() if c is not error_class
    }
    assert before == default_rules()


def test_the_last_word_on_a_class_counts() -> None:
    assert with_retries(default_rules(), ["server=1", "timeout=0", "server=5"])[ErrorClass.SERVER].attempts == 6


@pytest.mark.parametrize(
    "text", ["", "server", "server=", "=3", "server=-1", "server=x", "server=1.5", "Server=1", "all=3", "server = 3",
             "server=" + "9" * 5000]
)  # fmt: skip
def test_what_is_no_number_of_retries_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not CLASS=N, such as server=10"):
        with_retries(default_rules(), [text])


@given(st.text(max_size=20))
def test_any_text_is_a_number_of_retries_or_a_usage_error(text: str) -> None:
    try:
        with_retries(default_rules(), [text])
    except UsageError:
        return
    assert text.partition("=")[0] in set(ErrorClass)


# --accept


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], set()),
        (["truncated"], {ErrorClass.TRUNCATED}),
        (["truncated,refused"], {ErrorClass.TRUNCATED, ErrorClass.REFUSED}),
        (["truncated,paused", " empty , refused,schema "], set(ACCEPTABLE)),
        (["", ","], set()),
    ],
)
def test_what_is_to_be_accepted_is_read(names: list[str], expected: set[ErrorClass]) -> None:
    assert parse_accept(names) == expected


@pytest.mark.parametrize("names", [["server"], ["truncated,invalid"], ["Truncated"], ["truncated refused"]])
def test_only_flawed_answers_can_be_accepted(names: list[str]) -> None:
    with pytest.raises(UsageError, match="only truncated, refused, empty, paused, schema answers can be accepted"):
        parse_accept(names)


# --rpm and --rate


@pytest.mark.parametrize(
    ("rpm", "rate", "expected"),
    [(None, None, None), (50, None, Rate(50, 60)), (None, "600/10s", Rate(600, 10))],
)
def test_a_limit_is_given_per_minute_or_as_a_rate(rpm: int | None, rate: str | None, expected: Rate | None) -> None:
    assert parse_rate(rpm, rate) == expected


@pytest.mark.parametrize(("rpm", "rate"), [(50, "600/10s"), (0, None), (-5, None), (10**12, None), (None, "fast")])
def test_a_limit_that_is_none_or_two_is_refused(rpm: int | None, rate: str | None) -> None:
    with pytest.raises(UsageError):
        parse_rate(rpm, rate)


# What the store keeps of them.


def test_the_record_of_a_run_holds_what_the_user_changed() -> None:
    settings = RunSettings(
        limits=Limits(Rate.parse("600/10s"), 7),
        rules=with_retries(default_rules(), ["server=10", "rate_limited=0"]),
        accept=frozenset(ACCEPTABLE),
        timeout_s=30.0,
        first=5,
    )
    record = settings.as_record()
    assert json.loads(json.dumps(record)) == record
    assert {key: record[key] for key in ("rate", "concurrency", "retries", "accept", "timeout_s", "first")} == {
        "rate": "600/10s",
        "concurrency": 7,
        "retries": {"server": 10, "rate_limited": 0},
        "accept": ["empty", "paused", "refused", "schema", "truncated"],
        "timeout_s": 30.0,
        "first": 5,
    }
    assert RunSettings().as_record()["retries"] == {}

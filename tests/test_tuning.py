"""What may be asked of a running run, and the JSON it travels in."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.policy.window import Rate
from batchrunner.settings import LARGEST_CONCURRENCY
from batchrunner.tuning import AUTO, LARGEST_TOKENS, Tuning, Verb

RATES = st.builds(Rate, st.integers(1, 10**9 - 1), st.integers(1, 10**6).map(lambda ms: ms / 1000))
TOKENS = st.none() | st.just(AUTO) | st.integers(1, LARGEST_TOKENS)
LIMITS = st.fixed_dictionaries(
    {
        "concurrency": st.none() | st.integers(1, LARGEST_CONCURRENCY),
        "rate": st.none() | st.just(AUTO) | RATES,
        "itpm": TOKENS,
        "otpm": TOKENS,
    }
)


def changing(limits: dict[str, Any]) -> Tuning:
    return Tuning(**limits)


CHANGES = LIMITS.filter(lambda limits: any(limits.values())).map(changing)
TUNINGS = CHANGES | st.sampled_from([Verb.PAUSE, Verb.UNPAUSE, Verb.STOP]).map(Tuning)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(AUTO)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NAMES = st.sampled_from(["verb", "concurrency", "rate", "itpm", "otpm"])


@given(TUNINGS)
def test_a_wish_comes_back_as_it_was_sent(tuning: Tuning) -> None:
    assert Tuning.from_json(json.loads(json.dumps(tuning.as_json()))) == tuning


@given(VALUES | st.dictionaries(NAMES | st.text(max_size=8), VALUES | st.sampled_from(list(Verb)), max_size=5))
def test_json_of_any_shape_is_a_wish_or_a_usage_error(value: Any) -> None:
    try:
        tuning = Tuning.from_json(value)
    except UsageError:
        return
    assert Tuning.from_json(tuning.as_json()) == tuning
    assert {"verb", *value} - {"concurrency", "rate", "itpm", "otpm"} == {"verb"}


@given(CHANGES, NAMES, VALUES)
def test_one_wrong_value_spoils_the_whole_wish(tuning: Tuning, name: str, value: Any) -> None:
    """Nothing is coerced: True is no 1, 40.0 is no 40, "40" is no 40."""
    largest = LARGEST_CONCURRENCY if name == "concurrency" else LARGEST_TOKENS
    is_number = name in {"concurrency", "itpm", "otpm"} and type(value) is int and 1 <= value <= largest
    is_word = value is None or (type(value) is str and value == {"verb": "tune"}.get(name, AUTO))
    assume(not is_number and not (is_word and name != "concurrency") and value is not None)
    with pytest.raises(UsageError):
        Tuning.from_json(tuning.as_json() | {name: value})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"verb": "tune"}, "must name one"),
        ({"verb": "stop", "concurrency": 3}, "takes no limits"),
        ({"verb": "halt"}, "one of tune, pause, unpause, stop"),
        ({"verb": "tune", "concurrency": 0}, "from 1 to 10,000"),
        ({"verb": "tune", "concurrency": 40.0}, "whole number"),
        ({"verb": "tune", "concurrency": True}, "whole number"),
        ({"verb": "tune", "rate": 5}, "must be text"),
        ({"verb": "tune", "rate": "0/min"}, "permits nothing"),
        ({"verb": "tune", "itpm": "many"}, "whole number"),
        ({"verb": "tune", "rpm": 5}, "knows no 'rpm'"),
        (["tune"], "JSON object"),
    ],
)
def test_what_cannot_be_meant_is_named(asked: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Tuning.from_json(asked)

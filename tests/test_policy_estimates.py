"""What a request will use, estimated from those before it."""

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.policy.estimates import CHARS_PER_TOKEN, ENOUGH, InputEstimate, OutputEstimate
from builders import body

_COUNTS = st.integers(0, 64_000)
_RECENT = 1000


def naive(counts: list[int]) -> int:
    """Return the smallest of the latest counts that 95 % of them do not exceed."""
    latest = sorted(counts[-_RECENT:])
    return next(count for count in latest if sum(other <= count for other in latest) >= 0.95 * len(latest))


def told(counts: list[int]) -> OutputEstimate:
    estimate = OutputEstimate()
    for count in counts:
        estimate.note(count)
    return estimate


def test_without_an_answer_it_is_what_the_request_permits() -> None:
    assert OutputEstimate().tokens(4096) == 4096


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(_COUNTS, min_size=ENOUGH, max_size=300), st.integers(1, 64_000))
def test_it_is_the_95th_percentile_of_the_answers_and_never_above_max_tokens(counts: list[int], most: int) -> None:
    assert told(counts).tokens(most) == min(most, naive(counts))


@hypothesis_settings(max_examples=5, deadline=None)
@given(st.lists(_COUNTS, min_size=_RECENT, max_size=_RECENT + 200))
def test_only_the_latest_thousand_count(counts: list[int]) -> None:
    assert told([64_000] * 300 + counts).tokens(10**6) == naive(counts)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(_COUNTS, min_size=1, max_size=ENOUGH - 1), st.integers(1, 64_000))
def test_few_answers_bound_it_by_a_multiple_of_the_longest(counts: list[int], most: int) -> None:
    found = told(counts).tokens(most)
    assert min(most, max(counts)) <= found <= most
    assert found == min(most, max(counts) * (1 + ENOUGH / len(counts) / 2))


def test_the_multiple_shrinks_with_each_answer() -> None:
    bounds = [told([100] * count).tokens(10**6) for count in range(1, ENOUGH + 1)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == 100 * (1 + ENOUGH / 2)
    assert bounds[-1] == 100


def test_a_server_that_reserves_all_is_reserved_all() -> None:
    estimate = told([10] * 100)
    estimate.reserve_all = True
    assert estimate.tokens(4096) == 4096
    estimate.reserve_all = False
    assert estimate.tokens(4096) == 10


# Input.


def with_blobs(count: int, size: int, prompt: str = "What is this?") -> str:
    data = base64.b64encode(b"\x07" * size).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    content: list[dict[str, Any]] = [{"type": "image", "source": source} for _ in range(count)]
    content.append({"type": "text", "text": prompt})
    return json.dumps(body() | {"messages": [{"role": "user", "content": content}]})


def test_at_first_it_goes_by_the_characters() -> None:
    params = json.dumps(body("x" * 3000))
    assert InputEstimate().tokens(params) == pytest.approx(1 + len(params) / CHARS_PER_TOKEN)


@pytest.mark.parametrize("chars_per_token", [1.0, 2.5, 5.0])
def test_it_learns_how_many_characters_a_token_has(chars_per_token: float) -> None:
    estimate, params = InputEstimate(), json.dumps(body("x" * 3000))
    for _ in range(20):
        estimate.note(params, round(len(params) / chars_per_token))
    other = json.dumps(body("y" * 9000))
    assert estimate.tokens(other) == pytest.approx(len(other) / chars_per_token, rel=0.02)


def test_it_follows_texts_that_have_become_others() -> None:
    estimate, params = InputEstimate(), json.dumps(body("x" * 3000))
    for tokens in [len(params)] * 500 + [len(params) // 4] * 300:
        estimate.note(params, tokens)
    assert estimate.tokens(params) == pytest.approx(len(params) / 4, rel=0.05)


@pytest.mark.parametrize("size", [1_000, 100_000, 3_000_000])
def test_the_bytes_of_an_image_are_not_text(size: int) -> None:
    """Three megabytes are no million tokens: such a request would never be let through."""
    estimate = InputEstimate()
    bare = estimate.tokens(json.dumps(body()))
    assert bare + 1600 <= estimate.tokens(with_blobs(1, size)) <= bare + 1600 + 100
    assert 3 * 1600 <= estimate.tokens(with_blobs(3, size)) <= bare + 3 * 1600 + 200


def test_an_image_teaches_nothing_about_text() -> None:
    estimate, text = InputEstimate(), json.dumps(body("x" * 3000))
    before = estimate.tokens(text)
    for _ in range(50):
        estimate.note(with_blobs(1, 100_000), 900)
    assert estimate.tokens(text) == before, "an image smaller than thought says nothing of the text beside it"


def test_what_the_cache_delivers_does_not_count_and_the_scale_learns_that() -> None:
    """A prompt of a thousand tokens of which the API counts ten: the rest was read from the cache."""
    estimate, params = InputEstimate(), json.dumps(body("x" * 4000))
    for _ in range(30):
        estimate.note(params, 10)
    assert estimate.tokens(params) < 30


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=200), st.integers(0, 10**9)), max_size=20),
    st.text(max_size=2000) | st.just('{"type":"base64","data":"'),
)
def test_it_is_always_a_number_above_zero(noted: list[tuple[str, int]], params: str) -> None:
    estimate = InputEstimate()
    for text, tokens in noted:
        estimate.note(text, tokens)
    assert 1 <= estimate.tokens(params) < math.inf

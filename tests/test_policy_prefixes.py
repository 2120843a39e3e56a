"""Where the prefixes of a prompt end, and what tells them apart."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.policy.prefixes import minimum_tokens, prefixes

MARK = {"type": "ephemeral"}


def text(words: str, mark: object = None) -> dict[str, Any]:
    return {"type": "text", "text": words} | ({} if mark is None else {"cache_control": mark})


def body(*, system: object = None, content: object = "hi", **more: Any) -> dict[str, Any]:
    shown = {} if system is None else {"system": system}
    return {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": content}], **shown, **more}


def keys(params: dict[str, Any]) -> list[str]:
    return [prefix.key for prefix in prefixes(params)]


def test_blocks_come_in_the_order_of_the_api() -> None:
    params = body(system=[text("s1"), text("s2", MARK)], content=[text("q")], tools=[{"name": "t", "input_schema": {}}])
    found = prefixes(params)
    assert [prefix.lifetime for prefix in found] == [None, None, "5m", None]
    assert [prefix.chars for prefix in found] == sorted(prefix.chars for prefix in found)
    assert len(set(keys(params))) == 4


def test_a_shared_beginning_has_one_key_whatever_follows_and_whatever_is_marked() -> None:
    one, two = body(system=[text("s", MARK)], content="a"), body(system=[text("s")], content="b")
    assert keys(one)[0] == keys(two)[0]
    assert keys(one)[1] != keys(two)[1]


def test_a_text_is_the_same_as_its_block() -> None:
    assert prefixes(body(system="s")) == prefixes(body(system=[text("s")]))


@pytest.mark.parametrize(
    "other",
    [
        body(system="s") | {"model": "claude-haiku-5-5"},
        body(content=[text("s"), text("hi")]),  # in another place
        body(system=[{"type": "text", "text": "s", "citations": None}]),
    ],
    ids=["model", "place", "block"],
)
def test_what_differs_has_another_key(other: dict[str, Any]) -> None:
    assert keys(body(system="s"))[0] != keys(other)[0]


@pytest.mark.parametrize(
    ("mark", "lifetime"),
    [(MARK, "5m"), (MARK | {"ttl": "1h"}, "1h"), (MARK | {"ttl": None}, "5m"), (MARK | {"ttl": 7}, "7"), ("x", "5m")],
    ids=["default", "1h", "null", "senseless", "no object"],
)
def test_the_marker_says_for_how_long(mark: object, lifetime: str) -> None:
    assert prefixes(body(system=[text("s", mark)]))[0].lifetime == lifetime


def test_a_marker_at_the_top_marks_the_last_block_unless_it_is_marked() -> None:
    hour = MARK | {"ttl": "1h"}
    assert [p.lifetime for p in prefixes(body(system="s", cache_control=hour))] == [None, "1h"]
    assert [p.lifetime for p in prefixes(body(content=[text("q", MARK)], cache_control=hour))] == ["5m"]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "cache_control", "ttl"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["model", "system", "tools", "messages", "cache_control"]), JSON))
def test_any_object_has_prefixes_that_grow(params: dict[str, Any]) -> None:
    found = prefixes(params)
    assert [prefix.chars for prefix in found] == sorted(prefix.chars for prefix in found)
    assert all(len(prefix.key) == 16 for prefix in found)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-5-5", 512),
        ("claude-opus-5", 512),
        ("claude-fable-5-1", 512),
        ("claude-opus-4-8", 1024),
        ("claude-sonnet-4-5-20250929", 1024),
        ("claude-sonnet-5", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-opus-4-5-20251101", 4096),
        ("claude-haiku-4-5-20251001", 4096),
        ("somebody/model", 1024),
    ],
)
def test_the_least_length_is_the_models(model: str, tokens: int) -> None:
    assert minimum_tokens(model) == tokens

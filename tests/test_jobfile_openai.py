"""OpenAI's chat bodies: translated where a Messages body says the same, refused by key where none does."""

from typing import Any

import pytest

from batchrunner.jobfile import RefusedError
from batchrunner.jobfile.openai import is_chat_body, messages_body

HI = {"role": "user", "content": "Hi"}
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def body(*messages: Any, model: str | None = None, **keys: Any) -> dict[str, Any]:
    return messages_body({"messages": list(messages), **keys}, model)


def cause(*messages: Any, **keys: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        body(*messages, **keys)
    return refused.value.cause


def test_several_system_messages_stay_blocks_of_their_own() -> None:
    found = body({"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, HI)
    assert found == {"system": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], "messages": [HI]}


def test_turns_and_parts_are_kept_in_order() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": IMAGE, "detail": "auto"}}]
    found = body({"role": "user", "content": parts}, {"role": "assistant", "content": "b", "refusal": None}, HI)
    assert found["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
    ]
    assert found["messages"][1:] == [{"role": "assistant", "content": "b"}, HI]


def test_a_claude_model_in_the_line_stays_and_another_gives_way_to_the_one_asked_for() -> None:
    assert body(HI, model="claude-a")["messages"] == [HI]
    assert messages_body({"model": "claude-b", "messages": [HI]}, "claude-a")["model"] == "claude-b"
    assert messages_body({"model": "gpt-4o", "messages": [HI]}, "claude-a")["model"] == "claude-a"
    with pytest.raises(RefusedError, match="model 'gpt-4o' is none of Claude's: give --model"):
        messages_body({"model": "gpt-4o", "messages": [HI]}, None)


def test_what_says_nothing_is_left_out() -> None:
    silent: dict[str, Any] = {
        "n": 1,
        "temperature": 1.0,
        "top_p": 1,
        "logprobs": False,
        "logit_bias": {},
        "seed": None,
        "tools": [],
    }
    assert body(HI, **silent, response_format={"type": "text"}, service_tier="auto") == {"messages": [HI]}


def test_both_names_of_the_limit_may_say_the_same() -> None:
    assert body(HI, max_tokens=5, max_completion_tokens=5)["max_tokens"] == 5
    assert "differ" in cause(HI, max_tokens=5, max_completion_tokens=6)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"n": True}, "'n' has no exact counterpart"),
        ({"stop": ["a", 5]}, "stop must be"),
        ({"user": 5}, "user must be a string"),
        ({"logprobs": True}, "'logprobs'"),
        ({"reasoning_effort": "low"}, "output_config"),
        ({"anything": 1}, "'anything' has no exact counterpart: take it out of the line"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, '"strict": true'),
        ({"response_format": {"type": "json_schema"}}, "must be an object with a schema"),
    ],
)
def test_keys_without_a_counterpart_are_named(keys: dict[str, Any], said: str) -> None:
    assert said in cause(HI, **keys)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Hi", "message 1 must be an object"),
        ({"role": "function", "content": "x"}, "the role 'function'"),
        ({"role": "user", "content": "x", "name": "me"}, "'name' has no exact counterpart"),
        ({"role": "user", "content": None}, "needs a content"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "'input_audio' of a user message"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}]}, "https://"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}]}, "detail"),
        ({"role": "assistant", "tool_calls": [{}], "content": None}, "'tool_calls'"),
        ({"role": "system", "content": "only"}, "no user message"),
    ],
)
def test_messages_without_a_counterpart_are_named(message: Any, said: str) -> None:
    assert said in cause(message)


def test_a_line_of_the_messages_api_is_never_taken_for_a_chat_body() -> None:
    assert not is_chat_body({"messages": [HI], "max_tokens": 5, "model": "claude-a", "temperature": 0.5})
    assert not is_chat_body({"prompt": "Hi", "stop": "x"})
    assert is_chat_body({"messages": [HI], "stop": "x"})
    assert is_chat_body({"messages": [{"role": "system", "content": "S"}, HI]})

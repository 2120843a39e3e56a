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
        "tool_choice": "none",
        "parallel_tool_calls": False,
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
        ({"role": "assistant", "tool_calls": [{}], "content": None}, "only calls of functions"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "'function_call'"),
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


# Tools

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}
OURS = {"name": "weather", "description": "Tells it.", "input_schema": WEATHER}


def call(name: str = "call_1", arguments: Any = '{"city": "Graz"}') -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def calls(*made: dict[str, Any], content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(made or [call()])}


def result(name: str = "call_1", content: Any = "Rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


def used(name: str = "call_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "weather", "input": {"city": "Graz"}}


@pytest.mark.parametrize(
    ("tool", "ours"),
    [
        (TOOL, OURS),
        ({"type": "function", "function": {"name": "now"}}, {"name": "now", "input_schema": {"type": "object", "properties": {}}}),
        ({"type": "function", "function": {"name": "now", "parameters": {}, "strict": False, "description": None}},
         {"name": "now", "input_schema": {"type": "object", "properties": {}}}),
        ({"type": "function", "function": {"name": "w", "parameters": WEATHER, "strict": True}},
         {"name": "w", "input_schema": WEATHER, "strict": True}),
    ],
)  # fmt: skip
def test_functions_become_tools(tool: dict[str, Any], ours: dict[str, Any]) -> None:
    assert body(HI, tools=[tool]) == {"messages": [HI], "tools": [ours]}


@pytest.mark.parametrize(
    ("keys", "choice"),
    [
        ({"tool_choice": "auto", "parallel_tool_calls": True}, None),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, {"type": "tool", "name": "weather"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools_is_said_in_the_words_of_the_other_api(keys: dict[str, Any], choice: Any) -> None:
    found = body(HI, tools=[TOOL], **keys)
    assert found == {"messages": [HI], "tools": [OURS], **({} if choice is None else {"tool_choice": choice})}


def test_calls_and_their_results_stand_in_turns_and_a_question_after_them_joins_the_results() -> None:
    again = calls(call("call_3"), content="Once more.")
    talk = [HI, calls(call(), call("call_2")), result("call_2", "Sun"), result(), {"role": "user", "content": "So?"}]
    found = body(*talk, again, result("call_3", [{"type": "text", "text": "Fog"}]), tools=[TOOL])
    assert found["messages"] == [
        HI,
        {"role": "assistant", "content": [used(), used("call_2")]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_2", "content": "Sun"},
                {"type": "tool_result", "tool_use_id": "call_1", "content": "Rain"},
                {"type": "text", "text": "So?"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Once more."}, used("call_3")]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "call_3", "content": [{"type": "text", "text": "Fog"}]}],
        },
    ]


def test_an_empty_result_has_no_content_and_two_rounds_of_calls_stay_two() -> None:
    talk = [HI, calls(content=""), result(content=""), calls(call("b")), result("b")]
    found = body(*talk, tools=[TOOL])["messages"]
    assert found[2] == {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1"}]}
    assert [turn["role"] for turn in found] == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tools": "weather"}, "tools must be a list, not a string"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tool 1: only functions"),
        ({"tools": [TOOL, {"type": "function"}]}, "tool 2: only functions"),
        ({"tools": [{**TOOL, "extra": 1}]}, "tool 1: only functions"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tool 1: the name of a function"),
        ({"tools": [{"type": "function", "function": {"name": "a", "extra": 1}}]}, "'extra' of a function"),
        ({"tools": [{"type": "function", "function": {"name": "a", "description": 1}}]}, "the description must be"),
        ({"tools": [{"type": "function", "function": {"name": "a", "strict": 1}}]}, "strict must be true or false"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]}, "JSON schema"),
        ({"tools": [TOOL], "tool_choice": "some"}, "tool_choice 'some' has no exact counterpart"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "'allowed_tools'"),
        ({"tools": [TOOL], "tool_choice": 5}, "tool_choice 'an integer'"),
        ({"tool_choice": "required"}, "the body has no tools"),
        ({"tools": [TOOL], "parallel_tool_calls": "no"}, "parallel_tool_calls must be true or false"),
        ({"functions": [{"name": "f"}]}, "write them as tools"),
    ],
)
def test_tools_without_a_counterpart_are_named(keys: dict[str, Any], said: str) -> None:
    assert said in cause(HI, **keys)


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        ([calls(), HI], "message 3: the call 'call_1' before it has no message of role tool"),
        ([calls()], "the call 'call_1' has no message of role tool after it"),
        ([result()], "message 2: no call 'call_1'"),
        ([calls(), result(), result()], "message 4: no call 'call_1'"),
        ([calls(), result("other")], "message 3: no call 'other'"),
        ([calls(call(), call()), result()], "stands on two tool calls"),
        ([calls(), result(), calls(), result()], "message 4: the id 'call_1' stands on two tool calls"),
        ([calls(call("a.b")), result("a.b")], "letters, digits, _ and -"),
        ([calls(call(arguments="")), result()], "message 2: the arguments of a call cannot be read"),
        ([calls(call(arguments='{"a":1,"a":2}')), result()], "the key 'a' stands twice"),
        ([calls(call(arguments="[1]")), result()], "must be a JSON object, not a list"),
        ([calls(call(arguments={"city": "Graz"})), result()], "must be a string of JSON, not an object"),
        ([calls({**call(), "index": 0}), result()], "'index' of a tool call"),
        ([calls({**call(), "type": "custom"}), result()], "only calls of functions"),
        ([calls(content=" "), result()], "a blank text beside tool calls"),
        ([{**calls(), "tool_calls": {"a": 1}}], "tool_calls must be a list"),
        ([calls(), result(content=None)], "needs a content"),
        ([calls(), result(content=[{"type": "image_url", "image_url": {"url": IMAGE}}])], "of a tool message"),
        ([calls(), {**result(), "name": "weather"}], "'name' has no exact counterpart"),
        ([calls(), result(), {"role": "assistant", "content": "Rain."}], "the last message is the assistant's"),
    ],
)  # fmt: skip
def test_calls_without_a_counterpart_are_named(talk: list[Any], said: str) -> None:
    assert said in cause(HI, *talk, tools=[TOOL])


def test_calls_need_the_tools_they_call() -> None:
    assert "needs the tools" in cause(HI, calls(), result())


def test_the_way_tools_are_called_tells_a_chat_body() -> None:
    assert is_chat_body({"messages": [HI], "tools": [TOOL]})
    assert is_chat_body({"messages": [HI], "tools": [OURS], "tool_choice": "auto"})
    assert is_chat_body({"messages": [HI, calls(), result()]})
    assert not is_chat_body({"messages": [HI, {"role": "assistant", "content": [used()]}], "tools": [OURS]})
    assert not is_chat_body({"messages": [HI], "tools": [OURS], "tool_choice": {"type": "tool", "name": "weather"}})

"""Chat bodies of OpenAI's API, taken where a Messages body says exactly the same, refused by key where none does."""

from collections.abc import Callable, Mapping
from typing import Any

from batchrunner.jobfile.faults import RefusedError, kind, shown
from batchrunner.jobfile.openai_messages import LEADING, turns_of
from batchrunner.jobfile.openai_tools import KEYS as TOOL_KEYS
from batchrunner.jobfile.openai_tools import is_function_tool, tool_parameters

CHAT_URL = "/v1/chat/completions"

#: Keys that only a chat body has: a line with one of them is read as such.
_TELLING = frozenset(
    {
        "max_completion_tokens", "stop", "n", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs",
        "logit_bias", "response_format", "seed", "user", "functions", "function_call", "parallel_tool_calls",
        "reasoning_effort", "modalities", "prediction", "stream_options", "store", "verbosity", "audio",
        "web_search_options", "prompt_cache_key", "safety_identifier",
    }
)  # fmt: skip

#: Values that say what a Messages body says by not having the key; null always does.
_NOTHING_SAID: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "temperature": (1,),
    "top_p": (1,),
    "store": (False,),
    "stream": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
_WHY = {
    "n": "one request brings one answer: write the line as often as you want answers",
    "logprobs": "the Messages API gives no log probabilities",
    "top_logprobs": "the Messages API gives no log probabilities",
    "temperature": "the Messages API takes no sampling parameters",
    "top_p": "the Messages API takes no sampling parameters",
    "seed": "the Messages API takes no seed",
    "functions": "write them as tools",
    "function_call": "write it as tool_choice",
    "reasoning_effort": 'efforts are not the same: use --set \'output_config={"effort":"low"}\'',
}


def is_chat_body(row: Mapping[str, Any]) -> bool:
    """Whether *row* can only be a chat body: by a key of it, a system message at its start, or the way tools are called."""
    messages = row.get("messages")
    if not isinstance(messages, list) or "prompt" in row:
        return False
    first = messages[0] if messages else None
    return (
        not _TELLING.isdisjoint(row)
        or (isinstance(first, dict) and first.get("role") in LEADING)
        or isinstance(row.get("tool_choice"), str)
        or ("tools" in row and is_function_tool(row["tools"]))
        or any(isinstance(message, dict) and _tells(message) for message in messages)
    )


def _tells(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "tool" or "tool_calls" in message


def messages_body(chat: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return the Messages body that says what the *chat* body says; RefusedError naming the key where none does.

    *model* stands in for a model that is none of Claude's.
    """
    body: dict[str, Any] = {}
    for key, value in chat.items():
        if key in TOOL_KEYS:
            continue
        if value is None or any(value == nothing and _alike(value, nothing) for nothing in _NOTHING_SAID.get(key, ())):
            continue
        if key not in _KEYS:
            raise RefusedError(f"{shown(key)} has no exact counterpart: {_WHY.get(key, 'take it out of the line')}")
        for name, translated in _KEYS[key](value, model).items():
            if body.setdefault(name, translated) != translated:
                raise RefusedError("max_tokens and max_completion_tokens differ: keep one of them")
    if "messages" not in body:
        raise RefusedError("the body has no messages")
    body |= tool_parameters(chat)
    if "tools" not in body and _has_calls(body["messages"]):
        raise RefusedError("the messages hold tool calls, so the body needs the tools: add them")
    return body


def _has_calls(turns: list[dict[str, Any]]) -> bool:
    contents = (turn["content"] for turn in turns if isinstance(turn["content"], list))
    return any(block["type"] == "tool_use" for content in contents for block in content)


def _alike(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool)


def _model(value: Any, model: str | None) -> dict[str, Any]:
    if isinstance(value, str) and "claude" in value.lower():
        return {"model": value}
    if model is None:
        raise RefusedError(f"model {shown(str(value))} is none of Claude's: give --model to send the line to one")
    return {"model": model}


def _max_tokens(value: Any, _: str | None) -> dict[str, Any]:
    return {"max_tokens": value}


def _stop(value: Any, _: str | None) -> dict[str, Any]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop.strip() for stop in stops):
        raise RefusedError("stop must be a string or a list of strings that are not blank")
    return {"stop_sequences": stops} if stops else {}


def _stream(value: Any, _: str | None) -> dict[str, Any]:
    return {"stream": value}


def _user(value: Any, _: str | None) -> dict[str, Any]:
    if not isinstance(value, str):
        raise RefusedError(f"user must be a string, not {kind(value)}")
    return {"metadata": {"user_id": value}}


def _response_format(value: Any, _: str | None) -> dict[str, Any]:
    wanted = value.get("type") if isinstance(value, dict) else None
    if wanted != "json_schema":
        raise RefusedError(f"response_format {shown(str(wanted))} has no exact counterpart: use json_schema")
    spec = value.get("json_schema")
    if not isinstance(spec, dict) or not isinstance(spec.get("schema"), dict):
        raise RefusedError("response_format.json_schema must be an object with a schema")
    if spec.get("strict") is not True:
        raise RefusedError('response_format.json_schema without "strict": true has no exact counterpart: add it')
    if spec.get("description") is not None:
        raise RefusedError("response_format.json_schema.description has no exact counterpart: put it into the prompt")
    return {"output_config": {"format": {"type": "json_schema", "schema": spec["schema"]}}}


def _messages(value: Any, _: str | None) -> dict[str, Any]:
    return turns_of(value)


_KEYS: Mapping[str, Callable[[Any, str | None], dict[str, Any]]] = {
    "model": _model,
    "messages": _messages,
    "max_tokens": _max_tokens,
    "max_completion_tokens": _max_tokens,
    "stop": _stop,
    "stream": _stream,
    "user": _user,
    "response_format": _response_format,
}

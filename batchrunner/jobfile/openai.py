"""Chat bodies of OpenAI's API, taken where a Messages body says exactly the same, refused by key where none does."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from batchrunner.jobfile.faults import RefusedError, kind, shown

CHAT_URL = "/v1/chat/completions"

_LEADING = frozenset({"system", "developer"})
_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/=]+)")
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
    "tools": ([],),
    "response_format": ({"type": "text"},),
}
_WHY = {
    "n": "one request brings one answer: write the line as often as you want answers",
    "logprobs": "the Messages API gives no log probabilities",
    "top_logprobs": "the Messages API gives no log probabilities",
    "temperature": "the Messages API takes no sampling parameters",
    "top_p": "the Messages API takes no sampling parameters",
    "seed": "the Messages API takes no seed",
    "tools": "tools are not translated: write the line for the Messages API",
    "reasoning_effort": 'efforts are not the same: use --set \'output_config={"effort":"low"}\'',
}


def is_chat_body(row: Mapping[str, Any]) -> bool:
    """Whether *row* can only be a chat body: by a key of it, or by a system message at its start."""
    messages = row.get("messages")
    if not isinstance(messages, list) or "prompt" in row:
        return False
    first = messages[0] if messages else None
    return not _TELLING.isdisjoint(row) or (isinstance(first, dict) and first.get("role") in _LEADING)


def messages_body(chat: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return the Messages body that says what the *chat* body says; RefusedError naming the key where none does.

    *model* stands in for a model that is none of Claude's.
    """
    body: dict[str, Any] = {}
    for key, value in chat.items():
        if value is None or any(value == nothing and _alike(value, nothing) for nothing in _NOTHING_SAID.get(key, ())):
            continue
        if key not in _KEYS:
            raise RefusedError(f"{shown(key)} has no exact counterpart: {_WHY.get(key, 'take it out of the line')}")
        for name, translated in _KEYS[key](value, model).items():
            if body.setdefault(name, translated) != translated:
                raise RefusedError("max_tokens and max_completion_tokens differ: keep one of them")
    if "messages" not in body:
        raise RefusedError("the body has no messages")
    return body


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
    if not isinstance(value, list) or not value:
        raise RefusedError("messages must be a list that is not empty")
    leading: list[Any] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(value, 1):
        place = f"message {number}"
        role, content = _role_and_content(message, place)
        if role in _LEADING:
            if turns:
                raise RefusedError(f"{place}: a {role} message after the start has no exact counterpart")
            leading += _texts(content, place)
        else:
            turns.append({"role": role, "content": content})
    if not turns:
        raise RefusedError("messages hold no user message")
    if turns[-1]["role"] == "assistant":
        raise RefusedError("the last message is the assistant's: Claude would continue it instead of answering")
    if not leading:
        return {"messages": turns}
    system: Any = leading[0]["text"] if len(leading) == 1 else leading
    return {"system": system, "messages": turns}


def _role_and_content(message: Any, place: str) -> tuple[str, Any]:
    if not isinstance(message, dict):
        raise RefusedError(f"{place} must be an object with role and content, not {kind(message)}")
    role = message.get("role")
    if role not in _LEADING | {"user", "assistant"}:
        raise RefusedError(f"{place}: the role {shown(str(role))} has no exact counterpart")
    for key, value in message.items():
        if key not in {"role", "content"} and value not in (None, []):
            raise RefusedError(f"{place}: {shown(key)} has no exact counterpart")
    content = message.get("content")
    if isinstance(content, str) and content:
        return role, content
    if not isinstance(content, list) or not content:
        raise RefusedError(f"{place} needs a content, a string or a list of parts")
    return role, [_part(part, role, place) for part in content]


def _part(part: Any, role: str, place: str) -> dict[str, Any]:
    wanted = part.get("type") if isinstance(part, dict) else None
    if wanted == "text" and isinstance(part.get("text"), str) and part.keys() == {"type", "text"}:
        return {"type": "text", "text": part["text"]}
    if wanted == "image_url" and role == "user" and part.keys() == {"type", "image_url"}:
        return {"type": "image", "source": _image(part["image_url"], place)}
    raise RefusedError(f"{place}: a part {shown(str(wanted))} of a {role} message has no exact counterpart")


def _image(image: Any, place: str) -> dict[str, Any]:
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise RefusedError(f"{place}: image_url must be an object with a url")
    if image.get("detail") not in (None, "auto") or not image.keys() <= {"url", "detail"}:
        raise RefusedError(f"{place}: image_url.detail has no exact counterpart")
    if data := _DATA_URL.fullmatch(url):
        return {"type": "base64", "media_type": data[1], "data": data[2]}
    if not url.startswith("https://"):
        raise RefusedError(f"{place}: an image must be at an https:// address or a data: URL of PNG, JPEG, GIF or WebP")
    return {"type": "url", "url": url}


def _texts(content: Any, place: str) -> list[dict[str, Any]]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if any(not block["text"] for block in blocks):
        raise RefusedError(f"{place} holds an empty text")
    return list(blocks)


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

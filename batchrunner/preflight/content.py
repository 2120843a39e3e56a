"""What must be true of the messages of a request, as far as it can be known without asking."""

from collections.abc import Callable, Iterator
from typing import Any

from batchrunner.jobfile.faults import kind, shown
from batchrunner.preflight.findings import Fault, error, warning

MOST_MESSAGES = 100_000
_ROLES = ("user", "assistant", "system")
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SOURCES = ("base64", "url", "file", "text", "content")
#: Blocks that only the assistant says.
_OF_ASSISTANT_ONLY = frozenset({"tool_use", "thinking", "redacted_thinking", "server_tool_use"})


def check_messages(messages: list[Any]) -> Iterator[Fault]:
    """Yield what is wrong with *messages*: a list of objects with role and content, as the reader has made sure."""
    if len(messages) > MOST_MESSAGES:
        yield error("too-many-messages", f"more than {MOST_MESSAGES:,} messages in one request")
    last = len(messages) - 1
    for index, message in enumerate(messages):
        yield from _message(message, is_last=index == last)
        for key in message:
            if key not in {"role", "content"}:
                yield error("message-key", f"unknown key {shown(key)} in a message: the API takes role and content")


def _message(message: dict[str, Any], *, is_last: bool) -> Iterator[Fault]:
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        yield error("role", f"the role {shown(role)} is none of {', '.join(_ROLES)}", _role_remedy(role))
    if isinstance(content, str):
        if (not content or content.isspace()) and not (is_last and role == "assistant"):
            yield error("empty-content", f"a message of the {_known(role)} without text")
        return
    if not content and not (is_last and role == "assistant"):
        yield error("empty-content", f"a message of the {_known(role)} without content")
    for block in content:
        yield from check_block(block, role)


def _known(role: str) -> str:
    return role if role in _ROLES else "unknown role"


def _role_remedy(role: str) -> str:
    return "put it into the parameter system" if role in {"developer", "System"} else ""


def check_block(block: Any, role: str) -> Iterator[Fault]:
    """Yield what is wrong with one content block of a message of *role*."""
    if not isinstance(block, dict):
        yield error("block", f"a content block must be an object, not {kind(block)}")
        return
    type_ = block.get("type")
    if not isinstance(type_, str):
        yield error("block-type", "a content block without a type")
        return
    if type_ in {"image_url", "input_text", "input_image"}:
        yield error(
            "block-type", f"the block type {shown(type_)} is OpenAI's", 'write "text", or "image" with a source'
        )
    if type_ in _OF_ASSISTANT_ONLY and role == "user":
        yield error("block-role", f"a block of type {type_} in a message of the user: only the assistant says those")
    if type_ in {"tool_result", "image", "document"} and role == "assistant":
        yield error("block-role", f"a block of type {type_} in a message of the assistant: only the user says those")
    if (check := _BLOCKS.get(type_)) is not None:
        yield from check(block)
    if "cache_control" in block:
        yield from check_cache_control(block["cache_control"])


def _text_block(block: dict[str, Any]) -> Iterator[Fault]:
    text = block.get("text")
    if not isinstance(text, str):
        yield error("text-block", f"a text block needs a text, not {kind(text)}")
    elif not text or text.isspace():
        yield error("empty-content", "a text block without text")
    if block.get("citations"):
        yield warning(
            "citations", "citations on a text block are refused under the current API version in user messages"
        )


def _media_block(block: dict[str, Any]) -> Iterator[Fault]:
    source, type_ = block.get("source"), block["type"]
    if not isinstance(source, dict):
        yield error("source", f"a block of type {type_} needs a source, an object")
        return
    form = source.get("type")
    if form not in _SOURCES:
        yield error("source", f"the source of a block of type {type_} needs a type: {', '.join(_SOURCES)}")
    elif form == "base64":
        if not isinstance(source.get("data"), str) or not source["data"]:
            yield error("source", f"a {type_} in base64 needs data, a string")
        elif source["data"].startswith("data:"):
            yield error("source", f"the data of a {type_} is a data: URL", "give the part after the comma alone")
        if type_ == "image" and source.get("media_type") not in _IMAGE_TYPES:
            yield error("media-type", f"the media_type of an image must be one of {', '.join(_IMAGE_TYPES)}")
    elif form == "url" and not str(source.get("url", "")).startswith(("https://", "http://")):
        yield error("source", f"a {type_} by URL needs a url that begins with https://")


def _tool_result(block: dict[str, Any]) -> Iterator[Fault]:
    if not isinstance(block.get("tool_use_id"), str):
        yield error("tool-result", "a tool_result needs a tool_use_id, a string")


def _tool_use(block: dict[str, Any]) -> Iterator[Fault]:
    for key, type_ in (("id", str), ("name", str), ("input", dict)):
        if not isinstance(block.get(key), type_):
            yield error("tool-use", f"a tool_use needs {key}, {'an object' if type_ is dict else 'a string'}")


def check_cache_control(value: Any) -> Iterator[Fault]:
    """Yield what is wrong with a cache breakpoint."""
    if value is None:
        return
    if not isinstance(value, dict) or value.get("type") != "ephemeral" or value.get("ttl", "5m") not in ("5m", "1h"):
        yield error("cache-control", 'cache_control must be {"type": "ephemeral"}, optionally with "ttl": "5m" or "1h"')


_BLOCKS: dict[str, Callable[[dict[str, Any]], Iterator[Fault]]] = {
    "text": _text_block,
    "image": _media_block,
    "document": _media_block,
    "tool_result": _tool_result,
    "tool_use": _tool_use,
}


def encoded_bytes(messages: list[Any]) -> int:
    """Return how many characters of the messages are images and files in base64: they cost other tokens than text."""
    total = 0
    for message in messages:
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            source = block.get("source") if isinstance(block, dict) else None
            if isinstance(source, dict) and isinstance(source.get("data"), str) and source.get("type") == "base64":
                total += len(source["data"])
    return total

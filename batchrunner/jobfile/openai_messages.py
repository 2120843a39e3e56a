"""The messages of OpenAI's chat bodies as a system prompt and turns that say exactly the same."""

import re
from typing import Any

from batchrunner.jobfile.faults import RefusedError, kind, shown
from batchrunner.jobfile.openai_tools import call_block, call_id

#: Roles whose messages make the system prompt.
LEADING = frozenset({"system", "developer"})

_ROLES = LEADING | {"user", "assistant", "tool"}
#: Keys of a message that are read, beside role and content.
_KEYS = {"assistant": {"tool_calls"}, "tool": {"tool_call_id"}}
_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/=]+)")


def turns_of(value: Any) -> dict[str, Any]:
    """Return `messages`, and `system` where there is one, for the messages of a chat body."""
    if not isinstance(value, list) or not value:
        raise RefusedError("messages must be a list that is not empty")
    leading: list[Any] = []
    turns = _Turns()
    for number, message in enumerate(value, 1):
        place = f"message {number}"
        role = _role(message, place)
        if role in LEADING:
            if turns.found:
                raise RefusedError(f"{place}: a {role} message after the start has no exact counterpart")
            leading += _texts(_content(message, role, place), place)
        else:
            turns.add(message, role, place)
    turns.end()
    if not leading:
        return {"messages": turns.found}
    system: Any = leading[0]["text"] if len(leading) == 1 else leading
    return {"system": system, "messages": turns.found}


class _Turns:
    """The turns so far. Results of calls stand together at the head of the user turn that follows the calls."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self._calls: set[str] = set()  #: Every call so far.
        self._waiting: list[str] = []  #: Calls of the latest assistant turn that have no result yet.
        self._results: list[dict[str, Any]] | None = None  #: The content of the turn of results, as long as it is open.

    def add(self, message: dict[str, Any], role: str, place: str) -> None:
        """Take the next message."""
        if role == "tool":
            self._add_result(message, place)
            return
        if self._waiting:
            raise RefusedError(f"{place}: the call {shown(self._waiting[0])} before it has no message of role tool")
        if role == "assistant" and message.get("tool_calls"):
            self._add_calls(message, place)
            return
        content = _content(message, role, place)
        if role == "user" and self._results is not None:
            self._results += _blocks(content)
        else:
            self.found.append({"role": role, "content": content})
        self._results = None

    def _add_calls(self, message: dict[str, Any], place: str) -> None:
        calls, content = message["tool_calls"], message.get("content")
        if not isinstance(calls, list):
            raise RefusedError(f"{place}: tool_calls must be a list, not {kind(calls)}")
        texts = [] if content in (None, "", []) else _blocks(_content(message, "assistant", place))
        if any(not block["text"].strip() for block in texts):
            raise RefusedError(f"{place}: a blank text beside tool calls has no exact counterpart")
        blocks = [call_block(call, place) for call in calls]
        for block in blocks:
            if block["id"] in self._calls:
                raise RefusedError(f"{place}: the id {shown(block['id'])} stands on two tool calls")
            self._calls.add(block["id"])
        self.found.append({"role": "assistant", "content": texts + blocks})
        self._waiting, self._results = [block["id"] for block in blocks], None

    def _add_result(self, message: dict[str, Any], place: str) -> None:
        call = call_id(message.get("tool_call_id"), place)
        if call not in self._waiting:
            raise RefusedError(f"{place}: no call {shown(call)} of the assistant's message before waits for a result")
        self._waiting.remove(call)
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call}
        if message.get("content") != "":  # a result that is empty is one without content
            block["content"] = _content(message, "tool", place)
        if self._results is None:
            self._results = []
            self.found.append({"role": "user", "content": self._results})
        self._results.append(block)

    def end(self) -> None:
        """Refuse messages that ask for no answer."""
        if not self.found:
            raise RefusedError("messages hold no user message")
        if self._waiting:
            raise RefusedError(f"the call {shown(self._waiting[0])} has no message of role tool after it")
        if self.found[-1]["role"] == "assistant":
            raise RefusedError("the last message is the assistant's: Claude would continue it instead of answering")


def _role(message: Any, place: str) -> str:
    if not isinstance(message, dict):
        raise RefusedError(f"{place} must be an object with role and content, not {kind(message)}")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RefusedError(f"{place}: the role {shown(str(role))} has no exact counterpart")
    known = {"role", "content", *_KEYS.get(role, ())}
    for key, value in message.items():
        if key not in known and value not in (None, []):
            raise RefusedError(f"{place}: {shown(key)} has no exact counterpart")
    return role


def _content(message: dict[str, Any], role: str, place: str) -> Any:
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    if not isinstance(content, list) or not content:
        raise RefusedError(f"{place} needs a content, a string or a list of parts")
    return [_part(part, role, place) for part in content]


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


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
    blocks = _blocks(content)
    if any(not block["text"] for block in blocks):
        raise RefusedError(f"{place} holds an empty text")
    return blocks

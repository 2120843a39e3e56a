"""Changes that `retry` lays over a request's parameters. What was asked for at first stays as it is, beside them."""

from collections.abc import Iterable, Mapping
from typing import Any

#: In a patch: text that goes behind the system prompt, whatever form that has.
SYSTEM_APPEND = "system+"


def laid_over(params: Mapping[str, Any], patches: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return *params* with *patches* laid over, one after the other, key by key; null takes a key out."""
    body = dict(params)
    for patch in patches:
        for key, value in patch.items():
            if key == SYSTEM_APPEND:
                body["system"] = _appended(body.get("system"), value)
            elif value is None:
                body.pop(key, None)
            else:
                body[key] = value
    return body


def _appended(system: Any, text: str) -> Any:
    """Return the *system* prompt with *text* behind it: a paragraph of a text, a block of a list."""
    if not system:
        return text
    if isinstance(system, list):
        return [*system, {"type": "text", "text": text}]
    return f"{system}\n\n{text}"

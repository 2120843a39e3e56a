"""What the body of an error says: codes, texts and a line for people, whoever wrote it. Pure; never raises."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: `error.type` values of the Anthropic API. An open list: others are taken for a gateway's.
ANTHROPIC_TYPES = frozenset(
    {
        "api_error",
        "authentication_error",
        "billing_error",
        "conflict_error",
        "invalid_request_error",
        "not_found_error",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "request_too_large",
        "timeout_error",
    }
)

_CODE_KEYS = frozenset({"type", "code", "error_code", "status", "__type"})
_TEXT_KEYS = frozenset({"message", "msg", "detail", "error", "reason", "error_message", "errormessage", "description"})
_DEPTH = 4
_MOST_STRINGS = 200
#: Of a larger body only this much is read: an error has said what it has to say by then.
_MOST_JSON_BYTES = 1 << 20
_MOST_TEXT_BYTES = 8192
_TAG = re.compile(r"<[^<>]*>")
_HTML_SIGNS = ("<html", "<!doctype html", "<head", "<body")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that an error body gives to judge by."""

    codes: frozenset[str] = frozenset()  #: Lower-case values of `type`, `code`, `error_code`, `status`, at any depth.
    text: str = ""  #: All texts, lower-case, joined by line breaks.
    message: str = ""  #: The first text for people, as written.
    wrapped: str = ""  #: What the API itself said, where a proxy put it into a text of its own.
    kind: str = ""  #: The first code that is a word, as written: `overloaded_error`.
    number: int | None = None  #: The first code that is an HTTP error status (400..599).
    is_html: bool = False
    is_json: bool = False  #: The body is a JSON object.
    is_anthropic: bool = False  #: The body has the API's own error envelope.
    request_id: str | None = None  #: The body's own `request_id`.

    @property
    def echoes_request(self) -> bool:
        """Whether the text may quote what the user wrote, so that its words prove nothing."""
        return "invalid_request_error" in self.codes


def read_error(body: bytes) -> Evidence:
    """Return what *body* says: JSON of any shape, HTML, plain text or nothing."""
    data = _parsed(body[:_MOST_JSON_BYTES])
    if isinstance(data, dict | list):
        return _evidence_of_json(data)
    text = body[:_MOST_TEXT_BYTES].decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return _evidence_of_markup(text)
    return Evidence(text=text.lower(), message=text)


def _parsed(body: bytes | str) -> Any:
    try:
        # Integers are read as text: some thousand digits would be an error, and only small ones mean anything here.
        return json.loads(body, parse_int=str)
    except (ValueError, RecursionError):
        return None


def _evidence_of_markup(text: str) -> Evidence:
    lowered = text.lower()
    is_html = any(sign in lowered[:2048] for sign in _HTML_SIGNS)
    title = text[lowered.find("<title>") + 7 : lowered.find("</title>")].strip() if "<title>" in lowered else ""
    # Lowering can change lengths (e.g. U+0130), so a title that spans tags was cut at the wrong place: take the text.
    words = _TAG.sub(" ", text).strip()
    return Evidence(text=words.lower(), message=title if title and "<" not in title else words, is_html=is_html)


def _evidence_of_json(data: dict[str, Any] | list[Any]) -> Evidence:
    pairs = list(_take(_strings(data, 0)))
    codes = [value for key, value in pairs if key in _CODE_KEYS]
    texts = [value for key, value in pairs if key in _TEXT_KEYS]
    top = data if isinstance(data, dict) else {}
    is_anthropic = any(_is_envelope(part) for part in (top, top.get("detail"), top.get("error")))
    return Evidence(
        codes=frozenset(code.lower() for code in codes),
        text="\n".join(texts).lower(),
        message=next((text for text in texts if text), ""),
        # The API's own texts may quote a request that holds such a thing.
        wrapped="" if is_anthropic else next(filter(None, map(_wrapped, texts)), ""),
        kind=next((code for code in codes if code.lower() != "error" and not code.isdecimal()), ""),
        number=next((int(code) for code in codes if _is_error_status(code)), None),
        is_json=isinstance(data, dict),
        is_anthropic=is_anthropic,
        request_id=top["request_id"] if isinstance(top.get("request_id"), str) else None,
    )


def _take(pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return (pair for pair, _ in zip(pairs, range(_MOST_STRINGS), strict=False))


def _strings(data: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Yield (lower-case key, text) of everything that tells, outer ones first within each object."""
    if isinstance(data, list):
        for item in data[:20]:
            yield from _strings(item, depth + 1)
    if not isinstance(data, dict) or depth > _DEPTH:
        return
    telling = [(key.lower(), value) for key, value in data.items() if key.lower() in _CODE_KEYS | _TEXT_KEYS]
    for key, value in telling:
        if isinstance(value, str):
            yield key, value
            yield from _strings(_embedded(value), depth + 1)
    for value in data.values():
        if isinstance(value, dict | list):
            yield from _strings(value, depth + 1)


def _embedded(text: str) -> Any:
    """Return JSON that stands inside a text: proxies wrap what their upstream said."""
    start, end = text.find("{"), text.rfind("}")
    return _parsed(text[start : end + 1]) if 0 <= start < end <= _MOST_TEXT_BYTES else None


def _wrapped(text: str) -> str:
    data = _embedded(text)
    said = data["error"].get("message") if _is_envelope(data) else None
    return said if isinstance(said, str) else ""


def _is_envelope(data: Any) -> bool:
    if not isinstance(data, dict) or data.get("type") != "error" or not isinstance(data.get("error"), dict):
        return False
    kind = data["error"].get("type")
    return isinstance(kind, str) and kind in ANTHROPIC_TYPES


def _is_error_status(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdecimal() and 400 <= int(code) < 600

"""Turns a response into an outcome. Pure: status, headers and bytes in, a value out; never raises.

*headers* has lower-case names or ignores case. *secrets* are literal credentials that must not show up in a failure.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from batchrunner.api.bodies import Evidence, read_error
from batchrunner.api.quotas import limit_named, quotas_of
from batchrunner.api.redact import kept_body, one_line, without_surrogates
from batchrunner.api.retry_after import retry_after_s
from batchrunner.api.statuses import class_of
from batchrunner.model import ErrorClass, Failure, Outcome, Success, Usage

# These statuses come from a proxy that lost patience or its upstream: the answer may have been made and billed.
_PAID_STATUSES = frozenset({499, 504, 520, 524})
# An error inside a 200 came after the work had begun, unless it says that the request was turned away.
_PAID_CLASSES_OF_200 = frozenset({ErrorClass.BAD_RESPONSE, ErrorClass.SERVER, ErrorClass.TIMEOUT})
#: More tokens than any model counts, and more searches than any answer makes: such a figure is none.
_MOST_TOKENS = 100_000_000
_MOST_SEARCHES = 10_000
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
#: Declined before any output, and billed all the same. Their usage is told either way.
_BILLED_REFUSALS = frozenset({"bio", "frontier_llm", "reasoning_extraction"})
#: How a service tier, a speed or a place is spelled.
_WORD = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _lenient_int(digits: str) -> int | str:
    # Python refuses to read integers of more than 4,300 digits; the message itself is kept as text anyway.
    return int(digits) if len(digits) < 20 else digits


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


# Built once: `json.loads` with options builds one for every call, which is a tenth of what a small answer costs.
_DECODER = json.JSONDecoder(parse_int=_lenient_int, parse_constant=_refuse_constant)


def classify_error(
    status: int | None,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: tuple[str, ...] = (),
    now_utc: datetime | None = None,
) -> Failure:
    """Return the failure that a response with an error *status* is (None: an error without one, as in a stream).

    *now_utc* (aware) serves only a `retry-after` date in a response without a `date`.
    """
    evidence = read_error(body)
    wait_s = retry_after_s(headers, now_utc)
    known = status if status is None or not 200 <= status < 300 else None
    error_class = class_of(evidence.number if known is None else known, evidence, has_retry_after=wait_s is not None)
    quotas = quotas_of(headers)
    is_limited = error_class is ErrorClass.RATE_LIMITED
    return Failure(
        error_class=error_class,
        message=one_line(_message(status, headers, evidence), secrets),
        http_status=status,
        api_request_id=_request_id(headers, evidence.request_id, secrets),
        retry_after_s=wait_s,
        possibly_paid=_may_be_paid(status, error_class),
        body=kept_body(body, secrets),
        quotas=quotas,
        limit=limit_named(evidence.text, quotas) if is_limited else None,
    )


def _may_be_paid(status: int | None, error_class: ErrorClass) -> bool:
    if status in _PAID_STATUSES or error_class is ErrorClass.TIMEOUT:
        return True  # whoever lost patience, the answer may have been in the making
    return (status is None or 200 <= status < 300) and error_class in _PAID_CLASSES_OF_200


def classify_message(status: int, headers: Mapping[str, str], body: bytes, *, secrets: tuple[str, ...] = ()) -> Outcome:
    """Return the success that *body* is if it is a message, else the failure it is.

    A message is strict JSON in UTF-8 with `type` "message", a list of content and a stop reason. Unknown stop reasons
    and blocks pass, and so does missing or senseless usage (counted as 0): gateways leave it out. Anything else with a
    2xx is an error that says so, or `BAD_RESPONSE`, which may have been paid for.
    """
    try:
        text = _text_of(body)
        data = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _bad_response(status, headers, body, secrets, _why_unreadable(body))
    if isinstance(data, dict) and data.get("type") != "message" and _looks_like_error(data):
        return classify_error(status, headers, body, secrets=secrets)
    fault = _fault_of(data)
    return _success(data, text, headers) if fault is None else _bad_response(status, headers, body, secrets, fault)


def _fault_of(data: Any) -> str | None:
    """Return what keeps *data* from being a finished message; None if nothing does."""
    if not isinstance(data, dict) or data.get("type") != "message":
        return "JSON of another kind"
    if not isinstance(data.get("content"), list):
        return "it has no list of content"
    if not isinstance(data.get("stop_reason"), str) or not data["stop_reason"]:
        return "it has no stop reason, so it is not complete"
    return None


def _success(data: dict[str, Any], text: str, headers: Mapping[str, str]) -> Success:
    words = "".join(
        [
            block["text"]
            for block in data["content"]
            if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
        ]
    )
    stop_reason, model = data["stop_reason"], data.get("model")
    model = model if isinstance(model, str) else ""
    if "\\u" in text and _SURROGATE_ESCAPE.search(text):
        words, stop_reason, model = map(without_surrogates, (words, stop_reason, model))
    return Success(
        message=text,
        text=words,
        stop_reason=stop_reason,
        model=model,
        usage=_usage(data.get("usage")),
        api_request_id=_request_id(headers, data.get("request_id"), ()),
        blocks=len(data["content"]),
        billed=not (stop_reason == "refusal" and _is_free(data)),
        quotas=quotas_of(headers),
    )


def _is_free(refusal: dict[str, Any]) -> bool:
    """Whether a refusal costs nothing: it came before any output, and not for one of the causes that are billed."""
    details = refusal.get("stop_details")
    category = details.get("category") if isinstance(details, dict) else None
    return not refusal["content"] and category not in _BILLED_REFUSALS


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage(is_told=False)
    split, tools = usage.get("cache_creation"), usage.get("server_tool_use")
    needed = [_count(usage.get(name)) for name in ("input_tokens", "output_tokens")]
    extras = [_count(usage.get(name) or 0) for name in ("cache_creation_input_tokens", "cache_read_input_tokens")]
    searches = _count(tools.get("web_search_requests") or 0, _MOST_SEARCHES) if isinstance(tools, dict) else 0
    written = extras[0] or 0
    return Usage(
        input_tokens=needed[0] or 0,
        output_tokens=needed[1] or 0,
        cache_write_tokens=written,
        cache_read_tokens=extras[1] or 0,
        # Nobody can have written more for an hour than at all.
        cache_write_1h_tokens=min(written, _count(split.get("ephemeral_1h_input_tokens")) or 0)
        if written and isinstance(split, dict)
        else 0,
        web_searches=searches or 0,
        service_tier=_word(usage.get("service_tier")),
        speed=_word(usage.get("speed")),
        geo=_word(usage.get("inference_geo")),
        is_told=None not in (*needed, *extras, searches),
    )


def _word(value: Any) -> str | None:
    """Return what the answer says of how it was served, None for the standard."""
    return value if isinstance(value, str) and value != "standard" and _WORD.fullmatch(value) else None


def _count(value: Any, most: int = _MOST_TOKENS) -> int | None:
    """Return the count that *value* is, however it is written; None if it is none, or none that can be true."""
    if isinstance(value, str) and len(value) < 16 and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < most else None


def _text_of(body: bytes) -> str:
    """Return the body as text; a byte order mark is not part of the JSON."""
    return body.removeprefix(b"\xef\xbb\xbf").decode("utf-8")


def _why_unreadable(body: bytes) -> str:
    if not body.strip():
        return "an empty answer"
    if body.lstrip()[:1] == b"<":
        return "a web page (check the base URL, or whether a proxy wants a login)"
    return "not JSON, or cut short"


def _looks_like_error(data: dict[str, Any]) -> bool:
    return data.get("type") == "error" or any(data.get(key) for key in ("error", "detail", "code", "error_code"))


def _bad_response(
    status: int, headers: Mapping[str, str], body: bytes, secrets: tuple[str, ...], reason: str
) -> Failure:
    return Failure(
        error_class=ErrorClass.BAD_RESPONSE,
        message=f"HTTP {status}, but no message: {reason}",
        http_status=status,
        api_request_id=_request_id(headers, None, secrets),
        retry_after_s=retry_after_s(headers),
        possibly_paid=True,
        body=kept_body(body, secrets),
    )


def _message(status: int | None, headers: Mapping[str, str], evidence: Evidence) -> str:
    """Return what is told to people: the server's words, with the status where they do not say enough."""
    if status is not None and 300 <= status < 400:
        target = headers.get("location", "nowhere")
        return (
            f"HTTP {status}: redirected to {target}; redirects are not followed, set the base URL to the final address"
        )
    label = "an error" if status is None else f"HTTP {status}"
    if not evidence.message:
        return f"{label} ({evidence.kind})" if evidence.kind else f"{label} without a text"
    if evidence.is_html:
        return f"{label}, a web page: {evidence.message}"
    if not evidence.is_json:
        return f"{label}: {evidence.message}"
    return f"{evidence.kind or label}: {evidence.message}"


def _request_id(headers: Mapping[str, str], fallback: Any, secrets: tuple[str, ...]) -> str | None:
    for value in (headers.get("request-id"), fallback):
        if isinstance(value, str) and _REQUEST_ID.fullmatch(value) and not any(s in value for s in secrets if s):
            return value
    return None

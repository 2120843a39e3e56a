"""What the API refuses before it thinks: wrong host, no credential, a body that is not a request."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from batchrunner.policy.prefixes import LIFETIMES_S, MARKER, MOST_MARKS, prefixes
from batchrunner.simulator.answers import Prompt, read_prompt
from batchrunner.simulator.catalogue import max_input_tokens, max_output_tokens
from batchrunner.simulator.replies import Rejection

LARGEST_BODY = 32 * 2**20  #: Bytes; what is larger gets a 413.

_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_WITHOUT_SAMPLING = "2026-10-21"  # from this `anthropic-version` on, sampling parameters are refused
_SAMPLING = ("temperature", "top_p", "top_k")
_FIELDS = frozenset(
    {
        *(
            "model",
            "max_tokens",
            "messages",
            "system",
            "stop_sequences",
            "stream",
            "thinking",
            "output_config",
            "tools",
        ),
        *(
            "tool_choice",
            "metadata",
            "service_tier",
            "speed",
            "cache_control",
            "container",
            "diagnostics",
            "inference_geo",
        ),
        *("betas", "fallbacks", "mcp_servers", "context_management", "compaction", "thread", "billing_policy"),
        *("fallback_credit_token", "output_format", *_SAMPLING),
    }
)


def check_host(headers: Mapping[str, str]) -> Rejection | None:
    """Refuse a `Host` that is not this machine: a web page may have bound a name of its own to the loopback address."""
    host = headers.get("host")
    try:
        known = host is None or urlsplit(f"//{host}").hostname in _HOSTS
    except ValueError:
        known = False
    return (
        None if known else Rejection(403, "permission_error", "The simulator answers to 127.0.0.1 and localhost only.")
    )


def check_credential(headers: Mapping[str, str], api_key: str | None) -> Rejection | None:
    """Want `x-api-key` or a bearer token; with *api_key*, exactly that one. As at the API, `x-api-key` counts if both are there."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
    if not given:
        return Rejection(401, "authentication_error", "x-api-key header is required")
    if api_key is not None and given != api_key:
        return Rejection(401, "authentication_error", "invalid x-api-key")
    return None


def check_size(body: bytes) -> Rejection | None:
    """Refuse a message request that is too large."""
    is_large = len(body) > LARGEST_BODY
    return Rejection(413, "request_too_large", "Request exceeds the maximum size") if is_large else None


def read_body(body: bytes) -> tuple[dict[str, Any], Prompt] | Rejection:
    """Return the JSON object that *body* holds, read as strictly as the API reads it, and its identity."""
    try:
        params = json.loads(body.decode(), parse_constant=_no_constant)
        if not isinstance(params, dict):
            return _invalid("Input should be a valid dictionary")
        return params, read_prompt(params)
    except RecursionError:
        return _invalid("The request body is not valid JSON: too deeply nested")
    except ValueError as error:
        return _invalid(f"The request body is not valid JSON: {str(error)[:200]}")


def check_params(params: Mapping[str, Any], headers: Mapping[str, str], input_tokens: int) -> Rejection | None:
    """Return what is wrong with a message request, the first fault only."""
    return next(_complaints(params, headers, input_tokens), None)


def check_count(params: Mapping[str, Any]) -> Rejection | None:
    """Return what is wrong with a request to count tokens."""
    return next(_prompt_complaints(params), None)


def check_cache(params: Mapping[str, Any]) -> Rejection | None:
    """Return what is wrong with the markers of the cache in a request that is otherwise well."""
    return next(_cache_complaints(params), None)


def _complaints(params: Mapping[str, Any], headers: Mapping[str, str], input_tokens: int) -> Iterator[Rejection]:
    version = headers.get("anthropic-version")
    if version is None:
        yield _invalid("anthropic-version: header is required")
    yield from _prompt_complaints(params)
    yield from _field_complaints(params, version or "")
    model, max_tokens = params["model"], params["max_tokens"]
    if max_tokens > (most := max_output_tokens(model)):
        yield _invalid(
            f"max_tokens: {max_tokens} > {most}, which is the maximum allowed number of output tokens for {model}"
        )
    if input_tokens > (window := max_input_tokens(model)):
        yield _invalid(f"prompt is too long: {input_tokens} tokens > {window} maximum")


def _field_complaints(params: Mapping[str, Any], version: str) -> Iterator[Rejection]:
    max_tokens = params.get("max_tokens")
    if "max_tokens" not in params:
        yield _invalid("max_tokens: Field required")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        yield _invalid("max_tokens: Input should be a valid integer")
    elif max_tokens < 0:
        yield _invalid("max_tokens: Input should be greater than or equal to 0")
    if not isinstance(params.get("stream", False), bool):
        yield _invalid("stream: Input should be a valid boolean")
    for name in params:
        if name not in _FIELDS:
            yield _invalid(f"{name}: Extra inputs are not permitted")
        if name in _SAMPLING and version >= _WITHOUT_SAMPLING:
            yield _invalid(f"{name}: not supported under anthropic-version {version}; remove it from the request")


def _prompt_complaints(params: Mapping[str, Any]) -> Iterator[Rejection]:
    model = params.get("model")
    if "model" not in params:
        yield _invalid("model: Field required")
    if not isinstance(model, str):
        yield _invalid("model: Input should be a valid string")
    elif not model.startswith("claude-"):
        yield Rejection(404, "not_found_error", f"model: {model}")
    messages = params.get("messages")
    if "messages" not in params:
        yield _invalid("messages: Field required")
    if not isinstance(messages, list):
        yield _invalid("messages: Input should be a valid list")
    elif not messages:
        yield _invalid("messages: at least one message is required")
    else:
        yield from _message_complaints(messages)


def _message_complaints(messages: list[Any]) -> Iterator[Rejection]:
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            yield _invalid(f"messages.{index}: Input should be a valid dictionary")
            return
        if message.get("role") not in ("user", "assistant", "system"):
            yield _invalid(f"messages.{index}.role: Input should be 'user', 'assistant' or 'system'")
        content = message.get("content")
        if "content" not in message:
            yield _invalid(f"messages.{index}.content: Field required")
        if not isinstance(content, str | list):
            yield _invalid(f"messages.{index}.content: Input should be a valid string or list")
        if not content:
            yield _invalid(f"messages.{index}: {message.get('role')} messages must have non-empty content")


def _cache_complaints(params: Mapping[str, Any]) -> Iterator[Rejection]:
    lifetimes = [prefix.lifetime for prefix in prefixes(params) if prefix.lifetime is not None]
    if len(lifetimes) > MOST_MARKS:
        yield _invalid(f"A maximum of {MOST_MARKS} blocks with {MARKER} may be provided. Found {len(lifetimes)}.")
    if wrong := next((name for name in lifetimes if name not in LIFETIMES_S), None):
        yield _invalid(f"{MARKER}.ttl: Input should be '5m' or '1h', not {wrong[:40]!r}")
    if lifetimes != sorted(lifetimes):  # 1h before 5m
        yield _invalid(f"{MARKER}.ttl: a ttl='1h' block must not come after a ttl='5m' block")


def _invalid(message: str) -> Rejection:
    return Rejection(400, "invalid_request_error", message)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

"""An answer as a stream of server-sent events, in the API's sequence."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from batchrunner.simulator.answers import Answer, message, usage
from batchrunner.simulator.replies import to_json

_MOST_DELTAS = 40
_DELTA_CHARS = 16


def stream_events(answer: Answer) -> tuple[bytes, ...]:
    """Return the events of *answer*, `message_start` to `message_stop`."""
    return tuple(_events(answer))


def error_event(kind: str, text: str, request_id: str) -> bytes:
    """Return the event by which the API breaks off a stream."""
    return _event("error", {"error": {"type": kind, "message": text}, "request_id": request_id})


def _events(answer: Answer) -> Iterator[bytes]:
    opening = {**message(answer), "content": [], "stop_reason": None, "stop_details": None, "usage": usage(answer, 1)}
    yield _event("message_start", {"message": opening})
    if answer.text:
        yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    yield _event("ping", {})
    for piece in _pieces(answer.text):
        yield _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
    if answer.text:
        yield _event("content_block_stop", {"index": 0})
    closing = message(answer)
    delta = {name: closing[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield _event("message_delta", {"delta": delta, "usage": closing["usage"]})
    yield _event("message_stop", {})


def _pieces(text: str) -> Iterator[str]:
    size = max(_DELTA_CHARS, math.ceil(len(text) / _MOST_DELTAS))
    return (text[start : start + size] for start in range(0, len(text), size))


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), to_json({"type": name, **data}))

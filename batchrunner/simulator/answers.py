"""What the model says: a function of the prompt, so that an answer delivered to the wrong request is visible."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchrunner.policy.prefixes import MARKER
from batchrunner.simulator.cache import CHARS_PER_TOKEN, NO_USE, CacheUse
from batchrunner.simulator.markers import NO_MARKS, Marks
from batchrunner.simulator.money import FAST, Consumption, charge_pusd
from batchrunner.simulator.schema import fitting_value, schema_asked

_MARKER = re.compile(r"\[\[sim:[^\]]*\]\]\s?")
_PROMPT_FIELDS = ("model", "system", "messages", "tools")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_MARKED = f'"{MARKER}"'.encode()
_FILLER = "and so on, "


@dataclass(frozen=True, slots=True)
class Prompt:
    """What identifies a request, worked out once for each arrival."""

    sha256: str  #: Of model, system, messages and tools: decides the answer.
    body_sha256: str  #: Of the whole body but for `stream` and layout: the request's identity in the ledger.
    tokens: int  #: Input tokens, cached or not: bytes / 4, without the markers of the cache.


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one prompt."""

    text: str
    stop_reason: str
    output_tokens: int
    input_tokens: int  #: Of the whole prompt.
    model: str
    id: str
    cache: CacheUse = NO_USE  #: What of the input went through the cache.
    fast: bool = False
    geo: str | None = None  #: Where inference was asked to run.

    def charge_pusd(self, *, batch: bool = False) -> int | None:
        """What it costs, in picodollars; None for a model without a price. Declining before a word is said costs nothing."""
        if self.stop_reason == "refusal":
            return 0
        return charge_pusd(
            Consumption(
                self.model,
                self.uncached_tokens,
                self.output_tokens,
                self.cache.write_5m,
                self.cache.write_1h,
                self.cache.read,
                fast=self.fast,
                in_us=self.geo == "us",
                batch=batch,
            )
        )

    @property
    def uncached_tokens(self) -> int:
        """Input tokens that were neither read from the cache nor written to it."""
        return self.input_tokens - self.cache.read - self.cache.written


def read_prompt(params: Mapping[str, Any]) -> Prompt:
    """Return the identity of *params*, a request body."""
    asked = _canonical({name: params[name] for name in _PROMPT_FIELDS if name in params})
    rest = _canonical(
        {name: value for name, value in params.items() if name not in _PROMPT_FIELDS and name != "stream"}
    )
    sha = hashlib.sha256(asked)
    prompt_sha256 = sha.hexdigest()
    sha.update(rest)
    size = len(asked) if _MARKED not in asked else len(_canonical(_unmarked(json.loads(asked))))
    return Prompt(prompt_sha256, sha.hexdigest(), max(1, math.ceil(size / CHARS_PER_TOKEN)))


def _unmarked(value: Any) -> Any:
    """Return *value* without the markers of the cache, which are no text."""
    if isinstance(value, dict):
        return {name: _unmarked(inner) for name, inner in value.items() if name != MARKER}
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value


def body_sha256(body: bytes) -> str:
    """Return the identity of a request body as the ledger writes it.

    The same however the JSON is laid out and whether it is streamed or not: a request that is sent again as a stream,
    or by another sender, is the same request. What is not a JSON object is identified by its bytes.
    """
    try:
        params = json.loads(body)
        if isinstance(params, dict):
            return read_prompt(params).body_sha256
    except (ValueError, RecursionError):
        pass
    return hashlib.sha256(body).hexdigest()


def _canonical(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def prompt_texts(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield every text of the prompt: system, then the messages in their order."""
    yield from _texts(params.get("system"))
    messages = params.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield from _texts(message.get("content"))


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from (str(block["text"]) for block in content if isinstance(block, dict) and "text" in block)


def answer_text(params: Mapping[str, Any], tokens: int | None = None) -> str:
    """Return the uncut answer to *params*: `Answer 0123456789ab: first words of the prompt`.

    With *tokens* it is filled up or cut to that many output tokens. A request for structured output gets JSON that
    fits its schema, whatever *tokens* says.
    """
    return _text(params, read_prompt(params), tokens)


def _text(params: Mapping[str, Any], prompt: Prompt, tokens: int | None) -> str:
    if (schema := schema_asked(params)) is not None:
        return json.dumps(fitting_value(schema, f"Answer {prompt.sha256[:12]}"))
    texts = [*prompt_texts({"messages": params.get("messages")})] or [""]
    echo = " ".join(_MARKER.sub("", texts[-1][:400]).split())[:40]
    text = f"Answer {prompt.sha256[:12]}: {echo}"
    if tokens is None:
        return text
    length = tokens * CHARS_PER_TOKEN
    missing = max(0, length - len(text) - 1)
    return f"{text} {_FILLER * (missing // len(_FILLER) + 1)}"[:length]


def compose(
    params: Mapping[str, Any], prompt: Prompt, *, attempt: int, tokens: int | None = None, marks: Marks = NO_MARKS
) -> Answer:
    """Return the answer to *params*, cut to `max_tokens` as the API would; *tokens* is the length before the cut."""
    text, stop_reason = _spoken(params, prompt, tokens, marks)
    spent = math.ceil(len(text) / CHARS_PER_TOKEN)
    largest = int(params["max_tokens"])
    if stop_reason == "end_turn" and spent > largest:
        text, spent, stop_reason = text[: largest * CHARS_PER_TOKEN], largest, "max_tokens"
    return Answer(
        text=text,
        stop_reason=stop_reason,
        output_tokens=spent if text or largest == 0 else 1,  # the API counts a token even for silence
        input_tokens=prompt.tokens,
        model=str(params["model"]),
        fast=params.get("speed") == "fast" and params["model"] in FAST,
        geo=params.get("inference_geo") if isinstance(params.get("inference_geo"), str) else None,
        id=f"msg_sim{prompt.body_sha256[:20]}{attempt:02d}",
    )


def _spoken(params: Mapping[str, Any], prompt: Prompt, tokens: int | None, marks: Marks) -> tuple[str, str]:
    if marks.refusal:
        return "", "refusal"
    if marks.empty:
        return "", "end_turn"
    asked = {name: value for name, value in params.items() if name != "output_config"} if marks.unfit else params
    text = _text(asked, prompt, tokens if marks.long_tokens is None else marks.long_tokens)
    if marks.pause:
        return text[: len(text) // 2], "pause_turn"
    return (text[: len(text) // 2], "max_tokens") if marks.truncate else (text, "end_turn")


def message(answer: Answer) -> dict[str, Any]:
    """Return the body of a complete message, in the order of the API."""
    refused = answer.stop_reason == "refusal"
    return {
        "model": answer.model,
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": answer.text}] if answer.text else [],
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": "general_harms", "explanation": None} if refused else None,
        "usage": usage(answer, answer.output_tokens),
    }


def usage(answer: Answer, output_tokens: int) -> dict[str, Any]:
    """Return the `usage` of *answer* with *output_tokens* produced so far."""
    cache = answer.cache
    served = {"speed": "fast"} if answer.fast else {}
    if answer.geo is not None:
        served["inference_geo"] = answer.geo
    return {
        "input_tokens": answer.uncached_tokens,
        "cache_creation_input_tokens": cache.written,
        "cache_read_input_tokens": cache.read,
        "cache_creation": {"ephemeral_5m_input_tokens": cache.write_5m, "ephemeral_1h_input_tokens": cache.write_1h},
        "output_tokens": output_tokens,
        "service_tier": "standard",
        **served,
    }

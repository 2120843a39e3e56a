"""The vocabulary: what a request, an attempt, an outcome and a settlement are. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    """Where a request stands. The arrows between states are in `TRANSITIONS`; in flight is not a state."""

    PENDING = "pending"  #: To be sent, at once or (after a failure) from `not_before` on.
    SUCCEEDED = "succeeded"  #: An accepted answer is in the store.
    FAILED = "failed"  #: Given up; `retry` puts it back.


#: Which state may follow which. `pending -> pending` is a retry or a halt; leaving a final state is the user's wish.
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.PENDING: frozenset({State.PENDING, State.SUCCEEDED, State.FAILED}),
        State.SUCCEEDED: frozenset({State.PENDING}),  # run --on-change rerun
        State.FAILED: frozenset({State.PENDING}),  # retry
    }
)


class ErrorClass(StrEnum):
    """What kind of failure an attempt met. What is done about each is data: `defaults.toml`."""

    RATE_LIMITED = "rate_limited"  #: 429: too many requests or tokens per minute.
    CONCURRENCY = "concurrency"  #: 429: too many requests at once.
    RAMP = "ramp"  #: 429 `ramp_limit_exceeded`: traffic grew too fast.
    OVERLOADED = "overloaded"  #: 529 or `overloaded_error`.
    SERVER = "server"  #: 5xx and the like: the server's or the gateway's fault.
    NETWORK = "network"  #: No connection, or it broke.
    TIMEOUT = "timeout"  #: Ours, 408, 504 or 524; may have been paid for.
    BAD_RESPONSE = "bad_response"  #: A 200 that is not a message; may have been paid for.
    INVALID = "invalid"  #: 400, 422: this request is wrong.
    TOO_LARGE = "too_large"  #: 413, or an answer above 64 MB.
    AUTHENTICATION = "authentication"  #: 401: the key.
    PERMISSION = "permission"  #: 403: the key may not, or not from here.
    NOT_FOUND = "not_found"  #: The model does not exist or is not offered.
    ENDPOINT = "endpoint"  #: The address is wrong: 404 of a path, a redirect.
    BILLING = "billing"  #: No credit, or a spend limit is reached.
    TRUNCATED = "truncated"  #: The answer hit `max_tokens` or the context window.
    REFUSED = "refused"  #: The model declined.
    EMPTY = "empty"  #: An answer without content.
    PAUSED = "paused"  #: The server paused a long turn with tools (`pause_turn`); it could be continued.
    SCHEMA = "schema"  #: The answer does not match the schema asked for.
    EXPIRED = "expired"  #: A batch ended before it got to this request.
    INPUT = "input"  #: The line could not be sent at all.


class LimitKind(StrEnum):
    """What the API limits per minute, for each model class on its own."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input tokens"  #: What the cache wrote counts, what it read does not.
    OUTPUT_TOKENS = "output tokens"  #: Counted as they are produced; `max_tokens` does not count.


class Quota(NamedTuple):
    """What the headers of one response say of one limit."""

    limit: int  #: Per minute.
    remaining: int | None  #: Of it, at that moment; None if they do not say.


#: What the headers of one response say; only the limits they speak of.
Quotas = Mapping[LimitKind, Quota]


class Request(NamedTuple):
    """One accepted input line. A tuple, since millions of them are made in a row."""

    custom_id: str  #: The id given, or one derived from the line.
    line: int  #: 1-based line number in the input.
    line_hash: str  #: Hash of the line as given.
    params: str  #: The Messages API body as JSON text, defaults filled in: what will be sent.
    params_hash: str  #: Hash of `params`.
    model: str
    max_tokens: int
    stream: bool = False  #: The line asked for `stream: true`.
    timeout_s: float | None = None  #: Total deadline of an attempt, if the line sets one.
    metadata: str | None = None  #: JSON object text; comes back in the export.
    fault: str | None = None  #: Why the line can never be sent; its params mean nothing then.
    prefix: str | None = None  #: Which beginnings of it the prompt cache is to keep: `prefixes.path_of`.


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request, as handed to an engine: admitted, and its start committed."""

    seq: int  #: The request's place of arrival in the store.
    number: int  #: 1 for the first attempt of the request.
    custom_id: str
    lane: str  #: The rate-limit pool it goes through.
    params: str  #: JSON text of the Messages API body; sent as it stands.
    max_tokens: int
    stream: bool = False  #: To be sent as a stream.
    timeout_s: float | None = None  #: Total deadline in seconds; None: computed from `max_tokens`.
    failures: Mapping[ErrorClass, int] = field(default_factory=dict)  #: Earlier failures that count, by class.
    prefix: str | None = None  #: Which beginnings of it the prompt cache is to keep: `prefixes.path_of`.
    answers_others: bool = False  #: Identical requests share its answer.
    leads: bool = False  #: Others wait until its answer has begun.
    endpoint: int = 0  #: Which of the run's endpoints it goes to, from 0; set when it is admitted.


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as the API counts them; `input_tokens` excludes what the cache wrote or read."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0  #: For whatever time.
    cache_read_tokens: int = 0
    cache_write_1h_tokens: int = 0  #: So many of those written are kept for an hour, which costs more; the rest 5 min.
    web_searches: int = 0
    service_tier: str | None = None  #: As the answer names it; None: standard, or nothing said. As the two below.
    speed: str | None = None  #: `fast`.
    geo: str | None = None  #: Where inference ran, if that was asked for: `us`.
    is_told: bool = True  #: False: some of it was left out, or is no figure; what the answer cost is not known.

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt: input, and what the cache wrote or read of it."""
        return self.input_tokens + self.cache_write_tokens + self.cache_read_tokens

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Input, output, cache write, cache read: the order of the store's columns."""
        return self.input_tokens, self.output_tokens, self.cache_write_tokens, self.cache_read_tokens


@dataclass(frozen=True, slots=True)
class Success:
    """A message arrived and is one. Whether it is *accepted* is policy's to say (truncated, refused, empty)."""

    message: str  #: The response body as received, JSON text.
    text: str  #: All text blocks joined.
    stop_reason: str
    model: str
    usage: Usage
    api_request_id: str | None = None
    blocks: int = 1  #: Number of content blocks of any type.
    billed: bool = True  #: False: declined before any output, for a cause that the API does not bill.
    quotas: Quotas | None = None  #: None where the endpoint says nothing of its limits.


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that brought no accepted answer."""

    error_class: ErrorClass
    message: str  #: For people: short, one line, keys redacted.
    http_status: int | None = None
    api_request_id: str | None = None
    retry_after_s: float | None = None  #: From the headers: finite, 0..300; None if absent or senseless.
    possibly_paid: bool = False  #: The server may have worked and billed although no answer came.
    body: str | None = None  #: The first 4 KB of a body that was not a message.
    answer: Success | None = None  #: The answer that policy did not accept; it is kept.
    quotas: Quotas | None = None  #: As of a success.
    limit: LimitKind | None = None  #: Of a 429: which limit it names, if it names one.


Outcome = Success | Failure


@dataclass(frozen=True, slots=True)
class Retry:
    """Put the request back; due at an instant of the monotonic clock."""

    at: float
    counted: bool = True  #: Whether the failed attempt uses up the request's budget.


@dataclass(frozen=True, slots=True)
class Fail:
    """Give this request up."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop the run, or one lane of it; the request stays pending."""

    reason: str  #: What was seen and what it usually means, for the user: one line.
    lane_only: bool = False
    steps: tuple[str, ...] = ()  #: What to try, in order.
    of_endpoint: bool = False  #: It is the endpoint that refuses: another one may help.


Decision = Retry | Fail | Halt


@dataclass(frozen=True, slots=True)
class Bill:
    """What one attempt costs, as far as it is known."""

    price: int | None = None  #: Number of the price that was applied, in the store's `prices`; None: none was.
    model: str = ""  #: That it is a price of: as the answer, or else the request, names it.
    cost_usd: float | None = None  #: Known cost, 0 if nothing was billed for certain; None: not known.
    possible_usd: float | None = None  #: Of a cost not known, as no answer or no usage came: it is at most this.
    saved_cache_usd: float = 0.0  #: Less than without a cache; below zero if the cache was written and not read.
    saved_batches_usd: float = 0.0  #: Less than over the Messages API.


#: Of what no price was applied to.
UNKNOWN = Bill()


@dataclass(frozen=True, slots=True)
class Settlement:
    """An attempt's end as it is written down in one commit."""

    attempt: Attempt
    outcome: Outcome
    decision: Decision | None  #: None for an accepted answer.
    ended_at: str  #: UTC stamp.
    not_before: str | None = None  #: UTC stamp of `Retry.at`.
    bill: Bill = UNKNOWN

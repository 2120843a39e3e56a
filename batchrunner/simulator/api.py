"""The API itself: request and time in, reply out. No sockets, no clock; chance is seeded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from batchrunner.policy.prefixes import MARKER
from batchrunner.simulator import checks
from batchrunner.simulator.answers import Answer, Prompt, body_sha256, compose, message, prompt_texts
from batchrunner.simulator.batches import BatchCall, Batches
from batchrunner.simulator.cache import Lookup, PromptCache
from batchrunner.simulator.chance import draw
from batchrunner.simulator.events import stream_events
from batchrunner.simulator.faults import FAULTS, Fault
from batchrunner.simulator.ledger import BATCHES_PATH, MESSAGES_PATH, Arrival, Ledger
from batchrunner.simulator.limits import Limits, Refusal
from batchrunner.simulator.markers import MARK, NO_MARKS, MarkerError, Marks, chosen_fault, parse_marks, scripted_fault
from batchrunner.simulator.replies import JSON_TYPE, Framing, Rejection, Reply, to_json
from batchrunner.simulator.resources import answer_plain
from batchrunner.simulator.settings import SimulatorSettings
from batchrunner.simulator.wire import spoil

_ORGANISATION = "00000000-0000-4000-8000-000000000000"
_FIRST_BYTE_SHARE = 0.2  # of the latency until an answer begins; the rest of it is spread over a stream's events
_MARKED = MARKER.encode()


@dataclass(frozen=True, slots=True)
class _Call:
    """A message request whose body could be read."""

    params: Mapping[str, Any]
    headers: Mapping[str, str]
    prompt: Prompt
    marks: Marks
    attempt: int
    now: float
    request_id: str
    is_marked: bool  #: Speaks of the cache.

    @property
    def streams(self) -> bool:
        return self.params.get("stream") is True


class Simulator:
    """The API as one client sees it. What it remembers: the ledger, the cache, and what has been used of the limits."""

    def __init__(self, settings: SimulatorSettings | None = None, ledger: Ledger | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.ledger = ledger or Ledger()
        self._limits = Limits(self.settings)
        self._cache = PromptCache()
        self._in_flight = 0  # accepted and not finished
        self.batches = Batches(self.settings, self.ledger)

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        """Return the reply to a request that arrives at *now*, seconds since `ledger.epoch`; *now* must not go back.

        Names in *headers* are lower case, or the mapping does not mind. Every reply is to be ended with `finish`.
        """
        path, _, query = path.partition("?")
        refused = checks.check_host(headers) or checks.check_credential(headers, self.settings.api_key)
        if path == MESSAGES_PATH and method == "POST":
            refused = refused or checks.check_size(body)
            reply = self._refuse(refused, body) if refused else self._message(headers, body, now)
        elif refused is None and f"{path}/".startswith(f"{BATCHES_PATH}/"):
            reply = self._batch(BatchCall(method, path, query, headers, body, now, self.ledger.next_number))
        else:
            reply = self._plain(path, refused or answer_plain(self.settings.models, method, path, query, body))
        if reply.arrival is not None:
            self._in_flight += reply.arrival.accepted
            self.ledger.arrive(reply.arrival, now)
        return reply

    def finish(self, reply: Reply, now: float, bytes_sent: int, *, delivered: bool) -> None:
        """Note that the server is done with *reply*: *bytes_sent* of its body are out, all of it if *delivered*."""
        if (arrival := reply.arrival) is None:
            return
        self._in_flight -= arrival.accepted
        self.ledger.end(arrival, now, bytes_sent, delivered=delivered)

    def ours_s(self, model: str, upto: float) -> float:
        """Return how many seconds of *model*'s whole rates were ours from instant 0 to *upto*: what a goodput is held against."""
        return self._limits.ours_s(model, upto)

    def _message(self, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        found = checks.read_body(body)
        if isinstance(found, Rejection):
            return self._refuse(found, body)
        params, prompt = found
        try:
            marks = parse_marks("\n".join(prompt_texts(params))) if MARK in body else NO_MARKS
        except MarkerError as error:
            return self._refuse(Rejection(400, "invalid_request_error", str(error)), body)
        attempt = self.ledger.next_attempt(prompt.body_sha256)
        is_marked = _MARKED in body
        return self._decide(_Call(params, headers, prompt, marks, attempt, now, self._request_id(), is_marked))

    def _decide(self, call: _Call) -> Reply:
        name, fault = self._fault(call)
        if fault is not None and not fault.accepted:
            return self._recorded(call, name, self._faulty(call, fault))
        wrong = checks.check_params(call.params, call.headers, call.prompt.tokens)
        if wrong is None and call.is_marked:
            wrong = checks.check_cache(call.params)
        if wrong is not None:
            return self._recorded(call, "rejected", self._error(wrong, call.request_id))
        if self.settings.concurrency is not None and self._in_flight >= self.settings.concurrency:
            return self._recorded(call, "limited", self._faulty(call, FAULTS["429_concurrency"]))
        model, max_tokens = str(call.params["model"]), int(call.params["max_tokens"])
        lookup = self._cache.look(call.params, call.now) if call.is_marked and self.settings.cache else Lookup()
        counted = call.prompt.tokens - lookup.use.read
        if (refusal := self._limits.admit(model, counted, max_tokens, call.now)) is not None:
            return self._recorded(call, "limited", self._limited(call, refusal))
        answer = replace(self._answer(call), cache=lookup.use)
        latency_s = self._latency_s(call) + self._writing_s(call, answer)
        paid = fault is None or fault.paid
        self._cache.use(lookup, call.now, call.now + latency_s * _FIRST_BYTE_SHARE, is_answered=paid)
        self._limits.answering(model, answer.output_tokens if paid else 0, max_tokens, call.now, latency_s)
        reply = self._carrying(call, answer, latency_s)
        if fault is not None:
            reply = spoil(reply, fault.wire, call.request_id)
        return self._recorded(call, name or "answered", reply, answer if paid else None, accepted=True)

    def _fault(self, call: _Call) -> tuple[str, Fault | None]:
        """Return the fault that *call* meets. A prompt with a script is never left to chance."""
        settings = self.settings
        if settings.outage is not None and settings.outage.low <= call.now < settings.outage.high:
            return "529", FAULTS["529"]
        if settings.silence is not None and settings.silence.low <= call.now < settings.silence.high:
            return "hang", FAULTS["hang"]
        if call.marks.script:
            name = scripted_fault(call.marks.script, call.attempt)
        else:
            name = chosen_fault(settings.faults, settings.seed, call.prompt.body_sha256, call.attempt)
        if name is None or (FAULTS[name].stream_only and not call.streams):
            return "", None
        return name, FAULTS[name]

    def _answer(self, call: _Call) -> Answer:
        spread = self.settings.output_tokens
        tokens = None if spread is None else round(spread.at(self._draw(call, "length")))
        return compose(call.params, call.prompt, attempt=call.attempt, tokens=tokens, marks=call.marks)

    def _carrying(self, call: _Call, answer: Answer, latency_s: float) -> Reply:
        headers = self._headers(call.request_id) | self._limit_headers(call)
        if not call.streams:
            return Reply(200, headers, (to_json(message(answer)),), delay_s=latency_s)
        events = stream_events(answer)
        first_s = latency_s * _FIRST_BYTE_SHARE
        return Reply(
            200,
            headers | {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"},
            events,
            delay_s=first_s,
            gap_s=(latency_s - first_s) / (len(events) - 1),
            framing=Framing.CHUNKED,
        )

    def _faulty(self, call: _Call, fault: Fault) -> Reply:
        headers = self._headers(call.request_id) | dict(fault.headers)
        if fault.limit_headers:
            headers |= self._exhausted_headers(call)
        if fault.retry_after:
            headers["retry-after"] = f"{self.settings.retry_after_s:g}"
        delay_s = self._latency_s(call) if fault.slow else 0.0
        if fault.error is not None:
            return Reply(fault.error.status, headers, (fault.error.body(call.request_id),), delay_s=delay_s)
        content_type, body = fault.raw or (JSON_TYPE, b"")
        if not content_type.startswith(JSON_TYPE):
            headers.pop("request-id")  # a page comes from something in front of the API, which knows of no ids
        return Reply(fault.status, headers | {"content-type": content_type}, (body,), delay_s=delay_s)

    def _limited(self, call: _Call, refusal: Refusal) -> Reply:
        headers = {"retry-after": str(refusal.retry_after_s), **self._limit_headers(call)}
        if refusal.ramp and (slower := FAULTS["429_ramp"].error) is not None:
            return self._error(replace(slower, headers=headers), call.request_id)
        text = f"This request would exceed your organization's rate limit of {refusal.amount:,} {refusal.limit.replace('-', ' ')} per minute."
        return self._error(Rejection(429, "rate_limit_error", text, headers=headers), call.request_id)

    def _exhausted_headers(self, call: _Call) -> dict[str, str]:
        if not self.settings.limit_headers:
            return {}
        reset = self.ledger.epoch + timedelta(seconds=call.now + self.settings.retry_after_s)
        forged = {
            "anthropic-ratelimit-requests-limit": "4000",
            "anthropic-ratelimit-requests-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return forged | self._limit_headers(call) | {"anthropic-ratelimit-requests-remaining": "0"}

    def _limit_headers(self, call: _Call) -> dict[str, str]:
        utc_now = self.ledger.epoch + timedelta(seconds=call.now)
        return self._limits.headers(str(call.params.get("model")), call.now, utc_now)

    def _latency_s(self, call: _Call) -> float:
        if call.marks.delay_s is not None:
            return call.marks.delay_s
        return self.settings.latency.at(self._draw(call, "latency"))

    def _writing_s(self, call: _Call, answer: Answer) -> float:
        speed = self.settings.tokens_per_s
        return 0.0 if speed is None or call.marks.delay_s is not None else answer.output_tokens / speed

    def _draw(self, call: _Call, purpose: str) -> float:
        return draw(self.settings.seed, call.prompt.body_sha256, call.attempt, purpose)

    def _recorded(
        self, call: _Call, action: str, reply: Reply, answer: Answer | None = None, *, accepted: bool = False
    ) -> Reply:
        return replace(
            reply,
            arrival=Arrival(
                number=self.ledger.next_number,
                path=MESSAGES_PATH,
                body=call.prompt.body_sha256,
                attempt=call.attempt,
                action=action,
                status=reply.status,
                accepted=accepted,
                paid=answer is not None,
                model=str(call.params.get("model", "")),
                input_tokens=answer.uncached_tokens if answer else 0,
                output_tokens=answer.output_tokens if answer else 0,
                cache_read_tokens=answer.cache.read if answer else 0,
                cache_write_5m_tokens=answer.cache.write_5m if answer else 0,
                cache_write_1h_tokens=answer.cache.write_1h if answer else 0,
                charge_pusd=answer.charge_pusd() if answer else 0,
            ),
        )

    def _refuse(self, rejection: Rejection, body: bytes) -> Reply:
        """Turn a request away unread."""
        sha256 = body_sha256(body)
        arrival = Arrival(
            number=self.ledger.next_number,
            path=MESSAGES_PATH,
            body=sha256,
            attempt=self.ledger.next_attempt(sha256),
            action="rejected",
            status=rejection.status,
        )
        return replace(self._error(rejection, self._request_id()), arrival=arrival)

    def _batch(self, call: BatchCall) -> Reply:
        """Return the reply to a call on the paths of the batches."""
        request_id = self._request_id()
        answer = self.batches.answer(call)
        if isinstance(answer.content, Rejection):
            reply = self._error(answer.content, request_id)
        elif isinstance(answer.content, dict):
            latency_s = self.settings.latency.at(draw(self.settings.seed, call.number, "latency"))
            reply = Reply(200, self._headers(request_id), (to_json(answer.content),), delay_s=latency_s)
        else:
            headers = self._headers(request_id) | {"content-type": "application/binary"}
            reply = Reply(200, headers, answer.content, framing=Framing.CHUNKED)
        reply = spoil(reply, answer.wire, request_id)
        return replace(reply, arrival=Arrival(call.number, call.path, "", 1, answer.action, reply.status))

    def _plain(self, path: str, answer: Rejection | dict[str, Any]) -> Reply:
        request_id = self._request_id()
        if isinstance(answer, Rejection):
            reply, action = self._error(answer, request_id), "rejected"
        else:
            reply, action = Reply(200, self._headers(request_id), (to_json(answer),)), "served"
        return replace(reply, arrival=Arrival(self.ledger.next_number, path, "", 1, action, reply.status))

    def _error(self, rejection: Rejection, request_id: str) -> Reply:
        headers = {**self._headers(request_id), **rejection.headers}
        return Reply(rejection.status, headers, (rejection.body(request_id),))

    def _headers(self, request_id: str) -> dict[str, str]:
        return {"content-type": JSON_TYPE, "request-id": request_id, "anthropic-organization-id": _ORGANISATION}

    def _request_id(self) -> str:
        return f"req_sim{self.ledger.next_number:012d}"

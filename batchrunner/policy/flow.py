"""One lane's flow control: every policy in its place, as one pure object. `limiter.py` does the waiting."""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from batchrunner.model import Attempt, ErrorClass, Failure, LimitKind, Outcome, Quotas, Success, Usage
from batchrunner.policy.accounts import DEPTH_S, MINUTE_DEPTH_S
from batchrunner.policy.breaker import OUTAGE, Breaker
from batchrunner.policy.concurrency import Concurrency
from batchrunner.policy.estimates import CHARS_PER_TOKEN, InputEstimate, OutputEstimate
from batchrunner.policy.gate import Gate
from batchrunner.policy.holdups import HoldUps, Reason
from batchrunner.policy.judge import GATED, NOTHING, Lesson
from batchrunner.policy.ramp import AFTER_OUTAGE_S
from batchrunner.policy.requests import RequestLimit
from batchrunner.policy.reserving import ReservingWatch
from batchrunner.policy.retry import Rules
from batchrunner.policy.tokens import TokenLimit
from batchrunner.policy.window import Rate

#: A probe that failed goes to the back, so that the next one is another row: this one may be to blame itself.
_NEXT_TURN_S = 7.5
_UNBOUNDED = 1 << 40
_MUCH_LESS = 0.9


class Permit(NamedTuple):
    """From when on a start is permitted, and what it waits for until then."""

    at: float
    reason: Reason


@dataclass(slots=True, eq=False)
class Place:
    """What an admitted attempt holds of its lane's limits."""

    input_tokens: float
    output_tokens: float
    admitted_at: float = 0.0
    sent_at: float | None = None  #: Monotonic; None until it went out.
    nth: int = 0  #: It was the lane's nth send.
    own_sends: int = 0  #: Of which so many in the minute before it.


class Around(NamedTuple):
    """What else is known when an attempt is over."""

    in_flight: int  #: Attempts of the lane, this one included.
    is_suspect: bool = False  #: A refusal says more of the request than of the lane.


class Flow:
    """When may a lane's next attempt start? Gate, breaker, windows, token accounts; and what every outcome teaches."""

    def __init__(
        self,
        rate: Rate | None = None,
        itpm: int | None = None,
        otpm: int | None = None,
        *,
        cap: int,
        cautious_cap: int,
        rules: Rules,
        rng: random.Random,
        burst: bool = False,
    ) -> None:
        """Keep *rate*, *itpm* and *otpm* (tokens per minute; None: the endpoint's), and at most *cap* in flight.

        *cautious_cap*: as long as nobody names a rate.
        """
        self.requests = RequestLimit(rate, burst=burst)
        self.inputs = TokenLimit(LimitKind.INPUT_TOKENS, itpm)
        self.outputs = TokenLimit(LimitKind.OUTPUT_TOKENS, otpm)
        self.gate = Gate()
        self.breaker = Breaker(rng)
        self.concurrency = Concurrency(cap, cautious_cap)
        self.holdups = HoldUps()
        self.stuck_since: float | None = None  #: Nothing was answered since, and something was refused or failed.
        self._rules = rules
        self._input_estimate = InputEstimate()
        self._output_estimate = OutputEstimate()
        self._reserving = ReservingWatch()
        self._places: set[Place] = set()  # of what is in flight
        self._rebased_to = math.inf

    def begin(self, now: float, work: int, sent_before: Iterable[float] = ()) -> None:
        """Begin to work on so many requests; *sent_before*: sends of an earlier run within the last period."""
        self.requests.seed(sent_before)
        self.requests.begin(now, work)

    def look(self, now: float) -> None:
        """A start is wanted: notice pauses."""
        self.requests.look(now)

    def place_for(self, attempt: Attempt, kept_chars: int = 0) -> Place:
        """Return what *attempt* will need, by what those before it have used; *kept_chars* of it are in the prompt cache."""
        inputs = self._input_estimate.tokens(attempt.params, kept_chars)
        return Place(inputs, self._output_estimate.tokens(attempt.max_tokens))

    def impossible(self, attempt: Attempt) -> str | None:
        """Return why *attempt* can never be admitted; None if it can, or if that is not certain."""
        at_least = self._input_estimate.at_least(attempt.params, attempt.prefix)
        if not self.inputs.is_impossible(at_least):
            return None
        return (
            f"The request has at least {at_least:,.0f} input tokens; the limit is "
            f"{self.inputs.per_minute:,} per minute, so it can never be let through."
        )

    def admit_at(self, now: float, place: Place) -> Permit:
        """Return the earliest instant at which an attempt may start; infinite until something is sent or settled."""
        waits = (
            Permit(self.gate.open_at, Reason.REFUSED),
            Permit(self.breaker.admit_at(now), Reason.OUTAGE),
            Permit(self.requests.admit_at(now), Reason.REQUESTS),
            Permit(self.inputs.admit_at(now, place.input_tokens), Reason.INPUT_TOKENS),
            Permit(self.outputs.admit_at(now, place.output_tokens), Reason.OUTPUT_TOKENS),
        )
        latest = max(waits, key=_instant)
        return latest if latest.at > now else Permit(now, latest.reason)

    def room(self, now: float) -> int:
        """Return how many attempts may be in flight at *now*."""
        pace = self.requests.pace(now)[0]
        known = (self.requests.per_minute, self.inputs.per_minute, self.outputs.per_minute)
        # A burst needs room that an even pace does not, and tokens do not tell how many requests they make.
        is_paced = pace < math.inf or all(limit is None for limit in known)
        return self.concurrency.limit(now, pace if is_paced else None)

    def reserve(self, now: float, place: Place) -> None:
        """An attempt is admitted; `sent` or `give_back` must follow."""
        place.admitted_at = now
        self._places.add(place)
        self.requests.reserve()
        if self.breaker.reserve(now):
            self._recovered(now)
        self.inputs.reserve(now, place.input_tokens)
        self.outputs.reserve(now, place.output_tokens)

    def sent(self, now: float, place: Place) -> None:
        """It goes out: the moment that counts."""
        place.sent_at = now
        place.own_sends = self.requests.stamp(now)
        place.nth = self.requests.sends
        self.breaker.sent(now)
        self.holdups.sent(now)

    def give_back(self, now: float, place: Place) -> None:
        """It never went out."""
        self.requests.release()
        self._settle_tokens(now, place, 0, 0)

    def learn(self, now: float, attempt: Attempt, outcome: Outcome, place: Place, around: Around) -> Lesson:
        """Take in what became of an admitted *attempt*; say what that means for it."""
        outage = outcome if isinstance(outcome, Failure) and outcome.error_class in OUTAGE else None
        if (sent_at := place.sent_at) is None:  # no connection, or nothing that could be sent
            self.give_back(now, place)
            return self._failed(now, place.admitted_at, attempt, outage, around) if outage else NOTHING
        self._settle(now, attempt, outcome, place)
        if outcome.quotas:
            self._note_quotas(_credible(outcome.quotas, outcome), now, sent_at, place)
        if outage:
            return self._failed(now, sent_at, attempt, outage, around)
        if isinstance(outcome, Failure) and outcome.error_class in GATED:
            self.breaker.refused(sent_at)
            return self._refused(now, sent_at, outcome, around)
        if self.breaker.answered(now, sent_at):
            self._recovered(now)
        self.stuck_since = None
        if not isinstance(outcome, Failure):
            self.gate.succeeded(sent_at)
            self.concurrency.answered(now, sent_at)
        return NOTHING

    def suspended(self, now: float) -> None:
        """The machine slept: connections are dead, credit that piled up is not ours to spend."""
        self.breaker.forgive(now)
        self.requests.come_back(now)
        self.concurrency.restart()
        self.stuck_since = None

    def _failed(self, now: float, sent_at: float, attempt: Attempt, failure: Failure, around: Around) -> Lesson:
        self.holdups.failed()
        self.stuck_since = now if self.stuck_since is None else self.stuck_since
        was_open = self.breaker.is_open
        if not self.breaker.failed(now, sent_at, attempt.seq, failure.error_class, under_way=around.in_flight):
            return NOTHING
        return Lesson(excused=True, retry_at=now + _NEXT_TURN_S if was_open else now)

    def _refused(self, now: float, sent_at: float, failure: Failure, around: Around) -> Lesson:
        self.holdups.refused()
        self.stuck_since = now if self.stuck_since is None else self.stuck_since
        rule = self._rules[failure.error_class]
        if around.is_suspect:
            return Lesson(excused=True, retry_at=now + (failure.retry_after_s or rule.first_s))
        if failure.error_class is ErrorClass.RATE_LIMITED and self.requests.stray.refused(now, self.requests.sends):
            # No pace is slow enough for it: only a time that the server names holds the others up.
            if failure.retry_after_s is not None:
                self.gate.close(now, sent_at, failure.retry_after_s, 0.0)
            return Lesson(excused=True, retry_at=max(self.gate.open_at, now + rule.first_s))
        at_once = failure.error_class is ErrorClass.CONCURRENCY
        self.concurrency.refused(now, sent_at, around.in_flight, at_once=at_once)
        if at_once and failure.retry_after_s is None:  # fewer slots are the remedy; the others may go on
            return Lesson(excused=True, retry_at=now + rule.first_s)
        self.gate.close(now, sent_at, failure.retry_after_s, rule.nominal_s(self.gate.closings + 1))
        if failure.error_class is ErrorClass.RAMP:
            self.requests.ramp.slow(now)
        if failure.error_class is ErrorClass.RATE_LIMITED:
            self._cut(now, sent_at, failure.limit)
        return Lesson(excused=True, retry_at=self.gate.open_at)

    def _cut(self, now: float, sent_at: float, kind: LimitKind | None) -> None:
        """Lower what the refusal is about; where that is unknown, the rate of requests."""
        limit = {LimitKind.INPUT_TOKENS: self.inputs, LimitKind.OUTPUT_TOKENS: self.outputs}.get(kind)  # type: ignore[arg-type]
        if limit is None or limit.per_minute is None:
            self.requests.refused(now, sent_at)
            return
        limit.refused(now, sent_at, self.holdups.meters[limit.kind].minute / 60)
        if limit is self.outputs and self._reserving.refused(now, self.requests.sends):
            self._reserve_all(now, on=True)

    def _recovered(self, now: float) -> None:
        self.requests.come_back(now, AFTER_OUTAGE_S)
        self.concurrency.restart()

    def _settle(self, now: float, attempt: Attempt, outcome: Outcome, place: Place) -> None:
        answer = outcome if not isinstance(outcome, Failure) else outcome.answer
        if answer is not None:
            inputs, outputs = self._used(now, attempt, answer, place)
            self.holdups.used(now, inputs, outputs)
            self._settle_tokens(now, place, inputs, outputs)
        elif isinstance(outcome, Failure) and outcome.possibly_paid:
            self._settle_tokens(now, place, place.input_tokens, place.output_tokens)
        else:
            self._settle_tokens(now, place, 0, 0)
        if self._reserving.is_over(self.requests.sends):
            self._reserve_all(now, on=False)

    def _used(self, now: float, attempt: Attempt, answer: Success, place: Place) -> tuple[int, int]:
        """Return the tokens that *answer* counts for, and let the estimates learn from it."""
        usage = answer.usage
        if not usage.is_told or usage == Usage():  # gateways leave it out, or forge it
            return round(place.input_tokens), round(len(answer.text) / CHARS_PER_TOKEN)
        counted = usage.input_tokens + usage.cache_write_tokens
        self._input_estimate.note(attempt.params, counted + (usage.cache_read_tokens if attempt.prefix else 0))
        self._output_estimate.note(usage.output_tokens)
        self._rebase(now)
        return counted, usage.output_tokens

    def _reserve_all(self, now: float, *, on: bool) -> None:
        self._output_estimate.reserve_all = on
        self._rebase(now)
        self.outputs.deepen(now, MINUTE_DEPTH_S if on else DEPTH_S)

    def _rebase(self, now: float) -> None:
        """Let what is in flight reserve no more than what starts now, if that has become much less.

        Otherwise the difference would come back bit by bit and let more start than the server's bucket has held.
        """
        estimate = self._output_estimate.tokens(_UNBOUNDED)
        if estimate > _MUCH_LESS * self._rebased_to:
            self._rebased_to = max(self._rebased_to, estimate)
            return
        self._rebased_to = estimate
        surplus = 0.0
        for place in self._places:
            if place.output_tokens > estimate:
                surplus += place.output_tokens - estimate
                place.output_tokens = estimate
        self.outputs.settle(now, surplus, 0)

    def _settle_tokens(self, now: float, place: Place, inputs: float, outputs: float) -> None:
        self._places.discard(place)
        self.inputs.settle(now, place.input_tokens, inputs)
        self.outputs.settle(now, place.output_tokens, outputs)

    def _note_quotas(self, quotas: Quotas, now: float, sent_at: float, place: Place) -> None:
        if (quota := quotas.get(LimitKind.REQUESTS)) is not None:
            self.requests.offer(quota, now, sent_at, place.nth, place.own_sends)
        for limit in (self.inputs, self.outputs):
            if (quota := quotas.get(limit.kind)) is not None:
                limit.offer(quota, now, sent_at)


def _credible(quotas: Quotas, outcome: Outcome) -> Quotas:
    """Return *quotas* without a limit on input tokens that this very answer exceeds: gateways forge such headers."""
    quota = quotas.get(LimitKind.INPUT_TOKENS)
    if quota is None or isinstance(outcome, Failure):
        return quotas
    if outcome.usage.input_tokens + outcome.usage.cache_write_tokens <= quota.limit:
        return quotas
    return {kind: told for kind, told in quotas.items() if kind is not LimitKind.INPUT_TOKENS}


def _instant(permit: Permit) -> float:
    return permit.at

"""One lane's limiter: waits until the lane's flow control permits the next start, and holds the pacer."""

import math
import random

import anyio
from aiolimiter import AsyncLimiter

from batchrunner.clock import Clock
from batchrunner.model import Attempt, ErrorClass, Failure, Outcome
from batchrunner.policy.failover import Door
from batchrunner.policy.flow import Around, Flow, Permit, Place
from batchrunner.policy.holdups import HoldUps, Reason
from batchrunner.policy.judge import Lesson
from batchrunner.policy.retry import Rules
from batchrunner.policy.silence import Silence
from batchrunner.settings import Limits

#: A late wake-up is caught up by at most so many seconds' worth of starts.
CATCH_UP_S = 0.25
#: A start that is worth more than this is not waited out once the rate has risen.
_LONG_START_S = 0.5


class Pacer:
    """Spreads starts evenly, at a rate that may change from one to the next.

    `AsyncLimiter` is a leaky bucket whose drain rate is fixed at construction, so it holds *seconds*: one drains per
    second, a start pours in the `1/rate` seconds it is worth, and the rim stands `CATCH_UP_S` above one start. It
    begins full to the brim but for one start: there is nothing to catch up yet.
    """

    def __init__(self) -> None:
        self._bucket: AsyncLimiter | None = None
        self._cost_s = 0.0

    async def acquire(self, rate: float) -> None:
        """Wait for the next start's turn at *rate* per second and take it. One waiter at a time."""
        cost_s = 1 / rate
        if self._bucket is None or (self._cost_s > _LONG_START_S and cost_s < self._cost_s / 2):
            self._bucket = AsyncLimiter(1, 1)
            self._bucket.max_rate = CATCH_UP_S + cost_s
            await self._bucket.acquire(CATCH_UP_S)
        self._cost_s = cost_s
        self._bucket.max_rate = CATCH_UP_S + cost_s
        await self._bucket.acquire(cost_s)


class Limiter:
    """Admits one lane's attempts, in the order in which its one task asks, so nobody overtakes."""

    def __init__(self, limits: Limits, *, clock: Clock, rules: Rules, rng: random.Random) -> None:
        """Keep *limits*; what they leave open is the endpoint's to say."""
        self.flow = Flow(
            limits.rate,
            limits.itpm,
            limits.otpm,
            cap=limits.cap,
            cautious_cap=limits.cautious_cap,
            burst=limits.burst,
            rules=rules,
            rng=rng,
        )
        self.silence = Silence()
        self._clock = clock
        self._pacer = Pacer()
        self._pacing: anyio.CancelScope | None = None
        self._paced = False  # the pacer's turn has come, the start has not
        self._place: Place | None = None
        self._changed: anyio.Event | None = None  # set when somebody waits and the answer may be another

    @property
    def holdups(self) -> HoldUps:
        """What the lane has been waiting for."""
        return self.flow.holdups

    @property
    def door(self) -> Door:
        """What keeps the lane out if the endpoint fails: its breaker, or a silence."""
        return self.flow.breaker if self.flow.breaker.is_open else self.silence

    def room(self) -> int:
        """Return how many attempts of this lane may be in flight now."""
        return self.flow.room(self._clock.monotonic()) + self.silence.overdue

    @property
    def fullness(self) -> Reason:
        """What a lane waits for that finds no slot free: one of its own, or that those who hold them are answered at all."""
        return Reason.SILENCE if self.silence.is_open else Reason.CONCURRENCY

    def impossible(self, attempt: Attempt) -> str | None:
        """Return why *attempt* can never be admitted; None if it can."""
        return self.flow.impossible(attempt)

    async def ready(self, attempt: Attempt, kept_chars: int = 0) -> None:
        """Wait until *attempt* may start; `admit` may follow at once. One caller at a time: the lane's task.

        *kept_chars*: so much of it the prompt cache delivers.
        """
        self.flow.look(self._clock.monotonic())
        try:
            while True:
                self._place = self.flow.place_for(attempt, kept_chars)
                await self._wait_for_permit(self._place)
                rate, reason = self.flow.requests.pace(self._clock.monotonic())
                if self._paced or rate == math.inf:
                    return
                await self._wait_for_turn(rate, reason)
        finally:
            self.holdups.end(self._clock.monotonic())

    def admit(self) -> "Admission":
        """Reserve a place for the attempt that `ready` was waited for."""
        if self._place is None:
            raise AssertionError("admit without ready")
        self._paced = False
        place, self._place = self._place, None
        self.flow.reserve(self._clock.monotonic(), place)
        self.silence.reserve(self._clock.monotonic())
        return Admission(self, place)

    async def _wait_for_turn(self, rate: float, reason: Reason) -> None:
        self.holdups.begin(self._clock.monotonic(), reason)
        with anyio.CancelScope() as self._pacing:
            await self._pacer.acquire(rate)
            self._paced = True
        self._pacing = None
        self.holdups.end(self._clock.monotonic())

    async def _wait_for_permit(self, place: Place) -> None:
        while (permit := self._permit(now := self._clock.monotonic(), place)).at > now:
            self.holdups.begin(now, permit.reason)
            if self._changed is None:
                self._changed = anyio.Event()
            async with anyio.create_task_group() as group:
                if permit.at < math.inf:
                    group.start_soon(self._wake_at, permit.at, group.cancel_scope)
                await self._changed.wait()
                group.cancel_scope.cancel()

    def _permit(self, now: float, place: Place) -> Permit:
        permit = self.flow.admit_at(now, place)
        speaks_at = self.silence.admit_at(now)
        return Permit(speaks_at, Reason.SILENCE) if speaks_at > max(now, permit.at) else permit

    async def _wake_at(self, instant: float, waiting: anyio.CancelScope) -> None:
        await self._clock.sleep_until(instant)
        waiting.cancel()

    def sent(self, place: Place) -> None:
        """An admitted attempt goes out now."""
        now = self._clock.monotonic()
        self.flow.sent(now, place)
        self.silence.sent(now, place, place.output_tokens)
        self.notify()

    def begun(self, place: Place) -> None:
        """The streamed answer to an admitted attempt begins to arrive."""
        self.silence.begun(self._clock.monotonic(), place)
        self.notify()

    def given_back(self, place: Place) -> None:
        """An admitted attempt never went out."""
        self.flow.give_back(self._clock.monotonic(), place)
        self.notify()

    def learn(self, attempt: Attempt, outcome: Outcome, place: Place, around: Around) -> Lesson:
        """Take in what became of an admitted attempt."""
        now = self._clock.monotonic()
        lesson = self.flow.learn(now, attempt, outcome, place, around)
        is_answer = not isinstance(outcome, Failure)
        self.silence.came_back(now, place, is_answer=is_answer, is_heard=is_answer or not _ran_out(outcome))
        self.notify()
        return lesson

    def retune(self, limits: Limits) -> None:
        """Keep other *limits* from now on; whoever waits is told."""
        now = self._clock.monotonic()
        self.flow.requests.retune(limits.rate)
        self.flow.inputs.retune(now, limits.itpm)
        self.flow.outputs.retune(now, limits.otpm)
        self.flow.concurrency.permit(limits.cap, limits.cautious_cap)
        if self._pacing is not None:
            self._pacing.cancel()
        self.notify()

    def suspended(self, now: float) -> None:
        """The machine slept until *now*."""
        self.flow.suspended(now)
        self.silence.suspended(now)
        self.notify()

    def notify(self) -> None:
        """Let whoever waits ask again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _ran_out(outcome: Outcome) -> bool:
    """Whether nothing came within the time that the attempt had."""
    return isinstance(outcome, Failure) and outcome.error_class is ErrorClass.TIMEOUT and outcome.http_status is None


class Admission:
    """One attempt's place in its lane's limits, from admission to the wire."""

    __slots__ = ("_closed", "_limiter", "place")

    def __init__(self, limiter: Limiter, place: Place) -> None:
        self._limiter = limiter
        self._closed = False
        self.place = place

    @property
    def sent_at(self) -> float | None:
        """Monotonic; None until it went out."""
        return self.place.sent_at

    def mark_sent(self) -> None:
        """The request is on the wire: the moment that counts."""
        if self.place.sent_at is None and not self._closed:
            self._limiter.sent(self.place)

    def mark_begun(self) -> None:
        """The streamed answer begins to arrive."""
        self._limiter.begun(self.place)

    def learn(self, attempt: Attempt, outcome: Outcome, in_flight: int, *, is_suspect: bool = False) -> Lesson:
        """Its *attempt*, one of so many in flight, is over: settle the place and say what that means for the request.

        *is_suspect*: a refusal says more of the request than of the lane.
        """
        self._closed = True
        return self._limiter.learn(attempt, outcome, self.place, Around(in_flight, is_suspect))

    def close(self) -> None:
        """Give the place back if the attempt never went out."""
        if self.place.sent_at is None and not self._closed:
            self._closed = True
            self._limiter.given_back(self.place)

"""One lane as the dispatcher sees it: what it was given from the queue, and what it has in hand."""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import anyio

from batchrunner.clock import Clock, stamp
from batchrunner.failpoints import Point, reach
from batchrunner.limiter import Admission, Limiter
from batchrunner.model import Attempt, Outcome, Retry
from batchrunner.parking import Parking
from batchrunner.policy.courses import Courses, Span
from batchrunner.policy.failover import Standing, choose
from batchrunner.policy.holdups import Reason
from batchrunner.policy.judge import Lesson
from batchrunner.policy.priming import Priming
from batchrunner.settings import Limits
from batchrunner.store.queue import Claim, Claimed

#: Reads the queue for a lane, off the event loop.
ReadQueue = Callable[[Claim], Awaitable[Claimed]]

#: Stamps hold milliseconds: what is due by the clock is due by its stamp so much later at most.
_STAMP_S = 0.002


@dataclass(slots=True, eq=False)
class Berth:
    """An endpoint as one lane uses it."""

    index: int  #: Its place in the order of the run's endpoints.
    standing: Standing  #: Of the endpoint; all lanes share it.
    limiter: Limiter
    limits: Limits = field(default_factory=Limits)  #: The endpoint's own.
    in_flight: int = 0  #: Attempts of the lane that hold a slot there.
    priming: Priming = field(default_factory=Priming)  #: Of the endpoint's prompt cache.

    @property
    def is_down(self) -> bool:
        """Whether an outage is on there, or a silence."""
        return self.limiter.door.is_open

    def settled(self, lane: str, *, is_answer: bool, now: float) -> None:
        """An attempt of *lane* is over, and the limiter has learnt of it."""
        self.standing.settled(lane, is_answer=is_answer, is_down=self.is_down, now=now)


@dataclass(slots=True, eq=False)
class Lane:
    """A rate-limit pool at work; with several endpoints one of each, of which one is in use at a time."""

    name: str  #: The model class.
    limiter: Limiter  #: Of the endpoint in use.
    clock: Clock
    berths: list[Berth] = field(default_factory=list)  #: In the order in which they are preferred, at least one.
    due: deque[Attempt] = field(default_factory=deque)  #: To be sent next.
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)  #: Of its dispatching task.
    retrying: int = 0  #: Requests that this run put back and has not claimed again yet.
    is_through: bool = False  #: Everything of it is final.
    berth: Berth = field(init=False)  #: In use.
    parking: Parking = field(init=False)  #: What waits for the prompt cache.
    _turning: anyio.CancelScope | None = None  # of a wait for the berth in use
    _in_vain: set[int] = field(default_factory=set)  # seq of what an endpoint that is down has failed
    _in_hand: set[int] = field(default_factory=set)  # seq of what is due here, starting, or in flight
    _courses: Courses = field(default_factory=Courses)
    _behind: int = 0  # fresh requests in `due` when the retries before them were claimed
    _next_due_at: float | None = None
    _woken: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.berths = self.berths or [Berth(0, Standing(), self.limiter)]
        self.berth = self.berths[0]
        self.parking = Parking(self.clock, self.berth.priming)

    @property
    def in_flight(self) -> int:
        """Attempts that hold a slot."""
        return sum(berth.in_flight for berth in self.berths)

    @property
    def is_afloat(self) -> bool:
        """Whether an endpoint is left that does not refuse everything."""
        return not all(berth.standing.is_given_up(self.name) for berth in self.berths)

    @property
    def stuck_since(self) -> float | None:
        """Since when no endpoint that is left has answered anything; None: one does, or nothing was tried."""
        left = [berth.limiter.flow.stuck_since for berth in self.berths if not berth.standing.is_given_up(self.name)]
        since = [instant for instant in left if instant is not None]
        return max(since) if since and len(since) == len(left) else None

    def turn(self) -> Berth:
        """Turn to the endpoint to be used now, and return it."""
        if len(self.berths) > 1:
            if (chosen := self._choice()) is not self.berth:
                self.parking.turn(chosen.priming)
            self.berth = chosen
            self.limiter = self.berth.limiter
            requests = self.limiter.flow.requests
            if self.berth.index and not requests.sends and not self.berth.in_flight:
                requests.come_back(self.clock.monotonic())  # all the traffic at once would be too sudden
        return self.berth

    async def ready(self) -> bool:
        """Wait until the next attempt may start at the endpoint in use; False: look for another one first."""
        if len(self.berths) == 1:
            await self.limiter.ready(self.due[0], self.parking.kept_chars(self.due[0]))
            return True
        with anyio.CancelScope() as self._turning:
            await self.limiter.ready(self.due[0], self.parking.kept_chars(self.due[0]))
        is_ready = not self._turning.cancelled_caught
        self._turning = None
        return is_ready

    def reconsider(self) -> None:
        """Something has happened at an endpoint: let whoever waits for the one in use look whether it still is the one."""
        if self._turning is not None and self._choice() is not self.berth:
            self._turning.cancel()

    def failed_in_vain(self, attempt: Attempt) -> None:
        """An endpoint that is down has failed *attempt*: its request does not try that one again while others answer."""
        self._in_vain.add(attempt.seq)

    def has_another(self, berth: Berth) -> bool:
        """Whether an endpoint other than that of *berth* is left and answers."""
        return any(
            not (other is berth or other.standing.is_given_up(self.name) or other.is_down) for other in self.berths
        )

    def _choice(self) -> Berth:
        standings = [berth.standing for berth in self.berths]
        doors = [berth.limiter.door for berth in self.berths]
        may_probe = not self.due or self.due[0].seq not in self._in_vain
        chosen = choose(standings, doors, self.name, self.clock.monotonic(), may_probe=may_probe)
        return self.berth if chosen is None else self.berths[chosen]

    async def fill(self, read: ReadQueue) -> bool:
        """Wait until something is due; False when the lane has come to its end."""
        while True:
            if self.parking.count:
                self._release()
            if self._wants_more():
                await self._claim(read)
            elif self.due:
                if self.due[0].prefix is None or not self.parking.parks(self.due):
                    return True
            elif self._next_due_at is None and not self._in_hand:
                return False
            else:
                await self._wait()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more of it is sent."""
        return self.is_through or self.scope.cancel_called

    @property
    def has_more(self) -> bool:
        """Whether it may have something more to send, now or later."""
        if self.due or self.parking.count:
            return True
        return not self.has_ended and (self._courses.more or self._next_due_at is not None)

    @property
    def is_alone(self) -> bool:
        """Whether one request in hand is all that the lane has left."""
        return len(self._in_hand) == 1 and not self._courses.more and self._next_due_at is None

    def settled(self, attempt: Attempt, retry: Retry | None) -> None:
        """An attempt of this lane is over and committed; *retry* says when its request is due again."""
        self._in_hand.discard(attempt.seq)
        if retry is None:
            self._in_vain.discard(attempt.seq)
        if retry is not None:
            self.retrying += 1
            self._note_due(retry.at + _STAMP_S)
        self._woken.set()

    def _wants_more(self) -> bool:
        if len(self.due) > self._behind:
            return False  # retries stand first: while there are any, further ones can wait in the store
        retry_due = self._next_due_at is not None and self._next_due_at <= self.clock.monotonic()
        return retry_due or (not self.due and self._has_fresh())

    def _has_fresh(self) -> bool:
        return self._courses.has_plain(is_full=self.parking.is_full) or self._next_span() is not None

    def _next_span(self) -> Span | None:
        return self._courses.next(self.parking.held_by, is_full=self.parking.is_full)

    async def _claim(self, read: ReadQueue) -> None:
        now = stamp(self.clock.utc_now())
        # When only retries are wanted, fresh ones wait behind what the lane still holds.
        fresh = not self.due and self._has_fresh()
        span = self._next_span() if fresh else None
        # The read knows nothing of what is settled while it is on its way: that is noted beside its answer.
        self._next_due_at = None
        claimed = await read(Claim(self.name, self._courses.after, now, frozenset(self._in_hand), fresh, span=span))
        self._in_hand.update(attempt.seq for attempt in claimed.attempts)
        self.retrying = max(0, self.retrying - sum(attempt.number > 1 for attempt in claimed.attempts))
        if fresh:
            self._courses.took(span, claimed.after, claimed.path, more=claimed.fresh, has_marks=claimed.has_marks)
            self._behind = len(claimed.attempts) - claimed.retries
            self.due.extend(claimed.attempts)
        else:
            self._behind = len(self.due)
            self.due.extendleft(reversed(claimed.attempts))
        if claimed.next_due is not None:
            self._note_due(self._instant(claimed.next_due))

    def _note_due(self, instant: float) -> None:
        self._next_due_at = instant if self._next_due_at is None else min(instant, self._next_due_at)

    async def _wait(self) -> None:
        self._woken = anyio.Event()
        until = min(self.parking.until, math.inf if self._next_due_at is None else self._next_due_at)
        if until == math.inf:
            await self._woken.wait()
            return
        holdups = self.limiter.holdups
        holdups.begin(self.clock.monotonic(), Reason.CACHE if self.parking.count else Reason.RETRIES)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._wake_at, until)
                await self._woken.wait()
                group.cancel_scope.cancel()
        finally:
            holdups.end(self.clock.monotonic())

    def next_for(self, berth: Berth) -> Attempt:
        """Take the next attempt, which starts at *berth*."""
        attempt = self.due.popleft()
        if berth.index:
            attempt = replace(attempt, endpoint=berth.index)
        return attempt if attempt.prefix is None else self.parking.leading(attempt, self.due)

    def begun(self, attempt: Attempt, berth: Berth) -> None:
        """The answer to *attempt* begins to arrive: the prompt cache has its prefix."""
        if self.parking.begun(attempt, berth.priming):
            self._woken.set()

    def over(self, attempt: Attempt, berth: Berth, outcome: Outcome) -> None:
        """*attempt*, which has a prefix, has come to *outcome*."""
        if self.parking.over(attempt, berth.priming, outcome):
            self._woken.set()

    def _release(self) -> None:
        """Let those that need not wait for the prompt cache any more be next."""
        freed = self.parking.release()
        self.due.extendleft(reversed(freed))
        self._behind += len(freed)  # they are no retries

    async def _wake_at(self, instant: float) -> None:
        await self.clock.sleep_until(instant)
        self._woken.set()

    def _instant(self, due: str) -> float:
        return monotonic_of(self.clock, due)


def monotonic_of(clock: Clock, text: str) -> float:
    """Return the monotonic instant of a UTC stamp."""
    return clock.monotonic() + (datetime.fromisoformat(text) - clock.utc_now()).total_seconds()


def utc_stamp(clock: Clock, instant: float) -> str:
    """Return the UTC stamp of a monotonic *instant*, rounded up so that what is due by stamp is due by the clock."""
    return stamp(clock.utc_now() + timedelta(seconds=instant - clock.monotonic(), milliseconds=1))


@dataclass(slots=True, eq=False)
class Ticket:
    """An attempt on its way: what an engine is given and gives back."""

    attempt: Attempt
    lane: Lane
    admission: Admission
    berth: Berth
    held_usd: float = 0.0  #: What is set aside for it of `--max-cost`.

    def mark_sent(self) -> None:
        """The request is on the wire."""
        self.admission.mark_sent()
        reach(Point.AFTER_SEND)

    def mark_begun(self) -> None:
        """The answer begins to arrive."""
        self.admission.mark_begun()
        if self.attempt.leads:
            self.lane.begun(self.attempt, self.berth)

    def learn(self, outcome: Outcome, *, is_suspect: bool = False) -> Lesson:
        """Let the lane's limits take in what became of it; *is_suspect*: refusals say more of the request than of them."""
        if self.attempt.prefix is not None:
            self.lane.over(self.attempt, self.berth, outcome)
        return self.admission.learn(self.attempt, outcome, self.berth.in_flight, is_suspect=is_suspect)

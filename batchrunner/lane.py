"""One lane as the dispatcher sees it: what it was given from the queue, and what it has in hand."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio

from batchrunner.clock import Clock, stamp
from batchrunner.limiter import Admission, Limiter
from batchrunner.model import Attempt, Outcome, Retry
from batchrunner.policy.holdups import Reason
from batchrunner.policy.judge import Lesson
from batchrunner.store.queue import Claim, Claimed

#: Reads the queue for a lane, off the event loop.
ReadQueue = Callable[[Claim], Awaitable[Claimed]]

#: Stamps hold milliseconds: what is due by the clock is due by its stamp so much later at most.
_STAMP_S = 0.002


@dataclass(slots=True, eq=False)
class Lane:
    """A rate-limit pool at work."""

    name: str  #: The model class.
    limiter: Limiter
    clock: Clock
    due: deque[Attempt] = field(default_factory=deque)  #: To be sent next.
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)  #: Of its dispatching task.
    retrying: int = 0  #: Requests that this run put back and has not claimed again yet.
    in_flight: int = 0  #: Attempts that hold a slot.
    is_through: bool = False  #: Everything of it is final.
    _in_hand: set[int] = field(default_factory=set)  # seq of what is due here, starting, or in flight
    _after: int = 0
    _fresh: bool = True
    _behind: int = 0  # fresh requests in `due` when the retries before them were claimed
    _next_due_at: float | None = None
    _woken: anyio.Event = field(default_factory=anyio.Event)

    async def fill(self, read: ReadQueue) -> bool:
        """Wait until something is due; False when the lane has come to its end."""
        while True:
            if self._wants_more():
                await self._claim(read)
            elif self.due:
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
    def is_alone(self) -> bool:
        """Whether one request in hand is all that the lane has left."""
        return len(self._in_hand) == 1 and not self._fresh and self._next_due_at is None

    def settled(self, attempt: Attempt, retry: Retry | None) -> None:
        """An attempt of this lane is over and committed; *retry* says when its request is due again."""
        self._in_hand.discard(attempt.seq)
        if retry is not None:
            self.retrying += 1
            self._note_due(retry.at + _STAMP_S)
        self._woken.set()

    def _wants_more(self) -> bool:
        if len(self.due) > self._behind:
            return False  # retries stand first: while there are any, further ones can wait in the store
        retry_due = self._next_due_at is not None and self._next_due_at <= self.clock.monotonic()
        return retry_due or (self._fresh and not self.due)

    async def _claim(self, read: ReadQueue) -> None:
        now = stamp(self.clock.utc_now())
        # When only retries are wanted, fresh ones wait behind what the lane still holds.
        fresh = self._fresh and not self.due
        # The read knows nothing of what is settled while it is on its way: that is noted beside its answer.
        self._next_due_at = None
        claimed = await read(Claim(self.name, self._after, now, frozenset(self._in_hand), fresh))
        self._in_hand.update(attempt.seq for attempt in claimed.attempts)
        self.retrying = max(0, self.retrying - sum(attempt.number > 1 for attempt in claimed.attempts))
        if fresh:
            self._after, self._fresh = claimed.after, claimed.fresh
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
        if self._next_due_at is None:
            await self._woken.wait()
            return
        self.limiter.holdups.begin(self.clock.monotonic(), Reason.RETRIES)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._wake_at, self._next_due_at)
                await self._woken.wait()
                group.cancel_scope.cancel()
        finally:
            self.limiter.holdups.end(self.clock.monotonic())

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

    def mark_sent(self) -> None:
        """The request is on the wire."""
        self.admission.mark_sent()

    def learn(self, outcome: Outcome, *, is_suspect: bool = False) -> Lesson:
        """Let the lane's limits take in what became of it; *is_suspect*: refusals say more of the request than of them."""
        return self.admission.learn(self.attempt, outcome, self.lane.in_flight, is_suspect=is_suspect)

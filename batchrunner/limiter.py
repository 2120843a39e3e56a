"""One lane's limiter: when may the next attempt start? Gate, strict window and pacer, in this order."""

import math

import anyio
from aiolimiter import AsyncLimiter

from batchrunner.clock import Clock
from batchrunner.errors import UsageError
from batchrunner.model import Failure, Outcome
from batchrunner.policy.gate import Gate
from batchrunner.policy.judge import GATED
from batchrunner.policy.retry import Rules
from batchrunner.policy.window import Rate, StrictWindow
from batchrunner.tuning import AUTO, Auto

#: A late wake-up is caught up by at most so many seconds' worth of starts.
CATCH_UP_S = 0.25


class Pacer:
    """Spreads starts evenly at *rate* per second.

    `AsyncLimiter` is a leaky bucket whose drain rate is fixed at construction, so it holds *seconds*: one drains per
    second, a start pours in the `1/rate` seconds it is worth, and the rim stands `CATCH_UP_S` above one start.
    """

    def __init__(self, rate: float, *, spent: bool = False) -> None:
        """Pace at *rate*; *spent*: there is nothing to catch up, the first start alone goes at once."""
        self._cost_s = 1 / rate
        self._bucket = AsyncLimiter(1, 1)
        self._bucket.max_rate = CATCH_UP_S + self._cost_s
        self._spent = spent

    async def acquire(self) -> None:
        """Wait for the next start's turn and take it. One waiter at a time."""
        if self._spent:
            self._spent = False
            await self._bucket.acquire(CATCH_UP_S)  # an empty bucket: nothing is waited for
        await self._bucket.acquire(self._cost_s)


class Limiter:
    """Admits one lane's attempts, in the order in which its one task asks, so nobody overtakes."""

    def __init__(self, rate: Rate | None, *, clock: Clock, rules: Rules) -> None:
        self._clock = clock
        self._rules = rules
        self._gate = Gate()
        self._window = StrictWindow(rate) if rate else None
        self._pacer = Pacer(rate.per_second) if rate else None
        self._paced = False  # the pacer's turn has come, the start has not
        self._pacing = anyio.CancelScope()  # of who waits for the pacer
        self._admitted = 0  # and not sent yet
        self._changed: anyio.Event | None = None  # set when somebody waits and the answer may be another

    @property
    def gate_opens_at(self) -> float:
        """When the gate opens or opened; `-inf` if it was never closed."""
        return self._gate.open_at

    def admit_at(self, now: float) -> float:
        """Return the earliest instant gate and window permit; `inf` until a send is stamped or given back."""
        window_at = self._window.admit_at(now) if self._window else now
        return max(now, self._gate.open_at, window_at)

    async def ready(self) -> None:
        """Wait until one attempt may start; `admit` may follow at once. One caller at a time: the lane's task."""
        while self._pacer is not None and not self._paced:
            await self._wait_for_permit()
            await self._take_turn()
        await self._wait_for_permit()

    async def _take_turn(self) -> None:
        """Wait for the pacer, or until it is replaced by another."""
        pacer = self._pacer
        with anyio.CancelScope() as self._pacing:
            if pacer is not None:
                await pacer.acquire()
                self._paced = pacer is self._pacer

    def retune(
        self, *, rate: Rate | Auto | None = None, itpm: int | Auto | None = None, otpm: int | Auto | None = None
    ) -> None:
        """Keep other limits from now on, also for who is waiting; None leaves a limit as it is.

        Raises `UsageError` for limits that this limiter does not have, and changes nothing then.
        """
        if itpm is not None or otpm is not None:
            raise UsageError("Token limits cannot be set in this version.")
        if rate is None:
            return
        if rate == AUTO:
            self._window = self._pacer = None
        else:
            if self._window is None:
                self._window = StrictWindow(rate, reserved=self._admitted)
            else:
                self._window.retune(rate)
            self._pacer = Pacer(rate.per_second, spent=True)
        self._pacing.cancel()
        self._notify()

    def admit(self) -> "Admission":
        """Reserve a place for the attempt that `ready` was waited for."""
        self._paced = False
        self._admitted += 1
        if self._window is not None:
            self._window.reserve()
        return Admission(self)

    async def _wait_for_permit(self) -> None:
        while (at := self.admit_at(now := self._clock.monotonic())) > now:
            if self._changed is None:
                self._changed = anyio.Event()
            async with anyio.create_task_group() as group:
                if at < math.inf:
                    group.start_soon(self._wake_at, at, group.cancel_scope)
                await self._changed.wait()
                group.cancel_scope.cancel()

    async def _wake_at(self, instant: float, waiting: anyio.CancelScope) -> None:
        await self._clock.sleep_until(instant)
        waiting.cancel()

    def sent(self) -> float:
        """An admitted attempt goes out now; returns the instant."""
        now = self._clock.monotonic()
        self._admitted -= 1
        if self._window is not None:
            self._window.stamp(now)
            self._notify()
        return now

    def given_back(self) -> None:
        """An admitted attempt never went out."""
        self._admitted -= 1
        if self._window is not None:
            self._window.release()
            self._notify()

    def learn(self, outcome: Outcome, sent_at: float) -> None:
        """Take in what became of an attempt sent at *sent_at*."""
        if not isinstance(outcome, Failure):
            self._gate.succeeded(sent_at)
        elif outcome.error_class in GATED:
            fallback_s = self._rules[outcome.error_class].nominal_s(self._gate.closings + 1)
            self._gate.close(self._clock.monotonic(), sent_at, outcome.retry_after_s, fallback_s)
            self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


class Admission:
    """One attempt's place in its lane's limits, from admission to the wire."""

    __slots__ = ("_limiter", "sent_at")

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self.sent_at: float | None = None  #: Monotonic; None until it went out.

    def mark_sent(self) -> None:
        """The request is on the wire: the moment that counts."""
        if self.sent_at is None:
            self.sent_at = self._limiter.sent()

    def close(self) -> None:
        """Give the place back if the attempt never went out."""
        if self.sent_at is None:
            self._limiter.given_back()
            self.sent_at = math.nan

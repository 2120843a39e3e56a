"""Five other ways to send many requests, as they are met in the wild.

Each is written here from what is published about it, as small as it can be without being unfair.
"""

import math
import random
from collections import deque

from batchrunner.clock import Clock
from batchrunner.policy.window import Rate
from virtual.clients import InSlot, Requeueing, retry_after_s
from virtual.network import Response


class NaiveBackoff(InSlot):
    """Doubles its wait, deaf to `retry-after`; six tries."""

    name = "naive backoff in the slot, 6 tries"
    tries = 6

    def wait_s(self, failures: int, response: Response) -> float:
        """Return 1, 2, 4, ... seconds, a minute at most."""
        del response
        return min(60.0, 2.0 ** (failures - 1))


class SdkRetries(InSlot):
    """The SDK's own retries as they are set by default: two more tries, `retry-after` heeded up to a minute."""

    name = "SDK retries, 400 workers"
    tries = 3

    def wait_s(self, failures: int, response: Response) -> float:
        """Return `retry-after`, or half a second and its doubles up to 8 s, less up to a quarter by chance."""
        asked_s = retry_after_s(response)
        if asked_s is not None and 0 < asked_s <= 60:
            return asked_s
        return min(8.0, 0.5 * 2.0 ** (failures - 1)) * (1 - 0.25 * self._rng.random())


class FixedPause(Requeueing):
    """The cookbook's way: a client-side bucket as deep as a minute, 15 s of silence after any 429, five tries."""

    name = "token bucket, fixed pause of 15 s, 5 tries"
    in_flight = 1_000_000
    tries = 5
    pause_s = 15.0
    loop_s = 0.001  #: Its loop sleeps for so long after each request.

    def __init__(self, clock: Clock, rate: Rate, rng: random.Random) -> None:
        super().__init__(clock, rate, rng)
        self._level = float(rate.count)
        self._at = self._opens_at = clock.monotonic()

    def admit_at(self, now: float) -> float:
        """Return when the bucket holds one and no pause is on."""
        self._level = min(self._rate.count, self._level + (now - self._at) * self._rate.per_second)
        self._at = now
        missing = max(0.0, 1 - self._level)
        return max(now, self._opens_at, now + missing / self._rate.per_second)

    def sent(self, now: float) -> None:
        """Take one."""
        self._level -= 1
        self._opens_at = max(self._opens_at, now + self.loop_s)

    def answered(self, now: float, response: Response) -> None:
        """Pause after a 429."""
        if response.status == 429:
            self._opens_at = max(self._opens_at, now + self.pause_s)

    def wait_s(self, failures: int, response: Response) -> float:
        """Return 0: the pause is everybody's."""
        del failures, response
        return 0.0


class UnpacedWindow(Requeueing):
    """A strict window and nothing else: a burst at its beginning, and each request waits for its own `retry-after`."""

    name = "strict window, not paced"

    def __init__(self, clock: Clock, rate: Rate, rng: random.Random) -> None:
        super().__init__(clock, rate, rng)
        self._sent: deque[float] = deque()

    def admit_at(self, now: float) -> float:
        """Return when the window has room."""
        while self._sent and self._sent[0] + self._rate.period_s < now:
            self._sent.popleft()
        # The rounding of a sum must not make a wait of nothing.
        return now if len(self._sent) < self._rate.count else self._sent[0] + self._rate.period_s + 1e-6

    def sent(self, now: float) -> None:
        """Note it in the window."""
        self._sent.append(now)

    def wait_s(self, failures: int, response: Response) -> float:
        """Return `retry-after` and up to a second more."""
        del failures
        return (retry_after_s(response) or 0.0) + self._rng.random()


class AwsAdaptive(Requeueing):
    """The adaptive retry mode of the AWS SDKs: no limit until the first 429, then a bucket whose rate follows CUBIC."""

    name = "AWS-style adaptive"
    beta, scale, smooth = 0.7, 0.4, 0.8
    slowest = 0.5  #: Requests a second.

    def __init__(self, clock: Clock, rate: Rate, rng: random.Random) -> None:
        super().__init__(clock, rate, rng)
        self._start = clock.monotonic()
        self._limiting = False
        self._level, self._depth, self._fill, self._filled_at = 0.0, 1.0, self.slowest, self._start
        self._measured, self._counted, self._half = 0.0, 0, 0.0  # requests a second, in which half second
        self._top, self._cut_at = 0.0, self._start

    def admit_at(self, now: float) -> float:
        """Return when the bucket holds one; at once before the first 429."""
        if not self._limiting:
            return now
        self._refill(now)
        return now if self._level >= 1 else now + (1 - self._level) / self._fill + 1e-6

    def sent(self, now: float) -> None:
        """Take one."""
        del now
        self._level -= self._limiting

    def answered(self, now: float, response: Response) -> None:
        """Measure, and let the rate follow."""
        self._measure(now)
        if response.status == 429:
            rate = min(self._measured, self._fill) if self._limiting else self._measured
            self._top, self._cut_at, new = rate, now, rate * self.beta
            if not self._limiting:
                self._limiting, self._filled_at = True, now
        else:
            plateau_s = (self._top * (1 - self.beta) / self.scale) ** (1 / 3)
            new = self.scale * (now - self._cut_at - plateau_s) ** 3 + self._top
        self._refill(now)
        self._fill = max(self.slowest, min(new, 2 * self._measured))
        self._depth = max(1.0, self._fill)
        self._level = min(self._level, self._depth)

    def wait_s(self, failures: int, response: Response) -> float:
        """Return a wait by full jitter, at most 20 s."""
        del response
        return self._rng.uniform(0.0, min(20.0, 2.0 ** (failures - 1)))

    def _measure(self, now: float) -> None:
        self._counted += 1
        half = math.floor((now - self._start) * 2) / 2
        if half > self._half:
            self._measured = self.smooth * self._counted / (half - self._half) + (1 - self.smooth) * self._measured
            self._counted, self._half = 0, half

    def _refill(self, now: float) -> None:
        self._level = min(self._depth, self._level + (now - self._filled_at) * self._fill)
        self._filled_at = now


RIVALS = (NaiveBackoff, SdkRetries, FixedPause, UnpacedWindow, AwsAdaptive)

"""The ramp: traffic that grows step by step, because the API refuses what grows too fast."""

import math

#: A run with more than so many seconds of work begins with a ramp of `OPENING_S`.
LONG_RUN_S = 300.0
OPENING_S = 30.0
#: After a pause of more than `PAUSE_S` (an outage, a laptop that slept) the way back takes `RETURN_S`.
PAUSE_S = 60.0
RETURN_S = 10.0
#: After an outage, which others wait to end too, it takes less: its end is noticed late enough.
AFTER_OUTAGE_S = 6.0
#: Where it begins, as a share of the rate.
FIRST = 0.1
#: Slower traffic (per second) is no acceleration to speak of, and a share of it would be long waits.
SLOWEST = 2.0
_LONGEST_S = 120.0


class Ramp:
    """A factor on the rate that grows evenly from `FIRST` to 1.

    Source: simulation against a server that climbs from 10 % to 100 % in 60 s; 1.4 % refusals without a ramp,
    0.34 % with 30 s of it.
    """

    def __init__(self) -> None:
        self._began_at = -math.inf
        self._length_s = 0.0
        self._first = FIRST

    def begin(self, now: float, length_s: float) -> None:
        """Start at `FIRST` and be at 1 after *length_s*; one that is under way and ends later goes on."""
        if self.is_over(now + length_s):
            self._began_at, self._length_s, self._first = now, length_s, FIRST

    def rescale(self, now: float, ratio: float) -> None:
        """The full rate is another, and the old one is *ratio* of it: go on from the same pace, at the usual slope at most."""
        slope = 0.0 if self.is_over(now) else (1 - self._first) / self._length_s
        first = min(1.0, max(FIRST, self.factor(now) * ratio))
        self._length_s = (1 - first) / min(slope or math.inf, (1 - FIRST) / OPENING_S)
        self._began_at, self._first = (now if first < 1 else -math.inf), first

    def slow(self, now: float) -> None:
        """The server refused to let traffic grow so fast: go back to half the pace and take twice as long, up to 120 s."""
        factor = self.factor(now)
        self._length_s = min(_LONGEST_S, 2 * max(self._length_s, OPENING_S))
        self._first = max(FIRST, factor / 2)
        self._began_at = now

    def is_over(self, now: float) -> bool:
        """Whether the full rate is reached."""
        return now >= self._began_at + self._length_s

    def factor(self, now: float) -> float:
        """Return the share of the rate that is permitted at *now*."""
        if self.is_over(now):
            return 1.0
        return self._first + (1 - self._first) * max(0.0, now - self._began_at) / self._length_s

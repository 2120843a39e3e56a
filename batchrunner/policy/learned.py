"""The learned rate: what a limit turned out to be, where it is less than anybody said."""

import math
from collections import deque

#: A cut goes to this share of what was accepted lately.
CUT = 0.9
#: After a cut the rate stays for so long, in seconds.
HOLD_S = 20.0
#: "Lately", in seconds.
SPAN_S = 3.0
#: Then it climbs by this share of the ceiling per second, at first; up to `_STEEPEST` times as much later.
_CLIMB_PER_S = 0.004
_STEEPEST = 4.0
_STEEPENS_S = 30.0
#: No cut goes below this share of the ceiling.
_FLOOR = 0.02


class LearnedRate:
    """A rate per second that refusals cut and time restores, never above its ceiling.

    One cut per epoch: a refusal of something sent before the last cut says nothing new. Source: simulation against a
    server whose bucket holds one second and whose other tenant takes half in mid-run; 0.10 % refusals, where a fixed
    rate met 2.5 %.
    """

    def __init__(self, ceiling: float = math.inf) -> None:
        self.ceiling = ceiling  #: What the user or the endpoint permits per second; infinite where nobody says.
        self._base = math.inf
        self._cut_at = -math.inf

    def at(self, now: float) -> float:
        """Return the rate per second at *now*."""
        if self._base == math.inf:
            return self.ceiling
        climbing_s = now - self._cut_at - HOLD_S
        if climbing_s <= 0:
            return min(self.ceiling, self._base)
        scale = self._base if self.ceiling == math.inf else self.ceiling
        return min(self.ceiling, self._base + _climbed(climbing_s) * scale)

    def is_cut(self, now: float) -> bool:
        """Whether it is below its ceiling."""
        return self._base != math.inf and self.at(now) < self.ceiling

    def forget(self) -> None:
        """What it has learnt was not about the rate."""
        self._base = math.inf

    def refused(self, now: float, sent_at: float, accepted: float) -> bool:
        """Something sent at *sent_at* was refused while *accepted* per second came through; True if that cut the rate."""
        if sent_at <= self._cut_at:
            return False
        floor = 0.0 if self.ceiling == math.inf else _FLOOR * self.ceiling
        self._base = max(floor, CUT * min(self.at(now), accepted))
        self._cut_at = now
        return True


def _climbed(seconds: float) -> float:
    """Return what share of the ceiling has been climbed after so many seconds of climbing."""
    return _CLIMB_PER_S * seconds * min(_STEEPEST, 1 + seconds / _STEEPENS_S)


class Accepted:
    """How much per second came through lately: what was sent, less what was refused."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque()
        self._refused: deque[float] = deque()
        self._began: float | None = None

    def sent(self, now: float) -> None:
        """One went out."""
        if self._began is None:
            self._began = now
        self._sent.append(now)
        _forget(self._sent, now - SPAN_S)

    def refused(self, sent_at: float) -> None:
        """The one sent at *sent_at* came back."""
        self._refused.append(sent_at)
        _forget(self._refused, sent_at - SPAN_S)

    def per_s(self, now: float) -> float:
        """Return the rate over the last `SPAN_S`, at least one start in it."""
        span_s = SPAN_S if self._began is None else min(SPAN_S, max(now - self._began, 1e-3))
        return max(1, len(self._sent) - len(self._refused)) / span_s


def _forget(instants: deque[float], before: float) -> None:
    while instants and instants[0] < before:
        instants.popleft()

"""How many attempts of a lane may be in flight: as many as the rate needs, and no more."""

import math

#: Where no limit is known, a lane begins with so many, and takes so many more every second.
OPENING = 5
PER_S = 5.0
_MOST = 10_000.0
#: Room above what rate and latency come to.
MARGIN = 1.15
#: The mean latency is believed after so many answers and so many seconds: the first answers are the quickest ones.
_BELIEVED_ANSWERS = 100
_BELIEVED_S = 30.0
_MEMORY = 0.99
#: A refusal of too many at once leaves this share of what was in flight.
_CUT = 0.8
_HOLD_S = 20.0
_LONGEST_HOLD_S = 600.0


class Concurrency:
    """A lane's own number of slots, from 1 to *cap*.

    With a known rate: `MARGIN` x rate x mean latency (Little's law). Without: from `OPENING` upwards, `PER_S` more
    every second and one more for each answer, until something is refused; from then on slowly. A refusal because of
    too many at once cuts it in either case.
    """

    def __init__(self, cap: int, cautious_cap: int) -> None:
        self.cap = cap  #: The user's `-j`, or what the process can hold.
        self.cautious_cap = cautious_cap  #: The same as long as no rate is known.
        self._grown: float = OPENING
        self._calm_since: float | None = None  # no refusal since; None before the first question and after a refusal
        self._bound = math.inf  # what refusals of too many at once have left
        self._hold_s = _HOLD_S
        self._is_trying = False  # one more than was known to be permitted
        self._is_calm = True
        self._cut_at = -math.inf
        self._answers = 0
        self._mean_s = 0.0
        self._began_at: float | None = None

    def limit(self, now: float, rate: float | None) -> int:
        """Return how many may be in flight at *now*, when *rate* starts per second are permitted.

        Infinite: nobody knows; None: some rate holds, but not at the moment, in a burst.
        """
        wanted: float = self.cap
        if rate == math.inf:
            wanted = min(self.cautious_cap, self._found(now))
        elif rate is not None:
            wanted = self._for_rate(now, rate)
        return max(1, min(self.cap, math.floor(min(wanted, self._bound))))

    def answered(self, now: float, sent_at: float) -> None:
        """An answer came to what was sent at *sent_at*."""
        if self._began_at is None:
            self._began_at = now
        self._answers += 1
        weight = max(1 - _MEMORY, 1 / self._answers)
        self._mean_s += weight * (now - sent_at - self._mean_s)
        self._grown = min(_MOST, self._grown + (1.0 if self._is_calm else 1 / self._grown))
        if self._bound < math.inf and now > self._cut_at + self._hold_s:
            # One more is tried for as long as a refusal was held, and longer each time that was in vain.
            self._bound += 1
            self._is_trying, self._cut_at = True, now

    def refused(self, now: float, sent_at: float, in_flight: int, *, at_once: bool) -> None:
        """What was sent at *sent_at* was refused; *at_once*: because too many were in flight, *in_flight* of them."""
        if sent_at <= self._cut_at:
            return
        self._grown = max(1.0, _CUT * min(self._found(now), in_flight))
        self._is_calm, self._calm_since, self._cut_at = False, None, now
        if at_once and self._is_trying:
            self._bound, self._hold_s = max(1.0, self._bound - 1), min(2 * self._hold_s, _LONGEST_HOLD_S)
        elif at_once:
            self._bound, self._hold_s = max(1.0, min(_CUT * in_flight, self._bound)), _HOLD_S
        self._is_trying = self._is_trying and not at_once

    @property
    def is_refused_more(self) -> bool:
        """Whether the endpoint has refused more at once."""
        return self._bound < self.cap

    def restart(self) -> None:
        """An outage is over: begin anew, as carefully as at the start."""
        self._grown, self._calm_since = min(OPENING, self._grown), None

    def permit(self, cap: int, cautious_cap: int) -> None:
        """The user permits so many from now on: if nothing was refused yet, they are used at once."""
        is_new = (cap, cautious_cap) != (self.cap, self.cautious_cap)
        self.cap, self.cautious_cap = cap, cautious_cap
        if is_new and self._is_calm:
            self._grown = max(self._grown, cautious_cap)

    def _found(self, now: float) -> float:
        """Return what calm has permitted so far."""
        if not self._is_calm:
            return self._grown
        if self._calm_since is None:
            self._calm_since = now
        return min(_MOST, self._grown + PER_S * max(0.0, now - self._calm_since))

    def _for_rate(self, now: float, rate: float) -> float:
        known = self._began_at is not None and now > self._began_at + _BELIEVED_S
        if not known or self._answers < _BELIEVED_ANSWERS:
            return self.cap
        return MARGIN * rate * self._mean_s + OPENING

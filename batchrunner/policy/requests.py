"""The limit on requests: strict windows for the promise, a pace for the way there."""

import math
from collections.abc import Iterable

from batchrunner.model import Quota
from batchrunner.policy.brake import HeaderBrake
from batchrunner.policy.holdups import Reason
from batchrunner.policy.learned import Accepted, LearnedRate
from batchrunner.policy.ramp import LONG_RUN_S, OPENING_S, PAUSE_S, RETURN_S, SLOWEST, Ramp
from batchrunner.policy.stray import StrayRefusals
from batchrunner.policy.window import UNLIMITED, Rate, StrictWindow

#: A limit that the endpoint raises is believed when so many answers in a row say so; a lower one at once.
_BELIEVED = 3
#: What a burst may spend before any header has told how much is left, in seconds of the rate: no bucket holds less.
_OPENING_S = 1.0


class RequestLimit:
    """How many requests may go out, and how fast: the least of what the user, the endpoint and experience permit."""

    def __init__(self, rate: Rate | None, *, burst: bool = False) -> None:
        """*rate*: the user's; None takes what the endpoint's headers say. *burst*: no pace while `remaining` permits."""
        self.wanted = rate
        self.offered: int | None = None  #: Per minute, by the headers.
        self.ramp = Ramp()
        self.sends = 0
        self._admitted = 0  # sent, or about to be
        self._own = StrictWindow(rate) if rate else None
        # The endpoint's, and until it names one the memory of the last minute.
        self._theirs = StrictWindow(UNLIMITED)
        self._learned = LearnedRate()
        self.stray = StrayRefusals()
        self._accepted = Accepted()
        self._brake = HeaderBrake()
        self._burst = burst
        self._newest_sent_at = -math.inf  # of the request whose answer told most lately, by order of sending
        self._left: float | None = None  # of the endpoint's bucket, at `_left_at`, less what was admitted; None: untold
        self._left_at = -math.inf
        self._most_left = 0
        self._raises = 0
        self._work = 0
        self._last_sent_at: float | None = None
        self._set_ceiling()

    @property
    def per_second(self) -> float:
        """The even pace that uses the limit fully; infinite where none is known."""
        return self._learned.ceiling

    @property
    def per_minute(self) -> float | None:
        """The limit in force, None if none is known."""
        wanted = None if self.wanted is None else self.wanted.count * 60 / self.wanted.period_s
        return min((figure for figure in (wanted, self.offered) if figure is not None), default=None)

    def begin(self, now: float, work: int) -> None:
        """Work on *work* requests from *now* on: long runs begin with a ramp, once their rate is known."""
        self._work = work
        if self._is_long():
            self.ramp.begin(now, OPENING_S)

    def come_back(self, now: float, length_s: float = RETURN_S) -> None:
        """There was a pause: go back to the full pace within *length_s*, step by step."""
        if SLOWEST <= self.per_second < math.inf:
            self.ramp.begin(now, length_s)

    def look(self, now: float) -> None:
        """Another start is wanted; if the last one is long ago, that was a pause."""
        if self._last_sent_at is not None and now - self._last_sent_at > PAUSE_S:
            self._last_sent_at = now
            self.come_back(now)

    def admit_at(self, now: float) -> float:
        """Return the earliest instant the windows permit; infinite while all places wait for a stamp."""
        return max(window.admit_at(now) for window in self._windows())

    def pace(self, now: float) -> tuple[float, Reason]:
        """Return how many starts per second are permitted at *now* (infinite: any), and what makes it so few."""
        rate = self._learned.at(now)
        reason = Reason.LEARNED if self._learned.is_cut(now) else Reason.REQUESTS
        if self._burst:
            return (math.inf if self._budget(now) >= 1 else rate), reason
        if self._brake.factor < 1:
            rate, reason = rate * self._brake.factor, Reason.OTHERS
        if (factor := self.ramp.factor(now)) < 1:
            rate, reason = rate * factor, Reason.RAMP
        return rate, reason

    def reserve(self) -> None:
        """Take a place; `stamp` or `release` must follow."""
        self._admitted += 1
        self._left = None if self._left is None else self._left - 1
        for window in self._windows():
            window.reserve()

    def stamp(self, now: float) -> int:
        """The reserved send goes out now; returns how many went out in the last minute, this one included."""
        for window in self._windows():
            window.stamp(now)
        self._accepted.sent(now)
        self.sends += 1
        self._last_sent_at = now
        return self._theirs.sends

    def release(self) -> None:
        """The reserved send never went out."""
        self._admitted -= 1
        self._left = None if self._left is None else self._left + 1
        for window in self._windows():
            window.release()

    def seed(self, sent_at: Iterable[float]) -> None:
        """Count sends of an earlier run that the limit still remembers; instants that do not go back."""
        instants = list(sent_at)
        for window in self._windows():
            window.seed(instants)

    def refused(self, now: float, sent_at: float) -> None:
        """What was sent at *sent_at* met this limit."""
        self._burst = False
        self._accepted.refused(sent_at)
        accepted = self._accepted.per_s(now)
        rate = min(self._learned.at(now), accepted)
        if self._learned.refused(now, sent_at, accepted) and self.stray.cut(now, self.sends, rate):
            self._learned.forget()

    def offer(self, quota: Quota, now: float, sent_at: float, nth: int, own_sends: int) -> bool:
        """Take in the headers of the answer to the *nth* send; True if the endpoint's limit is another than before."""
        if sent_at <= self._newest_sent_at:
            return False
        if quota.remaining is not None:
            self._newest_sent_at = sent_at
            self._most_left = min(max(self._most_left, quota.remaining), quota.limit)
            self._left, self._left_at = quota.remaining - (self._admitted - nth), sent_at
            self._brake.saw(sent_at, quota.limit, quota.remaining, own_sends)
        self._raises = self._raises + 1 if self.offered is not None and quota.limit > self.offered else 0
        if quota.limit == self.offered or 0 < self._raises < _BELIEVED:
            return False
        self._raises, self.offered = 0, quota.limit
        self._theirs = self._theirs.retuned(Rate(quota.limit, 60.0))
        before = self.per_second
        self._set_ceiling()
        if before == math.inf:
            self.begin(now, self._work)
        elif self._is_long() or not self.ramp.is_over(now):
            self.ramp.rescale(now, before / self.per_second)
        return True

    def retune(self, rate: Rate | None) -> None:
        """The user wants another rate; None: the endpoint's."""
        self.wanted = rate
        memory = self._theirs if self._own is None or self._own.rate.period_s < UNLIMITED.period_s else self._own
        self._own = None if rate is None else memory.retuned(rate)
        self._set_ceiling()

    def _budget(self, now: float) -> float:
        """Return how many may go out at once: what was left, less what went out since, plus what was refilled since."""
        if self.per_second == math.inf:
            return 0
        if self._left is None:
            return _OPENING_S * self.per_second - self._admitted
        refilled = max(0.0, now - self._left_at) * self.per_second
        self._left, self._left_at = min(self._left + refilled, self._most_left), max(now, self._left_at)
        return self._left

    def _is_long(self) -> bool:
        return SLOWEST <= self.per_second < self._work / LONG_RUN_S

    def _windows(self) -> tuple[StrictWindow, ...]:
        return (self._theirs,) if self._own is None else (self._own, self._theirs)

    def _set_ceiling(self) -> None:
        rates = [window.rate.per_second for window in self._windows() if window.rate is not UNLIMITED]
        self._learned.ceiling = min(rates, default=math.inf)

"""The limits on tokens: an account each, once somebody names a figure."""

import math

from batchrunner.model import LimitKind, Quota
from batchrunner.policy.accounts import DEPTH_S, TokenAccount
from batchrunner.policy.holdups import Reason
from batchrunner.policy.learned import LearnedRate

_BELIEVED = 3
#: Tokens are counted in lumps, so what got through lately is a poor measure: no cut goes deeper at once.
_DEEPEST_CUT = 0.7
_REASONS = {
    LimitKind.INPUT_TOKENS: Reason.INPUT_TOKENS,
    LimitKind.OUTPUT_TOKENS: Reason.OUTPUT_TOKENS,
}


class TokenLimit:
    """How many tokens of one kind may be used per minute; without a figure from anybody it permits everything."""

    def __init__(self, kind: LimitKind, wanted: int | None) -> None:
        """*wanted*: the user's figure per minute; None takes what the endpoint's headers say."""
        self.kind = kind
        self.reason = _REASONS[kind]
        self.wanted = wanted
        self.offered: int | None = None  #: Per minute, by the headers.
        self._account: TokenAccount | None = None
        self._reserved = 0.0  # by what is in flight; an account that is opened late has to know
        self._learned = LearnedRate()
        self._newest_sent_at = -math.inf
        self._raises = 0
        self._depth_s = DEPTH_S
        self._rebuild(-math.inf)

    @property
    def per_minute(self) -> int | None:
        """The limit in force, None if none is known."""
        return min((figure for figure in (self.wanted, self.offered) if figure is not None), default=None)

    def admit_at(self, now: float, need: float) -> float:
        """Return the earliest instant at which a request that needs so many may start."""
        if self._account is None:
            return now
        self._follow(now)
        return self._account.admit_at(now, need)

    def is_impossible(self, need: float) -> bool:
        """Whether a request needs more than a whole minute permits, so that no waiting helps."""
        return self.per_minute is not None and need > self.per_minute

    def reserve(self, now: float, need: float) -> None:
        """Take what an admitted request is expected to use."""
        self._reserved += need
        if self._account is not None:
            self._account.reserve(now, need)

    def settle(self, now: float, reserved: float, used: float) -> None:
        """It is over and has used so much."""
        self._reserved = max(0.0, self._reserved - reserved)
        if self._account is not None:
            self._account.settle(now, reserved, used)

    def refused(self, now: float, sent_at: float, used_per_s: float) -> bool:
        """A request sent at *sent_at* met this limit while so many tokens per second were used; True if that is news."""
        current = self._learned.at(now)
        accepted = used_per_s if current == math.inf else max(_DEEPEST_CUT * current, min(current, used_per_s))
        is_news = self._learned.refused(now, sent_at, accepted)
        self._follow(now)
        return is_news

    def is_cut(self, now: float) -> bool:
        """Whether refusals hold it below its figure."""
        return self._learned.is_cut(now)

    def offer(self, quota: Quota, now: float, sent_at: float) -> bool:
        """Take in the headers of an answer to what was sent at *sent_at*; True if the endpoint's limit is another."""
        if sent_at <= self._newest_sent_at:
            return False
        self._newest_sent_at = sent_at
        self._raises = self._raises + 1 if self.offered is not None and quota.limit > self.offered else 0
        if quota.limit == self.offered or 0 < self._raises < _BELIEVED:
            return False
        self._raises, self.offered = 0, quota.limit
        self._rebuild(now)
        return True

    def deepen(self, now: float, depth_s: float) -> None:
        """Let the account hold so many seconds' worth."""
        self._depth_s = depth_s
        if self._account is not None:
            self._account.deepen(now, depth_s)

    def retune(self, now: float, wanted: int | None) -> None:
        """The user wants another figure; None: the endpoint's."""
        self.wanted = wanted
        self._rebuild(now)

    def _rebuild(self, now: float) -> None:
        if (per_minute := self.per_minute) is None:
            self._account = None
            self._learned.ceiling = math.inf
            return
        self._learned.ceiling = per_minute / 60
        if self._account is None:
            self._account = TokenAccount(per_minute)
            self._account.deepen(now, self._depth_s)
            self._account.reserve(now, self._reserved)
        self._follow(now)

    def _follow(self, now: float) -> None:
        """Let the account refill at what is permitted at present."""
        rate = self._learned.at(now)
        if self._account is not None and rate != self._account.per_s:
            self._account.retune(now, rate * 60)

"""Token accounts: what a request will use is reserved when it starts and settled with the truth when it is over."""

#: How many seconds' worth of tokens an account holds. Shallow on purpose: servers may hold no more than ten.
DEPTH_S = 5.0
#: Where the server reserves all that a request may use, a minute's worth at a time is its own depth.
MINUTE_DEPTH_S = 60.0
#: What arithmetic may lose of an account, as a share of its depth.
_TINY = 1e-9


class TokenAccount:
    """A limit on tokens per minute, refilled evenly, `DEPTH_S` deep, and able to go into debt.

    A request starts when the level has reached its need or the brim, so that one that needs more than the account
    ever holds is not starved: it waits for the brim, for at most `DEPTH_S` plus the time of the debt before it, and
    the debt that it leaves is waited out by those behind it. Instants must not go back; one that does is taken for
    the latest.

    Source of the depth: simulation with outputs of mean 400 and 95th percentile 1,172 tokens against server buckets
    of 10 s and 60 s; 5 s used 99.9 % of the limit without a refusal, 60 s met refusals of 70 % on the 10 s bucket.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_s = per_minute / 60  #: The rate at present, in tokens.
        self._depth_s = DEPTH_S
        self._level = self.depth
        self._at: float | None = None

    @property
    def depth(self) -> float:
        """The most that it holds, in tokens."""
        return self.per_s * self._depth_s

    def level(self, now: float) -> float:
        """Return what is in it; negative while it is in debt."""
        if self._at is not None:
            self._level += max(0.0, now - self._at) * self.per_s
        self._level = min(self.depth, self._level)
        self._at = now if self._at is None else max(now, self._at)
        return self._level

    def admit_at(self, now: float, need: float) -> float:
        """Return the earliest instant at which a request that needs so many tokens may start."""
        missing = min(need, self.depth) - self.level(now)
        return now if missing <= _TINY * self.depth else now + missing / self.per_s

    def reserve(self, now: float, need: float) -> None:
        """Take *need* tokens, whether they are there or not."""
        self._level = self.level(now) - need

    def settle(self, now: float, reserved: float, used: float) -> None:
        """A request that had *reserved* so much is over and has *used* so much."""
        self._level = min(self.depth, self.level(now) + reserved - used)

    def deepen(self, now: float, depth_s: float) -> None:
        """Hold so many seconds' worth from *now* on."""
        self.level(now)
        self._depth_s = depth_s
        self._level = min(self.depth, self._level)

    def retune(self, now: float, per_minute: float) -> None:
        """Refill at another rate from *now* on; debts stay."""
        self.level(now)
        self.per_s = per_minute / 60
        self._level = min(self.depth, self._level)

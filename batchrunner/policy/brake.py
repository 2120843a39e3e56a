"""The header brake: `anthropic-ratelimit-requests-remaining` shows another tenant's use before a refusal does."""

#: Below this share of the most that was ever left, the rate goes down in proportion.
LOW_WATER = 0.1
_FLOOR = 0.02
#: A bucket that never shows more than this is too shallow to be read from here.
_SHALLOW = 500
#: So much more than a strict window could have left, as a share of the most ever left, proves that the server refills
#: all the time.
_PROOF = 0.2


class HeaderBrake:
    """A factor on the rate, 0.02 to 1, from the newest `remaining` by order of sending.

    A server with a strict window has little left whenever the limit is used well, by ourselves alone; only a bucket
    that is refilled all the time and runs low is being used by others. So the brake works only once `remaining` was
    seen well above what a window would have left after our own sends of the last minute.
    """

    def __init__(self) -> None:
        self._newest_sent_at = float("-inf")
        self._most = 0
        self._is_bucket = False
        self.factor = 1.0

    def saw(self, sent_at: float, limit: int, remaining: int, own_sends: int) -> None:
        """Take in what the answer to a request sent at *sent_at* said.

        *own_sends*: how many we had sent in the minute before it, itself included.
        """
        if sent_at <= self._newest_sent_at:
            return
        self._newest_sent_at = sent_at
        self._most = min(max(self._most, remaining), limit)  # the limit may be less than it was
        if remaining > limit - own_sends + _PROOF * min(limit, self._most):
            self._is_bucket = True
        low = LOW_WATER * self._most
        works = self._is_bucket and self._most > _SHALLOW and remaining < low
        self.factor = max(_FLOOR, remaining / low) if works else 1.0

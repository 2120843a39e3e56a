"""When to stop sending so that the answers are there in time (`--max-duration`)."""

from batchrunner.policy.recent import Recent

_PERCENTILE = 0.95
#: Before anything was answered, the last call is given this share of the whole time.
_UNKNOWN_SHARE = 0.1


class LastStart:
    """Sends nothing more once its answer would probably come too late: after *until* less what nearly all calls take.

    How long a call takes is the 95th percentile of the latest; calls in flight are never cut off for it.
    """

    def __init__(self, began: float, duration_s: float) -> None:
        """*began* and the instants below are of one monotonic clock."""
        self.duration_s = duration_s
        self._began = began
        self._latencies = Recent()

    def answered(self, latency_s: float) -> None:
        """A call took so long."""
        self._latencies.note(latency_s)

    @property
    def at(self) -> float:
        """The instant from which on nothing more is sent."""
        takes_s = self._latencies.percentile(_PERCENTILE) if len(self._latencies) else _UNKNOWN_SHARE * self.duration_s
        return self._began + max(0.0, self.duration_s - takes_s)

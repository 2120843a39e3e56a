"""Servers that reserve `max_tokens` of the output limit when they let a request in: noticed by their refusals."""

import math

#: More than this share of so many sends refused for output tokens: reserve as that server does.
SHARE = 0.005
SENDS = 200
#: Refusals that come closer together than this, in seconds, are one episode: the first has not been worked off yet.
EPISODE_S = 20.0
#: It may have been another tenant after all: after so many sends without a refusal, twice as many the next time, the
#: percentile is tried again.
PROBATION = 200


class ReservingWatch:
    """Counts episodes of refusals for output tokens over the latest `SENDS` sends."""

    def __init__(self) -> None:
        self.is_on = False  #: Reserve `max_tokens`.
        self._episodes: list[int] = []  # the lane's number of sends at each
        self._latest_at = -math.inf
        self._latest_sends = 0
        self._probation = PROBATION

    def refused(self, now: float, sends: int) -> bool:
        """Note a refusal after so many sends; True if there are too many of them lately, for the first time."""
        is_new = now - self._latest_at > EPISODE_S
        self._latest_at, self._latest_sends = now, sends
        if is_new:
            self._episodes = [at for at in self._episodes if at > sends - SENDS] + [sends]
        if self.is_on or len(self._episodes) <= SHARE * SENDS:
            return False
        self.is_on = True
        return True

    def is_over(self, sends: int) -> bool:
        """Whether it may be off again after so many sends; turns it off if so."""
        if not self.is_on or sends - self._latest_sends < self._probation:
            return False
        self.is_on = False
        self._episodes.clear()
        self._probation *= 2
        return True

"""Servers that reserve `max_tokens` of the output limit when they let a request in: noticed by their refusals."""

#: More than this share of so many sends refused for output tokens: reserve as that server does.
SHARE = 0.005
SENDS = 200
#: After so many sends without such a refusal it may have been another tenant after all.
PROBATION = 1000


class ReservingWatch:
    """Counts refusals for output tokens over the latest `SENDS` sends."""

    def __init__(self) -> None:
        self._refused_at: list[int] = []  # the lane's number of sends at each

    def refused(self, sends: int) -> bool:
        """Note a refusal after so many sends; True if there are too many of them lately."""
        self._refused_at = [at for at in self._refused_at if at > sends - SENDS] + [sends]
        return len(self._refused_at) > SHARE * SENDS

    def is_over(self, sends: int) -> bool:
        """Whether nothing has been refused for `PROBATION` sends."""
        return not self._refused_at or sends - self._refused_at[-1] >= PROBATION

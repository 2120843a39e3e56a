"""The one row that is refused again and again while its lane flows: a 429 that is the row's own fault after all."""

from batchrunner.model import Attempt, Fail

#: Refusals of one request, each with successes of others since the one before, after which it is given up.
PATIENCE = 10
#: A request that is alone is refused anew only after so many seconds.
ALONE_S = 60.0


class RefusalWatch:
    """Counts refusals of single requests. Holds only requests that were refused and are not final yet."""

    def __init__(self) -> None:
        self._successes: dict[str, int] = {}
        # seq -> (refusals that count, lane's successes at the last one, instant of the last one that counted)
        self._refused: dict[int, tuple[int, int, float]] = {}

    def succeeded(self, attempt: Attempt) -> None:
        """*attempt* brought an answer: its lane flows."""
        self._successes[attempt.lane] = self._successes.get(attempt.lane, 0) + 1
        self._refused.pop(attempt.seq, None)

    def refused(self, attempt: Attempt, now: float, *, alone: bool = False) -> Fail | None:
        """Note a refusal that uses up no attempt; return `Fail` when this request has had its share.

        *alone*: the lane has nothing else to send. A limit that is drawn on by one request a minute is not used up,
        so from the second minute on such refusals count too.
        """
        flowing = self._successes.get(attempt.lane, 0)
        refusals, flowed, counted_at = self._refused.get(attempt.seq, (0, flowing, now))
        if flowing > flowed or not refusals or (alone and now - counted_at >= ALONE_S):
            refusals, counted_at = refusals + 1, now
        self._refused[attempt.seq] = (refusals, flowing, counted_at)
        return None if refusals < PATIENCE else Fail()

    def forget(self, attempt: Attempt) -> None:
        """The request is final or set aside."""
        self._refused.pop(attempt.seq, None)

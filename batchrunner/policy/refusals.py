"""The one row that is refused again and again while its lane flows: a 429 that is the row's own fault after all."""

from dataclasses import dataclass

from batchrunner.model import Attempt, Fail

#: Refusals of one request that count, after which it is given up.
PATIENCE = 10
#: From so many on, the request is under suspicion.
_SUSPECT = 2
#: A lane flows as long as refusals of others are at most this share of its successes.
_OTHERS_REFUSED = 0.1
#: A request that is alone in a lane that has never flowed is refused anew only after so many seconds.
ALONE_S = 60.0


@dataclass(slots=True)
class _Lane:
    """What became of a lane's attempts so far."""

    successes: int = 0
    refusals: int = 0


@dataclass(slots=True)
class _Refused:
    """A request that was refused and is not final yet."""

    count: int  #: Refusals that count.
    counted_at: float
    successes: int  #: The lane's, and its refusals of others, at the latest refusal.
    others_refused: int
    own: int = 1  #: Refusals of all kinds.


class RefusalWatch:
    """Counts refusals of single requests. Holds only requests that were refused and are not final yet.

    A refusal counts if the lane has flowed since the one before: others got through and hardly any was refused. Where
    the limit is used up by all together, everybody is refused now and then, and nobody is to blame.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._refused: dict[int, _Refused] = {}

    def succeeded(self, attempt: Attempt) -> None:
        """*attempt* brought an answer: its lane flows."""
        self._lane(attempt).successes += 1
        self._refused.pop(attempt.seq, None)

    def refused(self, attempt: Attempt, now: float, *, alone: bool = False) -> Fail | None:
        """Note a refusal that uses up no attempt; return `Fail` when this request has had its share.

        *alone*: the lane has nothing else to send. Where others got through before, each refusal counts then, and the
        waits between them grow; where nothing ever did, the limit may be somebody else's, and one a minute counts.
        """
        lane = self._lane(attempt)
        lane.refusals += 1
        row = self._refused.get(attempt.seq)
        if row is None:
            self._refused[attempt.seq] = _Refused(1, now, lane.successes, lane.refusals - 1)
            return None
        row.own += 1
        others_refused = lane.refusals - row.own
        successes = lane.successes - row.successes
        flows = successes > 0 and others_refused - row.others_refused <= _OTHERS_REFUSED * successes
        is_last = alone and (lane.successes > 0 or now - row.counted_at >= ALONE_S)
        if flows or is_last:
            row.count, row.counted_at = row.count + 1, now
        row.successes, row.others_refused = lane.successes, others_refused
        return None if row.count < PATIENCE else Fail()

    def is_suspect(self, attempt: Attempt) -> bool:
        """Whether refusals of this request say more of itself than of its lane."""
        row = self._refused.get(attempt.seq)
        return row is not None and row.count >= _SUSPECT

    def times(self, attempt: Attempt) -> int:
        """Return how often this request was refused without an answer in between."""
        row = self._refused.get(attempt.seq)
        return 0 if row is None else row.own

    def forget(self, attempt: Attempt) -> None:
        """The request is final or set aside."""
        self._refused.pop(attempt.seq, None)

    def _lane(self, attempt: Attempt) -> _Lane:
        return self._lanes.setdefault(attempt.lane, _Lane())

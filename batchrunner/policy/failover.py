"""Which of several endpoints is used: the first that works. What happened at each is kept, to be told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from batchrunner.model import ErrorClass, Failure

#: Failures that another endpoint would give the same request.
_OF_REQUEST = frozenset(
    {
        *(ErrorClass.INVALID, ErrorClass.TOO_LARGE, ErrorClass.INPUT, ErrorClass.EXPIRED),
        *(ErrorClass.TRUNCATED, ErrorClass.REFUSED, ErrorClass.EMPTY, ErrorClass.PAUSED, ErrorClass.SCHEMA),
    }
)


def is_of_request(failure: Failure) -> bool:
    """Whether another endpoint would give the same request the same *failure*."""
    return failure.error_class in _OF_REQUEST


@dataclass(slots=True, eq=False)
class Standing:
    """One endpoint of a run: what it has done, and whether it can still be used. Instants are monotonic."""

    name: str | None = None  #: None: the run's only one.
    cap: int | None = None  #: Calls in flight at most, all lanes together; None: as the run's.
    calls: int = 0  #: Attempts that came to an end.
    answered: int = 0  #: Of which so many brought an accepted answer.
    in_flight: int = 0
    given_up: str | None = None  #: Why it is not used any more.
    given_up_in: dict[str, str] = field(default_factory=dict)  #: The same for single lanes: a model it does not offer.
    down_since: float | None = None  #: An outage goes on.
    outages: int = 0
    down_s: float = 0.0  #: In outages that are over.
    _down: set[str] = field(default_factory=set)  # lanes whose breaker is open

    @property
    def has_room(self) -> bool:
        """Whether another call may be in flight there."""
        return self.cap is None or self.in_flight < self.cap

    def is_given_up(self, lane: str) -> bool:
        """Whether *lane* uses it no more."""
        return self.given_up is not None or lane in self.given_up_in

    def give_up(self, lane: str, why: str, *, lane_only: bool) -> None:
        """It refuses everything, or everything of one *lane*; the first reason stays."""
        if lane_only:
            self.given_up_in.setdefault(lane, why)
        elif self.given_up is None:
            self.given_up = why

    def why(self, lane: str) -> str | None:
        """Return why *lane* uses it no more, None if it still may."""
        return self.given_up or self.given_up_in.get(lane)

    def settled(self, lane: str, *, is_answer: bool, is_down: bool, now: float) -> None:
        """An attempt of *lane* is over; *is_down*: the lane's breaker is open there."""
        self.calls += 1
        self.answered += is_answer
        (self._down.add if is_down else self._down.discard)(lane)
        if self._down and self.down_since is None:
            self.down_since = now
            self.outages += 1
        elif not self._down and self.down_since is not None:
            self.down_s += now - self.down_since
            self.down_since = None

    def as_record(self, now: float) -> dict[str, Any]:
        """Return it as the store keeps it: plain JSON values."""
        is_down = self.down_since is not None
        down_s = self.down_s + (now - self.down_since if self.down_since is not None else 0.0)
        return {
            "name": self.name,
            "calls": self.calls,
            "answered": self.answered,
            "state": "given up" if self.given_up else "down" if is_down else "in use" if self.calls else "not used",
            "reason": self.given_up or "; ".join(f"{lane}: {why}" for lane, why in self.given_up_in.items()) or None,
            "outages": self.outages,
            "down_s": round(down_s, 3),
        }


class Door(Protocol):
    """What keeps a lane away from an endpoint that does not answer, and lets a request through now and then."""

    @property
    def is_open(self) -> bool:
        """Whether it keeps the lane away."""
        ...

    def wants_probe(self, now: float) -> bool:
        """Whether one request should go out to see if the endpoint answers again."""
        ...

    def admit_at(self, now: float) -> float:
        """Return the earliest instant of the next start."""
        ...


def choose(
    standings: Sequence[Standing], doors: Sequence[Door], lane: str, now: float, *, may_probe: bool = True
) -> int | None:
    """Return which endpoint *lane* uses next, by its place in the order; None when none is left.

    The first that is neither given up nor down. One that is down gets a request now and then, to see whether it
    answers, though not one that has tried it in vain (*may_probe*); if all are down, the one whose turn comes first.
    """
    left = [i for i, standing in enumerate(standings) if not standing.is_given_up(lane)]
    for i in left:
        if not doors[i].is_open or (may_probe and doors[i].wants_probe(now)):
            return i
    return min(left, key=lambda i: doors[i].admit_at(now), default=None)

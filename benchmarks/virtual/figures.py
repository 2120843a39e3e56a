"""What a run in virtual time came to, as the server saw it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from batchrunner.report import Report
from batchrunner.simulator import Ledger, Simulator
from batchrunner.simulator.ledger import Arrival
from batchrunner.simulator.settings import Quota


@dataclass(frozen=True, slots=True)
class Seen:
    """One message request as it arrived at the server."""

    at: float  #: Seconds from the start.
    arrival: Arrival


class SeeingLedger(Ledger):
    """A ledger that remembers every arrival."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self.seen: list[Seen] = []

    def arrive(self, arrival: Arrival, now: float) -> None:
        """Note that a request has arrived at *now*, and what it will get."""
        super().arrive(arrival, now)
        self.seen.append(Seen(now, arrival))


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run. All seconds are virtual."""

    simulator: Simulator
    seen: list[Seen]  #: All arrivals in their order.
    seconds: float  #: From the start to the end of the run.
    succeeded: int  #: Requests with an accepted answer.
    failed: int  #: Requests given up.
    report: Report | None = None  #: Of our own runs.
    notes: str = ""  #: What the run said meanwhile.

    @property
    def sent(self) -> int:
        """Requests that arrived at the server."""
        return len(self.seen)

    @property
    def statuses(self) -> dict[int, int]:
        """How many arrivals got which status."""
        return dict(Counter(one.arrival.status for one in self.seen))

    @property
    def refused_share(self) -> float:
        """The part of the arrivals that got a 429, 0 to 1."""
        return self.statuses.get(429, 0) / self.sent if self.sent else 0.0

    @property
    def goodput(self) -> float:
        """Accepted requests as a part of the refill that was ours until the last acceptance, summed over models.

        Above 1 where the bucket's first content was used too. The simulator must limit requests.
        """
        quota = _set(self.simulator.settings.requests)
        return len(self.accepted()) / (self._ours_s() * quota.per_s)

    @property
    def output_used(self) -> float:
        """Output tokens of accepted requests as a part of the refill that was ours until the last acceptance."""
        quota = _set(self.simulator.settings.output_tokens_limit)
        return sum(one.arrival.output_tokens for one in self.accepted()) / (self._ours_s() * quota.per_s)

    def accepted(self, model: str | None = None) -> list[Seen]:
        """Return the arrivals that passed the limits, of *model* or of all."""
        return [one for one in self.seen if one.arrival.accepted and model in {None, one.arrival.model}]

    def max_in_window(self, period_s: float = 60.0) -> int:
        """Return the most accepted arrivals in any half-open period."""
        return self.simulator.ledger.max_in_window(period_s)

    def _ours_s(self) -> float:
        last = {one.arrival.model: one.at for one in self.accepted()}
        return sum(self.simulator.ours_s(model, at) for model, at in last.items())


def _set(quota: Quota | None) -> Quota:
    if quota is None:
        raise ValueError("the simulator has no such limit")
    return quota

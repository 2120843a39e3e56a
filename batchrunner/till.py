"""Keeps a run within `--max-cost`: what a call may cost must fit beside what is spent and what is in flight."""

from collections.abc import Sequence
from typing import NamedTuple

from batchrunner.errors import UsageError
from batchrunner.lane import Ticket
from batchrunner.model import Attempt, Bill, Outcome, Success
from batchrunner.policy.purse import Purse
from batchrunner.prices.fare import Fare, Fares
from batchrunner.screen import usd

_UNKNOWN = (
    "No price is known for what {} asks for (its model, speed or place), so --max-cost cannot be kept. Give prices in your "
    "configuration (docs/cost.md), or leave out --max-cost."
)


class Refusal(NamedTuple):
    """Why an attempt may not start."""

    reason: str  #: In words, for the user.
    is_final: bool  #: No answer that is on its way can change it.


class Till:
    """Sells places: asked before each start, told of each end."""

    def __init__(self, purse: Purse, fares: Sequence[Fares]) -> None:
        """*fares*: of each of the run's endpoints, in their order."""
        self._purse = purse
        self._fares = fares
        self._asked: tuple[Attempt, int] | None = None  # the attempt that was asked about last, for which endpoint
        self._fare: Fare | None = None
        self._worst_usd = 0.0

    def preview(self, attempt: Attempt) -> None:
        """Look at an *attempt* that is going to be one of the first; raises `UsageError` if some endpoint has no price for it."""
        for fares in self._fares:  # those that only step in would end the run when they do
            if (fare := fares.of(attempt)) is None:
                raise UsageError(_UNKNOWN.format(attempt.custom_id))
            self._worst_usd = max(self._worst_usd, fare.worst_usd)

    def words(self, slots: int) -> str:
        """Return what is said of the cap before anything is sent; *slots*: calls in flight at most."""
        purse = self._purse
        spent = f", {usd(purse.spent_usd)} of it spent" if purse.spent_usd else ""
        return (
            f"at most {usd(purse.cap_usd)} (--max-cost){spent}; answers in flight are always collected, so it may be "
            f"exceeded by less than {usd(self._worst_usd)} (an answer as long as max_tokens) for each of up to {slots:,} "
            "calls in flight"
        )

    def refusal(self, attempt: Attempt, endpoint: int) -> Refusal | None:
        """Return why *attempt* may not go to *endpoint* now; None: it may, and `start` is to follow."""
        if self._asked is None or self._asked[0] is not attempt or self._asked[1] != endpoint:
            self._asked, self._fare = (attempt, endpoint), self._fares[endpoint].of(attempt)
        purse, fare = self._purse, self._fare
        if fare is None:
            return Refusal(_UNKNOWN.format(attempt.custom_id), is_final=True)
        if purse.fits(fare.likely_usd):
            return None
        # What it may cost is known better with every answer.
        self._asked = None
        return Refusal(
            f"{usd(purse.spent_usd)} of {usd(purse.cap_usd)} (--max-cost) is spent, and the next request may cost "
            f"{usd(fare.likely_usd)}. The same command with a higher --max-cost goes on.",
            is_final=purse.in_flight == 0,
        )

    def start(self, ticket: Ticket) -> None:
        """*ticket* starts: the attempt that was asked about last."""
        if self._fare is None:
            raise AssertionError("start without a fare")
        ticket.held_usd = self._fare.likely_usd
        self._purse.hold(ticket.held_usd)
        self._asked = None

    def settled(self, ticket: Ticket, outcome: Outcome, bill: Bill) -> None:
        """The attempt of *ticket* is over, and *bill* is what it cost."""
        answer = outcome if isinstance(outcome, Success) else outcome.answer
        if answer is not None and bill.cost_usd is not None:  # what an answer does not say teaches nothing
            self._fares[ticket.berth.index].answered(ticket.attempt, answer.usage)
        self._purse.settle(ticket.held_usd, bill.cost_usd)

    def given_back(self, ticket: Ticket) -> None:
        """The attempt of *ticket* never went out."""
        self._purse.settle(ticket.held_usd, 0.0)

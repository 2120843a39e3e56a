"""Keeps a run within `--max-cost`: what a call may cost must fit beside what is spent and what is in flight."""

from collections.abc import Sequence
from typing import NamedTuple

from batchrunner.lane import Ticket
from batchrunner.model import Attempt, Failure, Outcome, Success
from batchrunner.policy.purse import Purse
from batchrunner.prices.fare import Fare, Fares


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

    def refusal(self, attempt: Attempt, endpoint: int) -> Refusal | None:
        """Return why *attempt* may not go to *endpoint* now; None: it may, and `start` is to follow."""
        if self._asked is None or self._asked[0] is not attempt or self._asked[1] != endpoint:
            self._asked, self._fare = (attempt, endpoint), self._fares[endpoint].of(attempt)
        purse, fare = self._purse, self._fare
        if fare is None:
            return Refusal(
                f"No price is known for what {attempt.custom_id} asks for (its model, speed or place), so --max-cost "
                "cannot be kept. Give prices in your configuration (docs/cost.md), or leave out --max-cost.",
                is_final=True,
            )
        if purse.fits(fare.likely_usd):
            return None
        # What it may cost is known better with every answer.
        self._asked = None
        return Refusal(
            f"${purse.spent_usd:,.2f} of ${purse.cap_usd:,.2f} (--max-cost) is spent, and the next request may cost "
            f"${fare.likely_usd:,.4f}. The same command with a higher --max-cost goes on.",
            is_final=purse.in_flight == 0,
        )

    def start(self, ticket: Ticket) -> None:
        """*ticket* starts: the attempt that was asked about last."""
        if self._fare is None:
            raise AssertionError("start without a fare")
        ticket.held_usd = self._fare.likely_usd
        self._purse.hold(ticket.held_usd)
        self._asked = None

    def settled(self, ticket: Ticket, outcome: Outcome) -> None:
        """The attempt of *ticket* is over."""
        answer = outcome if isinstance(outcome, Success) else outcome.answer
        cost: float | None = 0.0
        if answer is not None:
            cost = self._fares[ticket.berth.index].answered(ticket.attempt, answer.usage)
        elif isinstance(outcome, Failure) and outcome.possibly_paid:
            cost = None
        self._purse.settle(ticket.held_usd, cost)

    def given_back(self, ticket: Ticket) -> None:
        """The attempt of *ticket* never went out."""
        self._purse.settle(ticket.held_usd, 0.0)

"""What the user lets a run take in money and time, as the dispatcher minds it."""

from batchrunner.lane import Ticket
from batchrunner.model import Attempt, Bill, Outcome
from batchrunner.policy.last_start import LastStart
from batchrunner.screen import duration
from batchrunner.till import Refusal, Till


class Bounds:
    """Asked before each start, told of each end. Without caps everything may start."""

    def __init__(self, *, last_start: LastStart | None = None, till: Till | None = None) -> None:
        self._last_start = last_start
        self._till = till

    def refusal(self, attempt: Attempt, endpoint: int) -> Refusal | None:
        """Return why *attempt* may not go to *endpoint* now for want of money; None: it may, and `start` is to follow."""
        return None if self._till is None else self._till.refusal(attempt, endpoint)

    def start(self, ticket: Ticket) -> None:
        """*ticket* starts."""
        if self._till is not None:
            self._till.start(ticket)

    def settled(self, ticket: Ticket, outcome: Outcome, bill: Bill, now: float) -> None:
        """The attempt of *ticket* is over, and *bill* is what it cost."""
        if self._last_start is not None and ticket.admission.sent_at is not None:
            self._last_start.answered(now - ticket.admission.sent_at)
        if self._till is not None:
            self._till.settled(ticket, outcome, bill)

    def given_back(self, ticket: Ticket) -> None:
        """The attempt of *ticket* never went out."""
        if self._till is not None:
            self._till.given_back(ticket)

    def time_is_up(self, now: float) -> str | None:
        """Return in words that nothing more may be sent for want of time; None: there is time left."""
        if self._last_start is None or now < self._last_start.at:
            return None
        return (
            f"The time for this run, {duration(self._last_start.duration_s)} (--max-duration), ends before another "
            "answer would arrive. The same command again goes on."
        )

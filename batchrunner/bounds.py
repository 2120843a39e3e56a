"""What the user lets a run take in money and time, as the dispatcher minds it."""

from batchrunner.lane import Ticket
from batchrunner.policy.last_start import LastStart
from batchrunner.screen import duration


class Bounds:
    """Asked before each start, told of each end. Without caps everything may start."""

    def __init__(self, *, last_start: LastStart | None = None) -> None:
        self._last_start = last_start

    def settled(self, ticket: Ticket, now: float) -> None:
        """An attempt is over."""
        if self._last_start is not None and ticket.admission.sent_at is not None:
            self._last_start.answered(now - ticket.admission.sent_at)

    def time_is_up(self, now: float) -> str | None:
        """Return in words that nothing more may be sent for want of time; None: there is time left."""
        if self._last_start is None or now < self._last_start.at:
            return None
        return (
            f"The time for this run, {duration(self._last_start.duration_s)} (--max-duration), ends before another "
            "answer would arrive. The same command again goes on."
        )

"""What ends a run, or a lane of it, before everything is final: halts, the user's own limits, a wish to stop."""

from collections.abc import Sequence

from batchrunner.counts import Counts
from batchrunner.lane import Lane, Ticket
from batchrunner.model import Failure, Halt, Outcome, Retry
from batchrunner.policy.failover import is_of_request
from batchrunner.policy.tolerance import HaltAt


class Endings:
    """Stops lanes, and remembers why. What is in flight goes on."""

    def __init__(self, lanes: Sequence[Lane], halt_at: HaltAt | None = None) -> None:
        """*halt_at*: how many failures the user puts up with; None: any number."""
        self.halts: list[Halt] = []  #: What stopped the run or a lane of it, in order.
        self.given_up: list[str] = []  #: Limits of the user's own that did, in words.
        self.ran_out: str | None = None  #: That money or time did, in words.
        self._lanes = lanes
        self._halt_at = halt_at

    def stop(self) -> None:
        """Send nothing more."""
        for lane in self._lanes:
            lane.scope.cancel()

    def give_up(self, lane: Lane, reason: str) -> None:
        """Send nothing more in this *lane*: a limit of the user's own is reached."""
        self.given_up.append(reason)
        lane.scope.cancel()

    def run_out(self, reason: str, lane: Lane | None = None) -> None:
        """Send nothing more (in this *lane*): the money or the time that the user has set is used up."""
        if self.ran_out is None:
            self.ran_out = reason
        if lane is None:
            self.stop()
        else:
            lane.scope.cancel()

    def halt(self, lane: Lane, halt: Halt) -> None:
        """Stop the run, or only this *lane*, as *halt* says."""
        self.halts.append(halt)
        if halt.lane_only:
            lane.scope.cancel()
        else:
            self.stop()

    def halted(self, ticket: Ticket, outcome: Outcome, halt: Halt, now: float) -> Halt | Retry:
        """Stop the run, or one lane; but where another endpoint is left the request goes on there, uncounted."""
        lane, standing = ticket.lane, ticket.berth.standing
        if len(lane.berths) == 1 or not halt.of_endpoint or not isinstance(outcome, Failure) or is_of_request(outcome):
            self.halt(lane, halt)
            return halt
        why = f"{outcome.message.rstrip('.')} ({outcome.error_class})"
        standing.give_up(lane.name, why, lane_only=halt.lane_only)
        for other in self._lanes:
            other.reconsider()
        if lane.is_afloat:
            return Retry(now, counted=False)
        told = "; ".join(f"{berth.standing.name}: {berth.standing.why(lane.name)}" for berth in lane.berths)
        halt = Halt(f"No endpoint is left. {told}.", lane_only=any(other.is_afloat for other in self._lanes))
        if not lane.scope.cancel_called:  # what was in flight there comes back after the halt, with the same news
            self.halt(lane, halt)
        for other in self._lanes:
            if not other.is_afloat:
                other.scope.cancel()
        return halt

    def mind_failures(self, counts: Counts) -> None:
        """Stop once more requests have failed than the user puts up with."""
        if self._halt_at is None or self.given_up:
            return
        if (reason := self._halt_at.reached(counts.failed, counts.failed + counts.succeeded)) is not None:
            self.given_up.append(reason)
            self.stop()

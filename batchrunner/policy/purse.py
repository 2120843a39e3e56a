"""What a run may still spend (`--max-cost`)."""


class Purse:
    """A cap in US dollars on what is spent and what is in flight together.

    Before a call goes out, `hold` sets aside what it may cost; when it is over, `settle` puts what it did cost in its
    place. As long as a call never costs more than was held for it, the cap is never exceeded; if they do, by no more
    than the calls in flight cost beyond it.
    """

    def __init__(self, cap_usd: float, spent_usd: float = 0.0) -> None:
        """*spent_usd*: what earlier runs have spent of the cap."""
        self.cap_usd = cap_usd
        self.spent_usd = spent_usd
        self.in_flight = 0  #: Calls that something is held for.
        self._held_usd = 0.0

    @property
    def held_usd(self) -> float:
        """What is set aside for calls in flight."""
        return self._held_usd

    @property
    def left_usd(self) -> float:
        """What is neither spent nor set aside; below zero once calls have cost more than was held for them."""
        return self.cap_usd - self.spent_usd - self._held_usd

    def fits(self, cost_usd: float) -> bool:
        """Whether a call that may cost so much may go out now."""
        return cost_usd <= self.left_usd

    def hold(self, cost_usd: float) -> None:
        """Set aside what a call may cost."""
        self.in_flight += 1
        self._held_usd += cost_usd

    def settle(self, held_usd: float, cost_usd: float | None) -> None:
        """A call for which *held_usd* was held is over and cost *cost_usd*.

        None: it may have been paid for, nobody knows how much, so what was held counts as spent.
        """
        self.in_flight -= 1
        # Sums of floats that are added and taken away in different orders do not come back to zero by themselves.
        self._held_usd = self._held_usd - held_usd if self.in_flight else 0.0
        self.spent_usd += held_usd if cost_usd is None else cost_usd

"""The money of the second route: what batches cost, and what they still may cost, against `--max-cost`."""

from batchrunner.errors import UsageError
from batchrunner.model import Attempt, Bill
from batchrunner.prices import Tariff, requested_model
from batchrunner.screen import usd


class BatchTill:
    """Lets rows into batches as long as all that was paid, and all that may have to be, stays below a cap."""

    def __init__(self, tariff: Tariff, *, cap_usd: float | None, spent_usd: float, promised_usd: float) -> None:
        """*spent_usd*: by all runs so far; *promised_usd*: what open batches cost at most."""
        self.tariff = tariff
        self._cap_usd = cap_usd
        self._spent_usd = spent_usd
        self._promised_usd = promised_usd

    def most_usd(self, attempt: Attempt, at: str) -> float | None:
        """Return what *attempt* costs at most as a row of a batch; None if no price is known.

        Raises `UsageError` for an unknown price where there is a cap to keep.
        """
        most = self.tariff.most(attempt, at, batch=True).possible_usd
        if most is None and self._cap_usd is not None:
            model = requested_model(attempt.params)
            raise UsageError(f"No price is known for {model}, so --max-cost cannot be kept: leave it out.")
        return most

    def admits(self, cost_usd: float | None) -> bool:
        """Whether a row that costs at most so much may go; from then on it counts."""
        if self._cap_usd is None or cost_usd is None:
            return True
        if self._spent_usd + self._promised_usd + cost_usd > self._cap_usd:
            return False
        self._promised_usd += cost_usd
        return True

    def paid(self, bill: Bill, promised_usd: float) -> None:
        """A row came back with its *bill*; it might have cost *promised_usd*, and did for all that is known without a cost."""
        self._spent_usd += promised_usd if bill.cost_usd is None else bill.cost_usd
        self.freed(promised_usd)

    def freed(self, promised_usd: float) -> None:
        """What might have cost so much will cost nothing any more."""
        self._promised_usd = max(0.0, self._promised_usd - promised_usd)

    @property
    def told(self) -> str:
        """What to say when it does not admit a row."""
        return (
            f"{usd(self._spent_usd)} of {usd(self._cap_usd or 0.0)} (--max-cost) is spent, and the rows that were submitted may "
            f"cost {usd(self._promised_usd)}: nothing more is. Once they are collected the same command goes on with what is "
            "left; with a higher --max-cost at once."
        )

"""What a run has done so far."""

from collections import Counter
from dataclasses import dataclass, field, fields

from batchrunner.model import ErrorClass, Fail, Failure, Halt, Retry, Settlement, Success


@dataclass(slots=True)
class Counts:
    """What this run has done so far; for progress and the summary."""

    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    retries: int = 0
    refused: int = 0  #: Of the retries, those after a 429.
    halted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0  #: As far as it is known.
    unpriced: int = 0  #: Answers whose cost is not known.
    possibly_billed: int = 0  #: Attempts that brought no answer and may have been billed.
    possible_usd: float = 0.0  #: What those cost at most, as far as prices are known.
    failures: Counter[ErrorClass] = field(default_factory=Counter)  #: Final ones, by class.

    def add(self, settlement: Settlement) -> None:
        """Count one settlement."""
        outcome = settlement.outcome
        answer = outcome if isinstance(outcome, Success) else outcome.answer
        if answer is not None:
            self.input_tokens += answer.usage.input_tokens
            self.output_tokens += answer.usage.output_tokens
            self.unpriced += settlement.bill.cost_usd is None
        elif isinstance(outcome, Failure) and outcome.possibly_paid:
            self.possibly_billed += 1
            self.possible_usd += settlement.bill.possible_usd or 0.0
        self.cost_usd += settlement.bill.cost_usd or 0.0
        match settlement.decision:
            case None:
                self.succeeded += 1
            case Fail():
                self.failed += 1
                self.failures.update([outcome.error_class] if isinstance(outcome, Failure) else ())
            case Retry():
                self.retries += 1
                self.refused += isinstance(outcome, Failure) and outcome.error_class is ErrorClass.RATE_LIMITED
            case Halt():
                self.halted += 1

    def plus(self, earlier: "Counts") -> "Counts":
        """Return these counts and those of an *earlier* part of the run together."""
        names = [one.name for one in fields(self)]
        return Counts(**{name: getattr(self, name) + getattr(earlier, name) for name in names})

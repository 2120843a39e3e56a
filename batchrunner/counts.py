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
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    followed: int = 0  #: Got the answer, or shared the failure, of an identical request without being sent.
    cost_usd: float = 0.0  #: As far as it is known.
    unpriced: int = 0  #: Answers whose cost is not known.
    possibly_billed: int = 0  #: Attempts that brought no answer and may have been billed.
    possible_usd: float = 0.0  #: What those cost at most, as far as prices are known.
    unsaid: int = 0  #: Of the unpriced, those that do not say what they took.
    unsaid_usd: float = 0.0  #: What those cost at most.
    saved_usd: float = 0.0  #: By the prompt cache and by batches.
    failures: Counter[ErrorClass] = field(default_factory=Counter)  #: Final ones, by class.

    def plus(self, other: "Counts") -> "Counts":
        """Return what both have done."""
        names = (field.name for field in fields(self))
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def add(self, settlement: Settlement, followers: int = 0) -> None:
        """Count one settlement, and so many identical requests that share its fate."""
        outcome = settlement.outcome
        answer = outcome if isinstance(outcome, Success) else outcome.answer
        if answer is not None:
            self.input_tokens += answer.usage.input_tokens
            self.output_tokens += answer.usage.output_tokens
            self.cache_write_tokens += answer.usage.cache_write_tokens
            self.cache_read_tokens += answer.usage.cache_read_tokens
            self.unpriced += settlement.bill.cost_usd is None
            self.unsaid += settlement.bill.possible_usd is not None
            self.unsaid_usd += settlement.bill.possible_usd or 0.0
        elif isinstance(outcome, Failure) and outcome.possibly_paid:
            self.possibly_billed += 1
            self.possible_usd += settlement.bill.possible_usd or 0.0
        bill = settlement.bill
        self.cost_usd += bill.cost_usd or 0.0
        self.saved_usd += bill.saved_cache_usd + bill.saved_batches_usd
        match settlement.decision:
            case None:
                self.succeeded += 1 + followers
                self.followed += followers
            case Fail():
                self.failed += 1 + followers
                self.followed += followers
                if isinstance(outcome, Failure):
                    self.failures[outcome.error_class] += 1 + followers
            case Retry():
                self.retries += 1
                self.refused += isinstance(outcome, Failure) and outcome.error_class is ErrorClass.RATE_LIMITED
            case Halt():
                self.halted += 1

"""How screens speak of what a job has cost and will cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batchrunner.cli.showing import many
from batchrunner.screen import usd
from batchrunner.store.accounts import IN_FLIGHT, Account, total
from batchrunner.store.found import Progress


@dataclass(frozen=True, slots=True)
class Bottom:
    """The bottom line of all accounts of a store."""

    settled: Account  #: Sums of all but what is in flight.
    in_flight: Account
    unsaid: Account  #: Of the settled, answers that do not say what they took; they cost `possible_usd` at most.
    projected_usd: (
        float | None
    )  #: All that is known, and as much for each pending request as for a final one; None: no telling.

    @classmethod
    def of(cls, given: Sequence[Account], progress: Progress) -> "Bottom":
        """Return the bottom line of *given*."""
        settled = total([one for one in given if one.class_ != IN_FLIGHT])
        in_flight = total([one for one in given if one.class_ == IN_FLIGHT])
        unsaid = total([one for one in given if one.possible_usd and not one.possibly_billed])
        return cls(settled, in_flight, unsaid, _projected(settled, progress))

    @property
    def known_usd(self) -> float | None:
        """What is known; None if nothing is because no answer has a price."""
        if self.settled.answered and self.settled.unpriced == self.settled.answered:
            return None
        return self.settled.cost_usd

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        return {
            "known_usd": self.known_usd,
            "unpriced_answers": self.settled.unpriced,
            "possibly_billed_attempts": self.settled.possibly_billed,
            "possibly_billed_usd": self.settled.possible_usd - self.unsaid.possible_usd,
            "possibly_billed_unpriced": self.settled.possible_unpriced,
            "unsaid_answers": self.unsaid.unpriced,
            "unsaid_usd": self.unsaid.possible_usd,
            "in_flight_attempts": self.in_flight.attempts,
            "in_flight_usd": self.in_flight.possible_usd,
            "projected_usd": self.projected_usd,
            "saved_cache_usd": self.settled.saved_cache_usd,
            "saved_batches_usd": self.settled.saved_batches_usd,
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what there is to say, each with its label."""
        yield "spent", spent_words(self)
        if self.settled.possibly_billed:
            attempts = many(self.settled.possibly_billed, "attempt")
            at_most = _at_most(self.settled, self.unsaid.possible_usd)
            yield "possibly", f"{at_most}: {attempts} may have been billed without an answer"
        if self.unsaid.unpriced:
            told = f"{many(self.unsaid.unpriced, 'answer')} without figures of what they took"
            yield "unsaid", f"at most {usd(self.unsaid.possible_usd)} more: {told}"
        if self.in_flight.attempts:
            yield "in flight", f"{_at_most(self.in_flight)}: {many(self.in_flight.attempts, 'attempt')}"
        if self.projected_usd is not None:
            yield (
                "projected",
                f"about {usd(self.projected_usd)} in all, if the pending requests cost what those before them did",
            )
        if saved := saved_words(self.settled):
            yield "saved", saved


def spent_words(bottom: Bottom) -> str:
    """Return what is known, and of how much it is not."""
    settled = bottom.settled
    if bottom.known_usd is None:
        why = "no usage is known of" if bottom.unsaid.unpriced == settled.unpriced else "no price is known for"
        return f"unknown: {why} {many(settled.unpriced, 'answer')}"
    unknown = f", and {many(settled.unpriced, 'answer')} whose cost is not known" if settled.unpriced else ""
    return usd(settled.cost_usd) + unknown


def saved_words(account: Account) -> str:
    """Return what caching and batches have saved; nothing if neither was used."""
    by = (("by the prompt cache", account.saved_cache_usd), ("by batches", account.saved_batches_usd))
    return ", ".join(
        f"{usd(amount)} {what}" if amount > 0 else f"{usd(-amount)} lost {what}: more was written than read paid back"
        for what, amount in by
        if amount
    )


def _at_most(account: Account, less_usd: float = 0.0) -> str:
    if account.possible_unpriced == account.possibly_billed:
        return "an unknown amount more"
    unknown = f", and {many(account.possible_unpriced, 'attempt')} without a price" if account.possible_unpriced else ""
    return f"at most {usd(account.possible_usd - less_usd)} more{unknown}"


def _projected(settled: Account, progress: Progress) -> float | None:
    final = progress.succeeded + progress.failed
    if not progress.pending or not final or settled.unpriced or not settled.answered:
        return None
    return settled.cost_usd * (1 + progress.pending / final)

"""When a failure is everybody's: a dead key, an empty account, a wrong address, a mistake in every row."""

from dataclasses import replace

from batchrunner.model import Decision, ErrorClass, Fail, Failure, Halt, Retry
from batchrunner.policy.explanations import EXPLANATIONS, explained, is_page
from batchrunner.policy.signature import signature

#: So many requests that finish first, all with the same permanent failure, stop the run.
OPENING = 20
#: On a gateway one refusal may come from one bad channel of many: it takes two in a row.
GATEWAY_PATIENCE = 2
#: So many web pages for answers, and nothing else so far, and the address is wrong.
PAGES = 3

#: What to look at, by class; follows what the server said.
REMEDIES = {error_class: explanation.remedy for error_class, explanation in EXPLANATIONS.items()}

_PERMANENT = {ErrorClass.INVALID, ErrorClass.TOO_LARGE}
_SECOND_LOOK_S = 1.0


class HaltWatch:
    """Watches one run's decisions and turns them into halts, or a gateway's first refusal into a second look."""

    def __init__(self, *, official: bool) -> None:
        self._patience = 1 if official else GATEWAY_PATIENCE
        self._refusals = 0
        self._finished = 0
        self._first_signature: str | None = None
        self._pages: int | None = 0  # None once anything else has come back

    def succeeded(self) -> None:
        """A request brought an answer."""
        self._refusals = 0
        self._finished += 1
        self._first_signature = None
        self._pages = None

    def review(self, failure: Failure, decision: Decision, now: float) -> Decision:
        """Return *decision*, or what the run as a whole makes of it at *now*."""
        if self._leads_to_pages(failure):
            return _explained(failure, Halt(failure.message))
        if isinstance(decision, Halt):
            self._refusals += 1
            if self._refusals < self._patience:
                return Retry(now + _SECOND_LOOK_S, counted=False)
            return _explained(failure, decision)
        self._refusals = 0
        if isinstance(decision, Fail):
            return self._opening(failure)
        return decision

    def _leads_to_pages(self, failure: Failure) -> bool:
        """Whether nothing but web pages has come back so far, and enough of them. A broken connection says nothing."""
        if self._pages is None or failure.http_status is None:
            return False
        is_one = failure.error_class is ErrorClass.BAD_RESPONSE and is_page(failure)
        self._pages = self._pages + 1 if is_one else None
        return self._pages is not None and self._pages >= PAGES

    def _opening(self, failure: Failure) -> Decision:
        """Stop when the first requests to finish all fail permanently and alike: a wrong parameter in every row."""
        self._finished += 1
        if self._finished > OPENING:
            return Fail()
        same = signature(failure.message) if failure.error_class in _PERMANENT else None
        if self._finished == 1:
            self._first_signature = same
        elif same != self._first_signature:
            self._first_signature = None
        if self._finished == OPENING and self._first_signature is not None:
            reason = f"The first {OPENING} requests all failed alike: {failure.message}"
            return Halt(reason, steps=EXPLANATIONS[ErrorClass.INVALID].steps)
        return Fail()


def _explained(failure: Failure, halt: Halt) -> Halt:
    """Return *halt* with what was seen, what it usually means, and what to try."""
    explanation = explained(failure)
    said = f"{failure.message.rstrip('.')} ({failure.error_class})."
    if explanation is None:
        return replace(halt, reason=said)
    return replace(halt, reason=f"{said} {explanation.remedy}", steps=explanation.steps)

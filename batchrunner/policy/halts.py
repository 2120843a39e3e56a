"""When a failure is everybody's: a dead key, an empty account, a wrong address, a mistake in every row."""

from dataclasses import replace

from batchrunner.model import Decision, ErrorClass, Fail, Failure, Halt, Retry
from batchrunner.policy.signature import signature

#: So many requests that finish first, all with the same permanent failure, stop the run.
OPENING = 20
#: On a gateway one refusal may come from one bad channel of many: it takes two in a row.
GATEWAY_PATIENCE = 2

#: What to look at, by class; follows what the server said.
REMEDIES = {
    ErrorClass.AUTHENTICATION: (
        "Look at ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN): is it set, whole, not revoked, and meant for this endpoint?"
    ),
    ErrorClass.PERMISSION: "The key may not do this, or not from here: look at its workspace, its models and your region.",
    ErrorClass.BILLING: "Add credit or raise the spend limit, then run the same command again.",
    ErrorClass.ENDPOINT: "Look at ANTHROPIC_BASE_URL or --base-url: the address of the API itself, that redirects nowhere and ends before /v1.",
    ErrorClass.NOT_FOUND: "The endpoint does not offer this model: look at --model and at the lines that name one.",
}

_PERMANENT = {ErrorClass.INVALID, ErrorClass.TOO_LARGE}
_SECOND_LOOK_S = 1.0


class HaltWatch:
    """Watches one run's decisions and turns them into halts, or a gateway's first refusal into a second look."""

    def __init__(self, *, official: bool) -> None:
        self._patience = 1 if official else GATEWAY_PATIENCE
        self._refusals = 0
        self._finished = 0
        self._first_signature: str | None = None

    def succeeded(self) -> None:
        """A request brought an answer."""
        self._refusals = 0
        self._finished += 1
        self._first_signature = None

    def review(self, failure: Failure, decision: Decision, now: float) -> Decision:
        """Return *decision*, or what the run as a whole makes of it at *now*."""
        if isinstance(decision, Halt):
            self._refusals += 1
            if self._refusals < self._patience:
                return Retry(now + _SECOND_LOOK_S, counted=False)
            return _explained(failure, decision)
        self._refusals = 0
        if isinstance(decision, Fail):
            return self._opening(failure)
        return decision

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
            return Halt(f"The first {OPENING} requests all failed alike: {failure.message}")
        return Fail()


def _explained(failure: Failure, halt: Halt) -> Halt:
    remedy = REMEDIES.get(failure.error_class)
    said = f"{failure.message.rstrip('.')} ({failure.error_class})."
    return replace(halt, reason=f"{said} {remedy}" if remedy else said, of_endpoint=True)

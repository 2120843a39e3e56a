"""From what came of an attempt to what becomes of its request: the policies in their order."""

import random

from batchrunner.model import Attempt, Decision, ErrorClass, Fail, Failure, Outcome, Retry
from batchrunner.policy.answers import judge
from batchrunner.policy.halts import HaltWatch
from batchrunner.policy.refusals import RefusalWatch
from batchrunner.policy.retry import Rules, decide

#: Refusals that close the gate of the whole lane; the refused request waits for it like all others.
GATED = frozenset({ErrorClass.RATE_LIMITED, ErrorClass.CONCURRENCY, ErrorClass.RAMP})


class Judge:
    """One run's judgement. Keeps only what the run as a whole has seen."""

    def __init__(self, rules: Rules, *, accept: frozenset[ErrorClass], official: bool, rng: random.Random) -> None:
        """Judge by *rules*; flaws in *accept* pass; *official*: the endpoint is Anthropic's own, so one refusal is final."""
        self._rules = rules
        self._accept = accept
        self._rng = rng
        self._halts = HaltWatch(official=official)
        self._refusals = RefusalWatch()

    def judge(
        self, attempt: Attempt, outcome: Outcome, now: float, gate_opens_at: float
    ) -> tuple[Outcome, Decision | None]:
        """Return the outcome as it counts and the decision; no decision for an accepted answer."""
        if not isinstance(outcome, Failure):
            outcome = judge(outcome, self._accept)
        if not isinstance(outcome, Failure):
            self._halts.succeeded()
            self._refusals.succeeded(attempt)
            return outcome, None
        decision = decide(outcome, attempt, self._rules, now, self._rng)
        if isinstance(decision, Retry) and outcome.error_class in GATED:
            decision = self._refusals.refused(attempt) or Retry(max(now, gate_opens_at), counted=decision.counted)
        decision = self._halts.review(outcome, decision, now)
        if isinstance(decision, Fail):
            self._refusals.forget(attempt)
        return outcome, decision

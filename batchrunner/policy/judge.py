"""From what came of an attempt to what becomes of its request: the policies in their order."""

import math
import random
from typing import NamedTuple

from batchrunner.model import Attempt, Decision, ErrorClass, Fail, Failure, Outcome, Retry
from batchrunner.policy.answers import judge
from batchrunner.policy.halts import HaltWatch
from batchrunner.policy.refusals import RefusalWatch
from batchrunner.policy.retry import Action, Rules, decide

#: Refusals that close the gate of the whole lane; the refused request waits for it like all others.
GATED = frozenset({ErrorClass.RATE_LIMITED, ErrorClass.CONCURRENCY, ErrorClass.RAMP})


class Lesson(NamedTuple):
    """What an outcome means for its request, as far as its lane knows."""

    excused: bool = False  #: The failure is the lane's and uses up no attempt.
    retry_at: float = -math.inf  #: No retry before this instant.


NOTHING = Lesson()


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
        self, attempt: Attempt, outcome: Outcome, now: float, lesson: Lesson = NOTHING, *, alone: bool = False
    ) -> tuple[Outcome, Decision | None]:
        """Return the outcome as it counts and the decision; no decision for an accepted answer.

        *lesson*: what the outcome means as far as the lane knows; *alone*: its lane has nothing else to send.
        """
        if not isinstance(outcome, Failure):
            outcome = judge(outcome, self._accept)
        if not isinstance(outcome, Failure):
            self._halts.succeeded()
            self._refusals.succeeded(attempt)
            return outcome, None
        decision = decide(outcome, attempt, self._rules, now, self._rng)
        if outcome.error_class in GATED:
            if isinstance(decision, Retry):
                retry = Retry(max(now, lesson.retry_at), counted=decision.counted)
                decision = self._refusals.refused(attempt, now, alone=alone) or retry
        elif lesson.excused and self._rules[outcome.error_class].action is Action.RETRY:
            decision = Retry(max(now, lesson.retry_at), counted=False)
        decision = self._halts.review(outcome, decision, now)
        if isinstance(decision, Fail):
            self._refusals.forget(attempt)
        return outcome, decision

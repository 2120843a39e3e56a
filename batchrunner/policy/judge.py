"""From what came of an attempt to what becomes of its request: the policies in their order."""

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from batchrunner.model import Attempt, Decision, ErrorClass, Fail, Failure, Outcome, Retry
from batchrunner.policy.answers import judge
from batchrunner.policy.budget import RetryBudget
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

    def __init__(
        self,
        rules: Rules,
        *,
        accept: frozenset[ErrorClass],
        official: bool,
        rng: random.Random,
        others: Iterable[bool] = (),
        schema: str | None = None,
        budgeted: bool = True,
    ) -> None:
        """Judge by *rules*; flaws in *accept* pass; *official*: the endpoint is Anthropic's own, so one refusal is final.

        *others*: the same of each further endpoint. *schema*: JSON text of what every answer must fit, whatever its
        request asks for itself. *budgeted*: retries are spread so that they stay a fraction of what is sent; where others
        decide when a request is worked on, that spares nobody.
        """
        self._schema = schema
        self._rules = rules
        self._accept = accept
        self._rng = rng
        self._halts = [HaltWatch(official=one) for one in (official, *others)]
        self._refusals = RefusalWatch()
        self._budget = RetryBudget() if budgeted else None

    def judge(
        self, attempt: Attempt, outcome: Outcome, now: float, lesson: Lesson = NOTHING, *, alone: bool = False
    ) -> tuple[Outcome, Decision | None]:
        """Return the outcome as it counts and the decision; no decision for an accepted answer.

        *lesson*: what the outcome means as far as the lane knows; *alone*: its lane has nothing else to send.
        """
        if not attempt.failures and self._budget is not None:
            self._budget.sent(now)
        if not isinstance(outcome, Failure):
            outcome = judge(outcome, self._accept, params=attempt.params, schema=self._schema)
        if not isinstance(outcome, Failure):
            self._halts[attempt.endpoint].succeeded()
            self._refusals.succeeded(attempt)
            return outcome, None
        decision = decide(outcome, attempt, self._rules, now, self._rng)
        if outcome.error_class in GATED:
            if isinstance(decision, Retry):
                decision = self._refused(attempt, outcome, now, lesson, alone=alone, counted=decision.counted)
        elif lesson.excused and self._rules[outcome.error_class].action is Action.RETRY:
            decision = Retry(max(now, lesson.retry_at), counted=False)
        elif isinstance(decision, Retry) and self._budget is not None:
            decision = replace(decision, at=self._budget.due(now, decision.at))
        decision = self._halts[attempt.endpoint].review(outcome, decision, now)
        if isinstance(decision, Fail):
            self._refusals.forget(attempt)
        return outcome, decision

    def is_suspect(self, attempt: Attempt) -> bool:
        """Whether a refusal of *attempt* would say more of its request than of its lane."""
        return self._refusals.is_suspect(attempt)

    def _refused(
        self, attempt: Attempt, failure: Failure, now: float, lesson: Lesson, *, alone: bool, counted: bool
    ) -> Decision:
        """Wait for the gate like everybody; a request that was refused before lets others go first."""
        given_up = self._refusals.refused(attempt, now, alone=alone)
        again = self._refusals.times(attempt) - 1
        own_wait_s = self._rules[failure.error_class].wait_s(again, self._rng) if again > 0 else 0.0
        return given_up or Retry(max(now, lesson.retry_at) + own_wait_s, counted=counted)

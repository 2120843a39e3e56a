"""Where a lane's requests wait until the prompt cache has what they would otherwise write themselves."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from batchrunner.clock import Clock
from batchrunner.model import Attempt, Outcome, Success
from batchrunner.policy.prefixes import Mark, marks_of
from batchrunner.policy.priming import Hold, Priming

#: So many requests wait, or requests of so many characters, before no more of their kind are read ahead.
MOST_PARKED = 1000
MOST_CHARS = 32 * 1024 * 1024


class Parking:
    """A lane's requests that wait, by the prefix that they wait for; and what the lane has to know of the cache."""

    def __init__(self, clock: Clock, priming: Priming) -> None:
        """*priming*: of the endpoint in use."""
        self.count = 0
        self._chars = 0
        self._clock = clock
        self._priming = priming
        self._stirred = False  # something that they wait for may have happened
        self._waiting: dict[str, deque[Attempt]] = {}
        self._until: dict[str, float] = {}

    @property
    def is_full(self) -> bool:
        """Whether no more of what would have to wait is to be read ahead."""
        return self.count >= MOST_PARKED or self._chars >= MOST_CHARS

    @property
    def until(self) -> float:
        """When the first of them waits no longer, whatever happens; infinite if there are none."""
        return min(self._until.values(), default=math.inf)

    def turn(self, priming: Priming) -> None:
        """Another endpoint is in use, which has another cache."""
        self._priming, self._stirred = priming, True

    def parks(self, due: deque[Attempt]) -> bool:
        """Let the first of *due* wait if it has to, and say so."""
        hold = self._hold(marks_of(due[0].prefix or ""))
        if hold is None:
            return False
        attempt = due.popleft()
        self._waiting.setdefault(hold.key, deque()).append(attempt)
        self._until[hold.key] = hold.until
        self.count += 1
        self._chars += len(attempt.params)
        return True

    def release(self) -> list[Attempt]:
        """Return those that need not wait any more, group by group, in their order."""
        found: list[Attempt] = []
        if not self._stirred and self._clock.monotonic() < self.until:
            return found
        self._stirred = False
        for key, waiting in list(self._waiting.items()):
            hold = self._hold(marks_of(waiting[0].prefix or ""))
            if hold is not None and hold.key == key:
                self._until[key] = hold.until
            else:
                found += waiting
                del self._waiting[key], self._until[key]
        self.count -= len(found)
        self._chars -= sum(len(attempt.params) for attempt in found)
        return found

    def held_by(self, marks: Sequence[Mark]) -> str | None:
        """Return the key of the prefix that a request with *marks* has to wait for now; None if it has not to."""
        hold = self._hold(marks)
        return None if hold is None else hold.key

    def leading(self, attempt: Attempt, due: deque[Attempt]) -> Attempt:
        """*attempt* starts, with *due* behind it; return it as it is to be sent.

        Where others wait for its prefix it is streamed, for then it shows when its answer begins.
        """
        marks, now, priming = marks_of(attempt.prefix or ""), self._clock.monotonic(), self._priming
        lacking = priming.lacks(marks, now)
        priming.started(marks, attempt.seq, now)
        following = (due[0].prefix or "") if due else ""
        if not priming.holds or not any(key in following for key in lacking):
            return attempt
        stream = attempt.stream or (attempt.max_tokens > 0 and not attempt.failures)
        return replace(attempt, leads=True, stream=stream)

    def kept_chars(self, attempt: Attempt) -> int:
        """Return how many characters of *attempt* the cache delivers."""
        if attempt.prefix is None:
            return 0
        return self._priming.kept_chars(marks_of(attempt.prefix), self._clock.monotonic())

    def begun(self, attempt: Attempt, priming: Priming) -> bool:
        """The answer to *attempt* begins to arrive; return whether others may have waited for it."""
        return self._stir(priming.begun(marks_of(attempt.prefix or ""), attempt.seq, self._clock.monotonic()))

    def over(self, attempt: Attempt, priming: Priming, outcome: Outcome) -> bool:
        """*attempt* has come to *outcome*; return whether others may have waited for it."""
        answer = outcome if isinstance(outcome, Success) else outcome.answer
        usage = None if answer is None else answer.usage
        return self._stir(priming.over(marks_of(attempt.prefix or ""), attempt.seq, self._clock.monotonic(), usage))

    def _stir(self, stirred: bool) -> bool:  # noqa: FBT001 - a private helper
        self._stirred |= stirred
        return stirred

    def _hold(self, marks: Sequence[Mark]) -> Hold | None:
        return self._priming.hold(marks, self._clock.monotonic())

"""The retry budget: however much fails, retries stay a fraction of what is sent. Pure; the time is an argument.

Budgets per class bound what one request may cost. This one bounds what all of them together put on a server that is in
trouble: where half of the calls fail, six attempts each would double the load just when it should shrink. After
Finagle's `RetryBudget`; but there a retry beyond the budget is dropped, and here it waits.
"""

import math
from collections import Counter, deque

#: It looks at windows of so many seconds.
WINDOW_S = 10
#: In any of them, retries may be this share of the fresh calls of the last one,
SHARE = 0.2
#: and so many a second besides, so that a small or slow job does not wait for long.
PER_SECOND = 10
#: The allowance is reckoned in steps of so many, so that it does not change with every call.
_STEP = 10


class RetryBudget:
    """Says when a retry may become due. Remembers counts by the second, never single requests."""

    def __init__(self) -> None:
        self._fresh: deque[list[int]] = deque()  # [second, calls], of the last window
        self._due: Counter[int] = Counter()  # retries by the second in which they become due
        self._windows: Counter[int] = Counter()  # the same, summed over the window that begins in that second
        self._next: dict[int, int] = {}  # a second that has no room, and one from which on to look
        self._allowance = 0

    def sent(self, now: float) -> None:
        """A call that is no retry was made."""
        second = math.floor(now)
        if self._fresh and self._fresh[-1][0] >= second:
            self._fresh[-1][1] += 1
        else:
            self._fresh.append([second, 1])

    def due(self, now: float, at: float) -> float:
        """Return when a retry that wants to be due *at* may be, that instant or later, and reserve its place."""
        self._look(now)
        wanted = math.floor(at)
        second = self._first_free(wanted)
        for window in range(second - WINDOW_S + 1, second + 1):
            self._windows[window] += 1
        self._due[second] += 1
        # The fraction of the second is kept: it was drawn by chance, and spreads the retries within it.
        return at if second == wanted else second + at - wanted

    def _look(self, now: float) -> None:
        this_second = math.floor(now)
        while self._fresh and self._fresh[0][0] <= this_second - WINDOW_S:
            self._fresh.popleft()
        fresh = sum(calls for _, calls in self._fresh)
        allowance = PER_SECOND * WINDOW_S + int(SHARE * fresh) // _STEP * _STEP
        if allowance > self._allowance:
            self._next.clear()  # what was full has room again
        self._allowance = allowance
        if len(self._due) > 4 * WINDOW_S and min(self._due) < this_second - 2 * WINDOW_S:
            self._forget(this_second - WINDOW_S)

    def _forget(self, before: int) -> None:
        for counts in (self._due, self._windows):
            for second in [second for second in counts if second < before - WINDOW_S]:
                del counts[second]
        for second in [second for second in self._next if second < before]:
            del self._next[second]

    def _first_free(self, wanted: int) -> int:
        """Return the first second from *wanted* on with room in every window that it is part of."""
        passed = []
        second = wanted
        while True:
            if (further := self._next.get(second)) is not None:
                passed.append(second)
                second = further
            elif self._has_room(second):
                break
            else:
                self._next[second] = second + 1
        for earlier in passed:  # so that the next search takes one step where this one took many
            self._next[earlier] = second
        return second

    def _has_room(self, second: int) -> bool:
        return all(self._windows[window] < self._allowance for window in range(second - WINDOW_S + 1, second + 1))

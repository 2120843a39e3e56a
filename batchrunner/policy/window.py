"""The strict sliding window: never more than N sends in any period, counted by the moments they really went out."""

import math
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from batchrunner.errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LONGEST_S = 31 * 86_400
_RATE = re.compile(r"(?P<count>\d{1,9})\s*/\s*(?P<length>\d{0,7}(?:\.\d{1,3})?)\s*(?P<unit>s|min|m|h|)")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most *count* requests in any *period_s* seconds."""

    count: int
    period_s: float

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read `600/10s`, `4000/min`, `50/m`, `100000/h` or `5/s`; raises `UsageError` for anything else."""
        match = _RATE.fullmatch(text.strip())
        if match is None or (not match["length"] and not match["unit"]):
            raise UsageError(f"The rate {text!r} is not of the form COUNT/PERIOD, such as 600/10s or 4000/min.")
        count, period_s = int(match["count"]), round(float(match["length"] or 1) * _UNITS[match["unit"]], 3)
        if count < 1 or period_s <= 0:
            raise UsageError(f"The rate {text!r} permits nothing; both its numbers must be positive.")
        if period_s > _LONGEST_S:
            raise UsageError(f"The rate {text!r} has a period of more than 31 days.")
        return cls(count, period_s)

    @property
    def span_s(self) -> float:
        """Period plus guard: what is kept between our own stamps so that the *server's* period holds."""
        return self.period_s + guard_s(self.period_s)

    @property
    def per_second(self) -> float:
        """The even pace that uses the window fully."""
        return self.count / self.span_s

    def __str__(self) -> str:
        """Return the form that `parse` reads."""
        return f"{self.count}/{f'{self.period_s:.3f}'.rstrip('0').rstrip('.')}s"


#: No limit that anybody knows of; its window only remembers the sends of the last minute.
UNLIMITED = Rate(10**9, 60.0)


def guard_s(period_s: float) -> float:
    """Return what jitter on the way to the server is allowed for: 250 ms or 1 % of the period, whichever is less.

    Source: simulation against a server with a strict log of its own; a window of 60.25 s met no refusal at 5-500 ms
    of jitter, one of 60 s met 0.06-0.25 %.
    """
    return min(0.25, period_s / 100)


class StrictWindow:
    """Sends of the last period plus guard. A reserved place counts until its send has aged out or it is given back.

    The moment of sending is stamped afterwards, so a start that was held up between admission and wire (by a slow
    commit, a new connection) can never slip two windows' worth into one of the server's.
    """

    def __init__(self, rate: Rate, *, reserved: int = 0) -> None:
        """Keep *rate*; so many places are *reserved* already."""
        self.rate = rate
        self._sent: deque[float] = deque()
        self._reserved = reserved

    def admit_at(self, now: float) -> float:
        """Return the earliest instant at which one more may be reserved; `inf` while all places wait for a stamp."""
        self._forget(now)
        excess = len(self._sent) + self._reserved - self.rate.count
        if excess < 0:
            return now
        if excess >= len(self._sent):
            return math.inf
        return self._sent[excess] + self.rate.span_s

    @property
    def sends(self) -> int:
        """How many of the sends in it have been stamped."""
        return len(self._sent)

    def retuned(self, rate: Rate) -> "StrictWindow":
        """Return a window for another *rate* that remembers the sends and the places taken in this one."""
        window = StrictWindow(rate)
        window._sent.extend(self._sent)
        window._reserved = self._reserved
        return window

    def seed(self, sent_at: Iterable[float]) -> None:
        """Count sends of an earlier run; only before there are any of this one. *sent_at* must not go back."""
        self._sent.extend(sent_at)

    def reserve(self) -> None:
        """Take a place; `stamp` or `release` must follow."""
        self._reserved += 1

    def stamp(self, now: float) -> None:
        """The reserved send went out at *now*."""
        self._reserved -= 1
        self._sent.append(max(now, self._sent[-1]) if self._sent else now)

    def release(self) -> None:
        """The reserved send never went out."""
        self._reserved -= 1

    def _forget(self, now: float) -> None:
        oldest_kept = now - self.rate.span_s
        while self._sent and self._sent[0] <= oldest_kept:
            self._sent.popleft()

"""Priming a prompt cache: of requests that share a marked prefix one goes first, the others once its answer has begun.

The API can read an entry of its cache only once the answer that writes it has begun: sent together, all of them would
write it, at 1.25 times the price of plain input, and none would read it, at a tenth. A read lets the entry live on for
its whole lifetime; when that has passed without one, the next request goes first again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from batchrunner.model import Usage
from batchrunner.policy.prefixes import Mark

#: A request that has not begun to be answered after so long holds nobody up any more: the next one goes first, too.
PATIENCE_S = 60.0
#: An entry counts as gone so long before its lifetime is over: requests take their time to arrive.
MARGIN_S = 5.0
#: So many prefixes are remembered; above it those that nothing was sent for in the longest time are forgotten.
MOST_PREFIXES = 4096


class Hold(NamedTuple):
    """What a request waits for."""

    key: str  #: The prefix that is being written.
    until: float  #: At the latest.


@dataclass(slots=True)
class _Prefix:
    writer: int | None = None  # seq of the request that went first and whose answer has not begun
    since: float = 0.0  # it was started
    warm_until: float = -math.inf
    is_vain: bool = False  # an answer has shown that the endpoint does not keep it


class Priming:
    """The prompt cache of one endpoint as a lane knows it: what is being written, and what can be read until when."""

    def __init__(self, *, holds: bool = True) -> None:
        """*holds*: let the others wait; otherwise it is only known what the cache has."""
        self.holds = holds
        self._prefixes: dict[str, _Prefix] = {}  # in the order of their latest sends

    def hold(self, marks: Sequence[Mark], now: float) -> Hold | None:
        """Return what a request with *marks* has to wait for at *now*; None if it may start."""
        if not self.holds:
            return None
        for mark in marks:
            known = self._prefixes.get(mark.key)
            if known is None or known.writer is None or known.is_vain or known.warm_until > now:
                continue
            if (until := known.since + PATIENCE_S) > now:
                return Hold(mark.key, until)
        return None

    def lacks(self, marks: Sequence[Mark], now: float) -> list[str]:
        """Return the keys of those *marks* that a request which starts at *now* would have to write."""
        found = []
        for mark in marks:
            known = self._prefixes.get(mark.key)
            if known is None or not (known.is_vain or known.warm_until > now):
                found.append(mark.key)
        return found

    def started(self, marks: Sequence[Mark], seq: int, now: float) -> None:
        """The request *seq* with *marks* starts: it reads what is there, and goes first with what is not."""
        for mark in marks:
            known = self._prefixes.pop(mark.key, None) or _Prefix()
            self._prefixes[mark.key] = known
            if known.warm_until > now:
                known.warm_until = now + mark.lifetime_s - MARGIN_S
            elif known.writer is None or known.since + PATIENCE_S <= now:
                known.writer, known.since = seq, now
        self._forget(now)

    def begun(self, marks: Sequence[Mark], seq: int, now: float) -> bool:
        """The answer to the request *seq* has begun; return whether others may have waited for it."""
        found = False
        for mark in marks:
            known = self._prefixes.get(mark.key)
            if known is not None and known.writer == seq:
                known.writer = None
                known.warm_until = max(known.warm_until, now + mark.lifetime_s - MARGIN_S)
                found = True
        return found

    def over(self, marks: Sequence[Mark], seq: int, now: float, usage: Usage | None) -> bool:
        """The request *seq* is over, with an answer that used *usage*, or with none; return whether others may have waited."""
        if usage is None:
            return self._failed(marks, seq)
        found = self.begun(marks, seq, now)
        if usage.input_tokens:  # some gateways say nothing
            is_vain = not (usage.cache_read_tokens or usage.cache_write_tokens)
            for mark in marks:
                if (known := self._prefixes.get(mark.key)) is not None:
                    known.is_vain = is_vain
        return found

    def kept_chars(self, marks: Sequence[Mark], now: float) -> int:
        """Return how many characters of a request with *marks* the cache would deliver at *now*."""
        for mark in reversed(marks):
            known = self._prefixes.get(mark.key)
            if known is not None and known.warm_until > now and not known.is_vain:
                return mark.chars
        return 0

    def _failed(self, marks: Sequence[Mark], seq: int) -> bool:
        """Let the next one go first."""
        found = False
        for mark in marks:
            known = self._prefixes.get(mark.key)
            if known is not None and known.writer == seq:
                known.writer = None
                found = True
        return found

    def _forget(self, now: float) -> None:
        if len(self._prefixes) <= MOST_PREFIXES:
            return
        for key, known in list(self._prefixes.items())[: MOST_PREFIXES // 4]:
            if known.warm_until <= now or len(self._prefixes) > MOST_PREFIXES:
                del self._prefixes[key]

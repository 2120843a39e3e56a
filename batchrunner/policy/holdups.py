"""What holds a lane back: for how long, by what, and how full the limits were meanwhile."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from batchrunner.model import LimitKind


class Reason(StrEnum):
    """Why a lane that has something to send waits."""

    REQUESTS = "requests"  #: The limit on requests, kept by window and pacer.
    INPUT_TOKENS = "input tokens"
    OUTPUT_TOKENS = "output tokens"
    CONCURRENCY = "concurrency"  #: Every slot is taken.
    REFUSED = "refusals"  #: A 429 closed the gate.
    LEARNED = "learned rate"  #: Below the limit, because more was refused.
    OTHERS = "others' use"  #: The headers say that somebody else draws on the same limit.
    RAMP = "ramp"
    OUTAGE = "outage"
    COST = "cap on cost"  #: What is in flight may use up the rest of it.
    SILENCE = "any answer"  #: Nothing comes back at all.
    PAUSED = "pause"  #: The user's own.
    STORE = "the store"  #: It cannot be written.
    CONSUMER = "consumer"  #: A Python program that takes results as they settle.
    CACHE = "the prompt cache to be written"  #: What is left shares a prefix that another request is just writing to the prompt cache.
    RETRIES = "retries"  #: Nothing but retries is left, and none of them is due.


#: Whose limit a reason is.
KINDS: Mapping[Reason, LimitKind] = {
    Reason.REQUESTS: LimitKind.REQUESTS,
    Reason.INPUT_TOKENS: LimitKind.INPUT_TOKENS,
    Reason.OUTPUT_TOKENS: LimitKind.OUTPUT_TOKENS,
}
_MINUTE_S = 60
#: Less waiting than this in a minute is not worth a word.
_WORTH_A_WORD_S = 1.0
#: A wait that is under way for so long is what counts now.
_LONG_S = 3.0


class Meter:
    """How much of something there was in the last minute, to the second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque()
        self.minute = 0.0
        self.total = 0.0

    def add(self, now: float, amount: float) -> None:
        """So much of it, at *now*."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = second, self._seconds[-1][1] + amount
        else:
            self._seconds.append((second, amount))
        self.minute += amount
        self.total += amount
        self.forget(now)

    def forget(self, now: float) -> None:
        """Leave out what is older than a minute."""
        while self._seconds and self._seconds[0][0] <= int(now) - _MINUTE_S:
            self.minute -= self._seconds.popleft()[1]


@dataclass(slots=True)
class Tally:
    """What one lane did and waited for in some span of time."""

    sent: int = 0
    refused: int = 0  #: 429s of every kind.
    failed: int = 0  #: Failures that an outage may cause.
    input_tokens: int = 0  #: As the limits count them: with what the cache wrote, without what it read.
    output_tokens: int = 0
    waited_s: dict[Reason, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.sent or self.refused or self.failed or self.waited_s or self.output_tokens)


class HoldUps:
    """One lane's account of its waiting: since the start, and since it was last taken down."""

    def __init__(self) -> None:
        self.total = Tally()
        self.recent = Tally()
        self.meters = {kind: Meter() for kind in LimitKind}
        self._lately = {reason: Meter() for reason in Reason}
        self._waiting: tuple[Reason, float] | None = None  # why, and since when

    def sent(self, now: float) -> None:
        """An attempt went out."""
        self.total.sent += 1
        self.recent.sent += 1
        self.meters[LimitKind.REQUESTS].add(now, 1)

    def used(self, now: float, input_tokens: int, output_tokens: int) -> None:
        """An attempt counted for so many tokens."""
        for tally in (self.total, self.recent):
            tally.input_tokens += input_tokens
            tally.output_tokens += output_tokens
        self.meters[LimitKind.INPUT_TOKENS].add(now, input_tokens)
        self.meters[LimitKind.OUTPUT_TOKENS].add(now, output_tokens)

    def refused(self) -> None:
        """An attempt met a 429."""
        self.total.refused += 1
        self.recent.refused += 1

    def failed(self) -> None:
        """An attempt failed as in an outage."""
        self.total.failed += 1
        self.recent.failed += 1

    def begin(self, now: float, reason: Reason) -> None:
        """The lane waits from now on, for *reason*; a wait that was under way ends."""
        self.end(now)
        self._waiting = reason, now

    def end(self, now: float) -> None:
        """The lane waits no longer."""
        if self._waiting is None:
            return
        reason, since = self._waiting
        self._waiting = None
        if (seconds := now - since) > 0:
            self.total.waited_s[reason] += seconds
            self.recent.waited_s[reason] += seconds
            self._lately[reason].add(now, min(seconds, _MINUTE_S))

    @property
    def waiting_for(self) -> Reason | None:
        """What the lane waits for at the moment."""
        return None if self._waiting is None else self._waiting[0]

    def take(self, now: float) -> Tally:
        """Return what came since the last call, with the part so far of a wait that goes on."""
        if self._waiting is not None:
            self.begin(now, self._waiting[0])
        tally, self.recent = self.recent, Tally()
        return tally

    def binding(self, now: float) -> Reason | None:
        """Return what the lane has been waiting for for some seconds, or waited for longest in the last minute.

        None if for nothing worth a word.
        """
        if self._waiting is not None and now - self._waiting[1] >= _LONG_S:
            return self._waiting[0]
        waited_s: dict[Reason, float] = {}
        for reason, meter in self._lately.items():
            meter.forget(now)
            waited_s[reason] = meter.minute
        if self._waiting is not None:
            reason, since = self._waiting
            waited_s[reason] += now - since
        longest = max(waited_s, key=waited_s.__getitem__)
        return longest if waited_s[longest] >= _WORTH_A_WORD_S else None

"""Nothing comes back at all: neither answers nor errors. Noticed long before the deadlines of the calls would tell. Pure.

A breaker learns from failures, and a call that hangs is none until its deadline has passed: ten minutes and more, in
which every slot is taken by calls that will never be answered. Nothing of that is cancelled here, since each of them may
have been paid for; it is said, further sending is held, and a call now and then looks whether the endpoint answers again.
"""

import math
from collections.abc import Hashable

#: So long a silence is worth a word, in seconds, ...
NOTICED_S = 120.0
#: ... unless the slowest answer so far has taken more than so much of it.
_PATIENCE = 2.0
#: A slow model writes so many tokens a second: a silence that long answers explain does not hold up sending.
_SLOWEST_TOKENS_PER_S = 30.0
#: From one try to the next, in seconds: each may be paid for in vain.
TRY_S = 60.0


class _Call:
    """One call that is out."""

    __slots__ = ("is_overdue", "is_try", "sent_at", "tokens")

    def __init__(self, sent_at: float, tokens: float, *, is_try: bool) -> None:
        self.sent_at = sent_at
        self.tokens = tokens
        self.is_try = is_try
        self.is_overdue = False  # swallowed by a silence that goes on, or that a later call has ended


class Silence:
    """Whether an endpoint that has been sent something says anything. Instants are monotonic seconds."""

    def __init__(self) -> None:
        self.since: float | None = None  #: Nothing has come back since, for longer than is usual; None: all is well.
        self.is_open = False  #: Sending is held, but for a try now and then.
        self.overdue = 0  #: Calls that were swallowed by a silence and hold nobody's place any more.
        self._out: dict[Hashable, _Call] = {}  # in the order of sending
        self._speaking: dict[Hashable, _Call] = {}  # streams that have begun
        self._heard_at = -math.inf
        self._slowest_s = 0.0  # of the answers
        self._next_try_at = math.inf
        self._tries = 0  # that are out

    @property
    def calls(self) -> int:
        """Calls of which nothing has come yet."""
        return len(self._out)

    def sent(self, now: float, call: Hashable, tokens: float) -> None:
        """*call* has gone out; its answer has most likely no more than so many *tokens*."""
        self._out[call] = _Call(now, tokens, is_try=self.is_open)
        if self.is_open:
            self._tries += 1
            self.overdue += 1

    def reserve(self, now: float) -> None:
        """A start is admitted; while sending is held it is the next try."""
        if self.is_open:
            self._next_try_at = now + TRY_S

    def begun(self, now: float, call: Hashable) -> None:
        """The streamed answer to *call* begins to arrive; from now on its own idle time watches over it."""
        if (known := self._heard_of(call)) is not None:
            self._hear(now, known)
            known.is_try = known.is_overdue = False
            self._speaking[call] = known

    def came_back(self, now: float, call: Hashable, *, is_answer: bool, is_heard: bool) -> None:
        """*call* is over. *is_heard*: the endpoint, or something on the way, has said something; not so if time ran out."""
        if (known := self._speaking.pop(call, None) or self._heard_of(call)) is None:
            return
        if is_answer:
            self._slowest_s = max(self._slowest_s, now - known.sent_at)
        if is_heard:
            self._hear(now, known)

    def look(self, now: float) -> None:
        """Notice a silence; to be called every second or so."""
        if not self._out:
            return
        since = max(self._heard_at, next(iter(self._out.values())).sent_at)
        usual_s = max(NOTICED_S, _PATIENCE * self._slowest_s)
        if self.since is None and now - since >= usual_s:
            self.since = since
        if self.since is None or self.is_open:
            return
        longest_s = max(call.tokens for call in self._out.values()) / _SLOWEST_TOKENS_PER_S
        if now - self.since >= max(usual_s, longest_s):
            self.is_open, self._next_try_at, self._tries = True, now, 0
            for call in self._out.values():
                call.is_overdue = True
            self.overdue = len(self._out)

    def admit_at(self, now: float) -> float:
        """Return the earliest instant of the next start."""
        return self._next_try_at if self.is_open else now

    def wants_probe(self, now: float) -> bool:
        """Whether, while another endpoint does the work, one request should go out to see if this one speaks again."""
        return self.is_open and not self._tries and now >= self._next_try_at

    def suspended(self, now: float) -> None:
        """The machine slept until *now*: it could not hear."""
        self._heard_at = now
        self._end()

    def _heard_of(self, call: Hashable) -> _Call | None:
        if (known := self._out.pop(call, None)) is not None:
            self._tries -= known.is_try
            self.overdue -= known.is_overdue or known.is_try
        return known

    def _hear(self, now: float, call: _Call) -> None:
        self._heard_at = now
        if self.is_open or call.is_overdue:
            # If a call from before has an answer, the others are being worked on too; if only a try has one, they are lost.
            self._end(lost_before=call.sent_at if call.is_try else -math.inf)
        self.since = None

    def _end(self, lost_before: float = -math.inf) -> None:
        self.since, self.is_open = None, False
        self._tries, self._next_try_at = 0, math.inf
        for call in self._out.values():
            call.is_overdue = (call.is_overdue or call.is_try) and call.sent_at < lost_before
            call.is_try = False
        self.overdue = sum(call.is_overdue for call in self._out.values())

"""The breaker: an outage pauses the lane and is watched by a probe now and then, instead of by every request in turn."""

import math
import random
from collections import deque

from batchrunner.model import ErrorClass

#: Failures that a server's or a network's outage causes; a broken answer only where answers have come before.
OUTAGE = frozenset(
    {ErrorClass.OVERLOADED, ErrorClass.SERVER, ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.BAD_RESPONSE}
)

#: It opens when so many of the latest outcomes, and at least this share of them, within so many seconds are failures.
_FAILURES = 10
# Answers to what was sent before go on coming as fast as failures do: half of the outcomes is all that they become.
_SHARE = 0.45
_LATEST = 50
_SPAN_S = 10.0
#: Or, in a lane with fewer outcomes than that, when so many in a row, of different requests, are.
_IN_A_ROW = 5
_ROW_SPAN_S = 60.0
#: Fewer different requests may be to blame themselves. Where they are all that is under way, they are given the benefit
#: of the doubt for so many seconds: longer than most outages.
_DIFFERENT = 4
DOUBT_S = 180.0
#: Seconds from one probe to the next, at first and after `_LONG_S` of outage.
PROBE_S = 3.0
LATE_PROBE_S = 5.0
_LONG_S = 300.0
#: Probes that hang do not keep the next one back for ever; so many may be out.
_MOST_PROBES = 3
#: A probe that is out for this many times what the slowest failure took, and so many seconds, is being worked on.
_PATIENCE = 2.0
_PATIENCE_S = 0.5
#: So many starts more on trial; an endpoint that swallows them all gets one now and then, as if it were not on trial.
TRIAL_STARTS = 100


class Breaker:
    """Closed: everything passes. Open: one probe every few seconds. On trial: a hundred pass, the next failure opens.

    An outage turns requests away within a moment, while an answer takes seconds; so a probe that has not failed for
    much longer than any failure took puts the lane on trial, and an answer to anything sent since ends the outage.
    Source of the figures: simulation of a 120 s outage in 10,000 requests at 4,000 a minute; five tries for each
    request came to 8,000 wasted calls there, probes to less than a hundred.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=_LATEST)
        self._row: deque[tuple[float, int]] = deque(maxlen=_IN_A_ROW)  # (when, which request) of failures in a row
        self._changed_at = -math.inf  # what was sent before says nothing of the time since
        self._next_probe_at = -math.inf
        self._probes: set[float] = set()  # instants of sending
        self._slowest_s = 0.0  # of the failures of this outage, from sending to coming back
        self._has_answered = False
        self._failing: set[int] = set()  # the requests that have shown this outage, as long as they are few
        self._doubted_from = math.inf  # from then on their failures are their own
        self.on_trial = False
        self._trial_starts = 0
        self.opened_at: float | None = None  #: When the outage was noticed; None while there is none.

    @property
    def is_open(self) -> bool:
        """Whether an outage is on, be it on trial."""
        return self.opened_at is not None

    def admit_at(self, now: float) -> float:
        """Return the earliest instant of the next start; infinite while probes are out and no further one may go."""
        if not self.is_open or (self.on_trial and self._trial_starts < TRIAL_STARTS):
            return now
        if self.on_trial:
            return self._next_probe_at
        next_probe_at = math.inf if len(self._probes) >= _MOST_PROBES else self._next_probe_at
        return min(next_probe_at, self._trial_at())

    def wants_probe(self, now: float) -> bool:
        """Whether, while others do the work, one request should go out to see if the outage is over.

        One at a time: where nothing is answered for minutes, each is as long in coming back.
        """
        return self.is_open and not self.on_trial and not self._probes and now >= self._next_probe_at

    def reserve(self, now: float) -> bool:
        """A start is admitted: while the breaker is open it is the next probe, or begins a trial; True if it does."""
        if not self.is_open:
            return False
        self._next_probe_at = now + self._probe_s(now)
        if self.on_trial:
            self._trial_starts += 1
            return False
        self.on_trial, self._trial_starts = now >= self._trial_at(), 0
        return self.on_trial

    def sent(self, now: float) -> None:
        """It goes out."""
        if self.is_open and not self.on_trial:
            self._probes.add(now)

    def refused(self, sent_at: float) -> None:
        """The endpoint refused what was sent at *sent_at* for its limits: that shows neither an outage nor its end."""
        self._has_answered = True
        self._probes.discard(sent_at)

    def answered(self, now: float, sent_at: float) -> bool:
        """The endpoint has answered what was sent at *sent_at*, in whatever sense; True if that frees a lane that was held."""
        self._has_answered = True
        self._row.clear()
        if not self.is_open:
            self._outcomes.append((now, False))
            return False
        if sent_at <= self._changed_at:
            return False  # an answer to what was sent before the outage
        was_held = not self.on_trial
        self.opened_at, self._changed_at, self.on_trial = None, sent_at, False
        self._outcomes.clear()
        self._probes.clear()
        return was_held

    def failed(
        self, now: float, sent_at: float, seq: int, error_class: ErrorClass, *, under_way: int = _DIFFERENT
    ) -> bool:
        """A failure of the kind in `OUTAGE` came at *now*; True if it is the outage's fault and not the request's.

        *under_way*: so many requests of the lane are, this one included.
        """
        if error_class is ErrorClass.BAD_RESPONSE and not self._has_answered:
            return False
        if self.is_open:
            self._go_on(now, sent_at, seq)
            return now < self._doubted_from
        if sent_at <= self._changed_at:
            return True  # sent before the end of the last outage
        self._outcomes.append((now, True))
        self._row.append((now, seq))
        if (doubted_from := self._outage(now, under_way)) is not None:
            self._open(now, doubted_from)
            self._slowest_s = now - sent_at
        return self.is_open

    def forgive(self, now: float) -> None:
        """What was sent before *now* may fail without blame: the machine slept."""
        if not self.is_open:
            self._changed_at = now
            self._outcomes.clear()
            self._row.clear()

    @property
    def is_in_doubt(self) -> bool:
        """Whether what fails may be to blame itself, so few are they."""
        return self.is_open and self._doubted_from < math.inf

    def _go_on(self, now: float, sent_at: float, seq: int) -> None:
        """A failure while the breaker is open: of a probe, of a trial, or of something sent before."""
        if self._doubted_from < math.inf:
            self._failing.add(seq)
            if len(self._failing) >= _DIFFERENT:
                self._doubted_from = math.inf
        if self.opened_at is not None and sent_at > self.opened_at:
            self._slowest_s = max(self._slowest_s, now - sent_at)
        if self.on_trial and sent_at > self._changed_at:
            self.on_trial = False
            self._probes.clear()
            self._next_probe_at = now + self._probe_s(now)
        self._probes.discard(sent_at)

    def _trial_at(self) -> float:
        return min(self._probes, default=math.inf) + _PATIENCE * self._slowest_s + _PATIENCE_S

    def _probe_s(self, now: float) -> float:
        is_long = self.opened_at is not None and now - self.opened_at > _LONG_S
        return (LATE_PROBE_S if is_long else PROBE_S) * self._rng.uniform(0.9, 1.0)

    def _outage(self, now: float, under_way: int) -> float | None:
        """Return None if there is none at *now*, or from when on it will be doubted; see `_doubted_from`."""
        recent = [is_failure for at, is_failure in self._outcomes if at >= now - _SPAN_S]
        failures = sum(recent)
        if failures >= _FAILURES and failures >= _SHARE * len(recent):
            return math.inf
        if len(recent) > _FAILURES:  # enough to judge by shares: where one in five fails, five in a row are chance
            return None
        if len(self._row) < _IN_A_ROW or self._row[0][0] < now - _ROW_SPAN_S:
            return None
        if len({seq for _, seq in self._row}) >= _DIFFERENT:
            return math.inf
        return now + DOUBT_S if under_way < _DIFFERENT else None

    def _open(self, now: float, doubted_from: float) -> None:
        self.opened_at = self._changed_at = now
        self._failing = {seq for _, seq in self._row}
        self._doubted_from = doubted_from
        self._next_probe_at = now + self._probe_s(now)
        self._outcomes.clear()
        self._row.clear()

"""Refusals that have nothing to do with the rate: a gateway with one bad channel refuses the same share whatever comes."""

from collections import deque
from typing import NamedTuple

#: So many cuts, the first and the last of them no further apart than this (seconds), are cuts in vain: a limit that was
#: really met is kept for three quarters of a minute after each cut ...
IN_VAIN = 6
WITHIN_S = 120.0
#: ... if the rate at which a call was refused has fallen to this share of what it was (a limit stands where it stands),
FALLEN = 0.75
#: and is falling still, to this share over the last two cuts (where a limit was halved it has been found by then),
FALLING = 0.9
#: and no more than this share of what was sent meanwhile was refused: above it, some limit is met.
AT_MOST = 0.1
#: Refusals that come this many times as often as the stray ones are about the rate after all.
MORE = 6.0
_WINDOW = 10
#: After such an error nothing counts as stray for so long (seconds), and twice as long each further time.
SOBER_S = 60.0


class _Cut(NamedTuple):
    at: float
    rate: float  # that was refused, per second
    sends: int
    refused: int


class StrayRefusals:
    """Says which refusals to leave aside. Shares count in sends, so they hold at any rate.

    Where refusals go on as before however much slower the lane has become, no pace is slow enough for them, and they
    cost no more than the calls they refuse.
    """

    def __init__(self) -> None:
        self.share: float | None = None  #: Of the sends, refused whatever the rate; None: nothing tells so.
        self._cuts: deque[_Cut] = deque(maxlen=IN_VAIN)
        self._refused = 0
        self._lately: deque[int] = deque(maxlen=_WINDOW)  # at which send each of the latest refusals came
        self._sober_until = float("-inf")
        self._errors = 0

    def refused(self, now: float, sends: int) -> bool:
        """One of *sends* so far was refused; True: leave it aside."""
        self._refused += 1
        self._lately.append(sends)
        if self.share is None:
            return False
        if len(self._lately) < _WINDOW or sends - self._lately[0] >= (_WINDOW - 1) / (MORE * self.share):
            return True
        self.share = None
        self._sober_until = now + SOBER_S * 2**self._errors
        self._errors += 1
        return False

    def cut(self, now: float, sends: int, rate: float) -> bool:
        """A refusal at *rate* per second has led to a cut; True: it was in vain, and so were those before it."""
        self._cuts.append(_Cut(now, rate, sends, self._refused))
        first, sent = self._cuts[0], sends - self._cuts[0].sends
        refused = self._refused - first.refused
        if (
            now < self._sober_until
            or len(self._cuts) < IN_VAIN
            or now - first.at > WITHIN_S
            or rate > FALLEN * first.rate
            or rate > FALLING * self._cuts[-3].rate
            or refused > AT_MOST * sent
        ):
            return False
        self.share = refused / sent
        self._cuts.clear()
        self._lately.clear()
        return True

"""How much of a rate is ours at each instant: what another tenant leaves, and how far an acceleration limit has opened."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

#: Where a climb begins, as a part of the whole rate.
CLIMB_FROM = 0.1
#: After so many seconds without a request traffic has to climb again.
PAUSE_S = 60.0

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody else who draws on the same limits, unannounced."""

    from_s: float  #: Seconds after the start.
    to_s: float  #: `inf`: stays for good.
    share: float  #: The part of every rate that is taken, 0 to 1.


class Share:
    """The part of the rates that refills for us. It is linear in pieces, so everything here is exact."""

    def __init__(self, tenant: Tenant | None = None, climb_s: float | None = None) -> None:
        """*climb_s*: with traffic, the rates climb from a tenth to the whole in so many seconds."""
        self._tenant = tenant
        self._climb_s = climb_s
        self._climb_from = math.inf
        self._last = -math.inf

    def traffic(self, now: float) -> bool:
        """Note an arrival; True if a climb begins with it: it is the first one, or the first after a long pause."""
        begins = self._climb_s is not None and now - self._last > PAUSE_S
        if begins:
            self._climb_from = now
        self._last = now
        return begins

    def climbing(self, now: float) -> bool:
        """Whether the rates are below what they are without the acceleration limit."""
        return self._climb_s is not None and now < self._climb_from + self._climb_s

    def volume(self, start: float, end: float) -> float:
        """Return the share summed up from *start* to *end*: seconds of the whole rate."""
        if self._tenant is None and self._climb_s is None:
            return end - start
        total = 0.0
        for begin, stop, low, high in self._pieces(start):
            if stop >= end:
                last = low if math.isinf(stop) else low + (high - low) * (end - begin) / (stop - begin)
                return total + (end - begin) * (low + last) / 2
            total += (stop - begin) * (low + high) / 2
        raise AssertionError("the last piece has no end")

    def until(self, start: float, volume: float) -> float:
        """Return the instant at which *volume* has come together since *start*; `inf` if it never does."""
        if self._tenant is None and self._climb_s is None:
            return start + volume
        for begin, stop, low, high in self._pieces(start):
            if low == high:
                instant = begin + volume / low if low else math.inf
            else:
                slope = (high - low) / (stop - begin)
                instant = begin + (math.sqrt(max(0.0, low * low + 2 * slope * volume)) - low) / slope
            if instant <= stop:
                return instant
            volume -= (stop - begin) * (low + high) / 2
        return math.inf

    def _pieces(self, start: float) -> Iterator[tuple[float, float, float, float]]:
        """Yield beginning, end, and the share at either, from *start* on; the last piece has no end and is level."""
        for edge in (*sorted(edge for edge in self._edges() if start < edge < math.inf), math.inf):
            ours = 1.0
            if (tenant := self._tenant) is not None and tenant.from_s <= start < tenant.to_s:
                ours -= tenant.share
            yield start, edge, ours * self._climbed(start), ours * self._climbed(edge)
            start = edge

    def _edges(self) -> Iterator[float]:
        if self._tenant is not None:
            yield from (self._tenant.from_s, self._tenant.to_s)
        if self._climb_s is not None:
            yield from (self._climb_from, self._climb_from + self._climb_s)

    def _climbed(self, instant: float) -> float:
        if self._climb_s is None:
            return 1.0
        if instant <= self._climb_from:  # also where no climb has begun
            return CLIMB_FROM
        progress = (instant - self._climb_from) / self._climb_s
        return CLIMB_FROM + (1 - CLIMB_FROM) * progress if progress < 1 - _TINY else 1.0

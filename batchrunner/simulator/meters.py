"""Meters: how much of one limit has been used. A bucket refills continuously, a strict window forgets."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from batchrunner.simulator.settings import Quota
from batchrunner.simulator.shares import CLIMB_FROM, Share

TINY = 1e-9  #: What arithmetic may lose of a token.


@dataclass(slots=True)
class Use:
    """So much was used, until then."""

    leaves_at: float
    amount: float


class Meter(Protocol):
    """What has been used of one limit. Instants must not go back."""

    def wait_s(self, now: float, need: float) -> float:
        """Return in how many seconds *need* is to be had, if nothing more is used; 0 now."""
        ...

    def take(self, now: float, amount: float) -> Use:
        """Use *amount*, whether it is there or not."""
        ...

    def give_back(self, now: float, use: Use, amount: float) -> None:
        """Take *amount* of an earlier use back."""
        ...

    def flow(self, now: float, amount: float) -> None:
        """Use *amount*, evenly since the instant before."""
        ...

    def climb(self, now: float) -> None:
        """Begin anew with a tenth: an acceleration limit."""
        ...

    def left(self, now: float) -> float:
        """Return what is left, zero or more."""
        ...

    def full_s(self, now: float) -> float:
        """Return in how many seconds all of it will be there again."""
        ...


class Bucket:
    """A token bucket with continuous refill. It may go into debt, and *need* above its depth waits for the brim only."""

    def __init__(self, quota: Quota, depth_s: float, share: Share | None = None) -> None:
        self._per_s = quota.per_s
        self._depth = max(1.0, quota.per_s * depth_s)
        self._share = share or Share()
        self._level = self._depth
        self._at = 0.0

    def wait_s(self, now: float, need: float) -> float:
        """Return in how many seconds the level reaches *need*, or the brim."""
        missing = min(need, self._depth) - self._refilled(now)
        return self._share.until(now, missing / self._per_s) - now if missing > TINY else 0.0

    def take(self, now: float, amount: float) -> Use:
        """Lower the level by *amount*."""
        self._level = self._refilled(now) - amount
        return Use(math.inf, amount)

    def give_back(self, now: float, use: Use, amount: float) -> None:
        """Raise the level by *amount*, to the brim at most."""
        use.amount -= amount
        self._level = min(self._depth, self._refilled(now) + amount)

    def flow(self, now: float, amount: float) -> None:
        """Let *amount* flow out while it refills: a full bucket stays full as long as less flows out than in."""
        self._refilled(now, amount)

    def climb(self, now: float) -> None:
        """Lower the level to a tenth of the depth."""
        self._level = min(self._refilled(now), max(1.0, CLIMB_FROM * self._depth))

    def left(self, now: float) -> float:
        """Return the level."""
        return max(0.0, self._refilled(now) + TINY)

    def full_s(self, now: float) -> float:
        """Return in how many seconds the level is at the brim."""
        return self._share.until(now, (self._depth - self._refilled(now)) / self._per_s) - now

    def _refilled(self, now: float, outflow: float = 0.0) -> float:
        if now > self._at:
            refill = self._share.volume(self._at, now) * self._per_s
            self._level = min(self._depth, self._level + refill - outflow)
            self._at = now
        return self._level


class SlidingWindow:
    """A strict window: never more than the quota in any period, half-open at its start.

    What others take of it lies evenly in the window.
    """

    def __init__(self, quota: Quota, share: Share | None = None) -> None:
        self._quota = quota
        self._share = share or Share()
        self._uses: deque[Use] = deque()
        self._used = 0.0

    def wait_s(self, now: float, need: float) -> float:
        """Return in how many seconds enough uses have left the window."""
        self._forget(now)
        used = self._used
        if self._fits(now, used, need):
            return 0.0
        for number, use in enumerate(self._uses, 1):
            used = used - use.amount if number < len(self._uses) else 0.0  # and so without what rounding left over
            if self._fits(use.leaves_at, used, need):
                return use.leaves_at - now
        raise AssertionError("an empty window refuses nothing")

    def take(self, now: float, amount: float) -> Use:
        """Note a use."""
        self._forget(now)
        use = Use(now + self._quota.period_s, amount)
        self._uses.append(use)
        self._used += amount
        return use

    def give_back(self, now: float, use: Use, amount: float) -> None:
        """Lessen a use, as if it had never been more."""
        self._forget(now)
        if use.leaves_at > now:
            use.amount -= amount
            self._used -= amount

    def flow(self, now: float, amount: float) -> None:
        """Note a use at the end of its time."""
        self.take(now, amount)

    def climb(self, now: float) -> None:
        """Do nothing: what is not open yet counts as taken."""

    def left(self, now: float) -> float:
        """Return what the window that ends now still has room for."""
        self._forget(now)
        return max(0.0, self._quota.amount - self._used - self._others(now))

    def full_s(self, now: float) -> float:
        """Return in how many seconds nothing of ours will be in the window."""
        self._forget(now)
        return self._uses[-1].leaves_at - now if self._uses else 0.0

    def _fits(self, instant: float, used: float, need: float) -> bool:
        room = self._quota.amount - self._others(instant)
        return used == 0 or used + min(need, room) - room <= TINY

    def _others(self, instant: float) -> float:
        period_s = self._quota.period_s
        return self._quota.per_s * max(0.0, period_s - self._share.volume(instant - period_s, instant))

    def _forget(self, now: float) -> None:
        while self._uses and self._uses[0].leaves_at <= now:
            self._used -= self._uses.popleft().amount
        if not self._uses:
            self._used = 0.0  # what rounding left over

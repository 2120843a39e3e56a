"""Chance that can be repeated: every draw is a function of the seed and of what it is drawn for, never of the order."""

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

_NORMAL = NormalDist()
#: Of the lognormal, unless it says its own: with 1..10 s the mean is about 3.9 s, as measured answers are spread.
SIGMA = 0.7


def draw(seed: int, *what_for: object) -> float:
    """Return a number in [0, 1) that depends on *seed* and *what_for* alone."""
    text = "|".join(map(str, (seed, *what_for)))
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


class Shape(StrEnum):
    """How the values of a `Spread` are distributed."""

    UNIFORM = "uniform"
    LOGNORMAL = "lognormal"  #: Median at the geometric mean of the ends, clipped to them.


@dataclass(frozen=True, slots=True)
class Spread:
    """A range of values, seconds or tokens; `low == high` is a constant."""

    low: float
    high: float
    shape: Shape = Shape.UNIFORM
    sigma: float = SIGMA  #: Of the lognormal: how far it spreads.

    def at(self, chance: float) -> float:
        """Return the value that belongs to *chance*, a number in [0, 1)."""
        if self.low == self.high:
            return self.low
        if self.shape is Shape.UNIFORM:
            return self.low + (self.high - self.low) * chance
        normal = _NORMAL.inv_cdf(min(max(chance, 1e-12), 1 - 1e-12))
        value = math.sqrt(self.low * self.high) * math.exp(self.sigma * normal)
        return min(max(value, self.low), self.high)

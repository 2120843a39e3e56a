"""What a sample says of the whole: ranges that hold the truth about nineteen times out of twenty."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

_CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
#: A range that spans so much is worth deciding by.
GOOD_SPAN = 1.35
#: Below this many draws a slope is guesswork.
_ENOUGH_FOR_SLOPE = 10


class Range(NamedTuple):
    """From, most likely, to."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> "Range":
        """Return the range of *factor* times as much."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)

    def plus(self, other: "Range") -> "Range":
        """Return the sums, as if both erred to the same side."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    @property
    def span(self) -> float:
        """How many times as much the high figure is; infinite from zero."""
        return self.high / self.low if self.low else math.inf if self.high else 1.0

    def drawn_in(self, widest: float) -> "Range":
        """Return a range that spans *widest* at most, around what lies as far from the low as from the high, in times."""
        if not self.low or self.span <= widest:
            return self
        middle, step = math.sqrt(self.low * self.high), math.sqrt(widest)
        return Range(middle / step, min(max(self.likely, middle / step), middle * step), middle * step)


def draws_for(found: Range, draws: int, span: float = GOOD_SPAN) -> int:
    """Return how many draws, in place of *draws*, would have *found* the range no wider than *span*, roughly."""
    if found.span <= span:
        return draws
    if not found.high or math.isinf(found.high):
        return 2 * draws
    half, wanted = (found.high - found.low) / (found.high + found.low), (span - 1) / (span + 1)
    return math.ceil(draws * (half / wanted) ** 2)


def share(hits: int, draws: int) -> Range:
    """Return the share of the whole that has what *hits* of *draws* have; all of 0 to 1 if nothing was drawn.

    Source: E. B. Wilson's score interval (1927), which stays within 0 and 1 and holds for small samples.
    """
    if not draws:
        return Range(0.0, 0.0, 1.0)
    observed, z2 = hits / draws, _Z * _Z
    centre = (observed + z2 / (2 * draws)) / (1 + z2 / draws)
    half = _Z * math.sqrt(observed * (1 - observed) / draws + z2 / (4 * draws * draws)) / (1 + z2 / draws)
    return Range(min(observed, max(0.0, centre - half)), observed, max(observed, min(1.0, centre + half)))


def mean(values: Sequence[float], sizes: Sequence[float], mean_size: float, whole: int) -> Range:
    """Return the mean over what was not drawn of a *whole* of so many, of which *values* are a random part, none below 0.

    *sizes*: something known of each that the values may depend on; over what was not drawn its mean is *mean_size*. Source: the
    regression estimator of survey sampling (Cochran, Sampling Techniques, chapter 7), Student's t, and Hall's
    transformation (1992) for skewed values: a few long answers in a small sample say that there are longer ones.
    """
    draws = len(values)
    if draws < 2:
        likely = values[0] if values else 0.0
        return Range(0.0, likely, math.inf if draws < whole else likely)
    centre, spread, used = fmean(values), values, 1
    slope = _slope(values, sizes) if draws >= _ENOUGH_FOR_SLOPE else 0.0
    if slope > 0:
        centre_size = fmean(sizes)
        spread = [value - slope * (size - centre_size) for value, size in zip(values, sizes, strict=True)]
        centre, used = max(0.0, centre + slope * (mean_size - centre_size)), 2
    middle = fmean(spread)
    squares = sum((value - middle) ** 2 for value in spread)
    deviation = math.sqrt(squares / (draws - used)) if draws > used else 0.0
    # What was drawn is known; what was not differs from it by an error of its own, too: 1/n + 1/(N - n).
    both = whole / (whole - draws) if whole > draws else 0.0
    error, quantile = deviation * math.sqrt(both / draws), _student(draws - used)
    skew = _skew(spread, middle, squares)
    low, high = (centre - error * _untransformed(t, skew, draws) for t in (quantile, -quantile))
    return Range(min(centre, max(0.0, low)), centre, max(centre, high))


def _slope(values: Sequence[float], sizes: Sequence[float]) -> float:
    """Return how much the values grow with the sizes, by least squares; 0 where that explains nothing."""
    centre, middle = fmean(values), fmean(sizes)
    squares = sum((size - middle) ** 2 for size in sizes)
    total = sum((value - centre) ** 2 for value in values)
    together = sum((value - centre) * (size - middle) for value, size in zip(values, sizes, strict=True))
    if squares <= 0 or total <= 0:
        return 0.0
    explained = together * together / (squares * total)
    return together / squares if explained > 4 / len(values) else 0.0


def _skew(values: Sequence[float], middle: float, squares: float) -> float:
    deviation = math.sqrt(squares / len(values))
    return fmean(((value - middle) / deviation) ** 3 for value in values) if deviation > 0 else 0.0


def _untransformed(quantile: float, skew: float, draws: int) -> float:
    """Return the error, in standard errors, whose transform (Hall's cubic) has the *quantile*."""
    if abs(skew) < 1e-6:
        return quantile
    root = math.sqrt(draws)
    return 3 * root / skew * (math.cbrt(1 + skew * (quantile / root - skew / (6 * draws))) - 1)


def _student(freedom: int) -> float:
    """Return the quantile of Student's t, by the expansion of Cornish and Fisher (error below 1 % from 3 degrees on)."""
    z, n = _Z, max(1, freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3

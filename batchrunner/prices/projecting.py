"""From a sample of answers to the whole job: what the rest will cost, with ranges. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchrunner.prices.estimating import NOTHING, Estimate, PriceList, Range, cost_of
from batchrunner.prices.price import Price
from batchrunner.prices.sizing import JobSize, Kind, Sized

#: In nineteen of twenty jobs the truth lies in the range: two-sided quantiles of Student's distribution, by degrees of
#: freedom from 1, and of the normal distribution.
_STUDENT = (
    *(12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
_NORMAL = 1.960
#: Requests that may write a prefix once more: its lifetime ends, or several go out at once.
_WRITERS = 3
#: A middle, and how far the truth may lie below and above it.
Total = tuple[float, float, float]
#: A range that spans so much is worth deciding by.
GOOD_SPAN = 1.35
#: Means of few answers hide the long ones that are still to come: added to the upper side, by the sample's size.
_SKEW = 0.25


@dataclass(frozen=True, slots=True)
class Sampled:
    """One request that is finished, whatever came of it."""

    model: str  #: As it was asked for.
    chars: float  #: As `JobSize` counts them: ASCII characters and the bytes of all others.
    input_tokens: int = 0  #: The whole prompt, cached or not.
    output_tokens: int = 0
    cost_usd: float | None = 0.0  #: Of all its attempts; None: not known.
    seconds: float = 0.0  #: From its first start to its end, waits for a retry left out.
    failed: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Projection:
    """What is to be expected of the rest, by the sample. Ranges hold in about nineteen of twenty jobs."""

    requests: int  #: Of the rest.
    cost_usd: Range | None  #: None: a cost in the sample is not known, or a model of the rest has no price.
    input_tokens: Range
    output_tokens: Range
    seconds_each: Range  #: One call.
    failed: Range  #: Share, 0 to 1.
    truncated: Range
    enough: (
        int | None
    )  #: With about so many in the sample the cost would span `GOOD_SPAN`; None: it does, or no telling.


def project(
    sample: Sequence[Sampled], rest: JobSize, prior: Estimate | None = None, prices: PriceList = lambda _: None
) -> Projection:
    """Return what *rest* will take and cost, given how the *sample*, drawn at random from the same job, came out.

    A model that the sample has fewer than two of is estimated by *prior*, which is of *rest* too; without one it goes
    by the sample as a whole. *prices*: needed where requests share a cached prefix, since the sample has written what the
    rest will read.
    """
    by_model: dict[str, list[Sampled]] = {}
    for one in sample:
        by_model.setdefault(one.model, []).append(one)
    sizes = _by_model(rest)
    cost, inputs, outputs = _Sum(), _Sum(), _Sum()
    for model, sized in sizes.items():
        like = by_model.get(model, [])
        if len(like) < 2 and prior is not None and model in prior.by_model:
            known = prior.by_model[model]
            inputs.add_range(known[0])
            outputs.add_range(known[1])
            cost.add_range(_share(prior, model))
            continue
        like = like if len(like) >= 2 else list(sample)
        prompts = _total(like, [float(one.input_tokens) for one in like], sized)
        answers = _total(like, [float(one.output_tokens) for one in like], sized)
        inputs.add(prompts)
        outputs.add(answers)
        if sized.shared and (price := prices(model)) is not None:
            kinds = [(kind, part) for kind, part in rest.kinds.items() if kind.model == model]
            cost.add(_cached(price, kinds, prompts, answers))
            continue
        costs = [one.cost_usd for one in like]
        cost.add(None if None in costs else _total(like, [one or 0.0 for one in costs], sized))
    return Projection(
        requests=round(rest.requests),
        cost_usd=cost.range,
        input_tokens=inputs.range or NOTHING,
        output_tokens=outputs.range or NOTHING,
        seconds_each=_mean([one.seconds for one in sample if one.seconds]),
        failed=_share_of(sum(one.failed for one in sample), len(sample)),
        truncated=_share_of(sum(one.truncated for one in sample), len(sample)),
        enough=_enough(len(sample), cost.range),
    )


def _cached(price: Price, kinds: Sequence[tuple[Kind, Sized]], prompts: Total, answers: Total) -> Total | None:
    """Return the cost of requests that share prefixes: each is written once more, or by a few at once, or is still there."""
    whole = sum(sized.requests for _, sized in kinds)

    def cost(prompt: float, answer: float, writers: int) -> float | None:
        parts = [
            cost_of(
                price, kind, sized, prompt * sized.requests / whole, answer * sized.requests / whole, writers=writers
            )
            for kind, sized in kinds
        ]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    middle, dearer = cost(prompts[0], answers[0], 1), cost(prompts[0], answers[0], _WRITERS)
    cheaper = cost(prompts[0], answers[0], 0)
    more_prompt, more_answer = (
        cost(prompts[0] + prompts[2], answers[0], 1),
        cost(prompts[0], answers[0] + answers[2], 1),
    )
    if cheaper is None or middle is None or dearer is None or more_prompt is None or more_answer is None:
        return None
    half = math.hypot(more_prompt - middle, more_answer - middle)
    return middle, half + middle - cheaper, half + dearer - middle


class _Sum:
    """Adds up totals that are uncertain: their errors are independent, those of mere ranges are not."""

    def __init__(self) -> None:
        self._middle = self._low = self._high = 0.0
        self._squares = [0.0, 0.0]
        self._is_known = True

    def add(self, total: Total | None) -> None:
        """Add a middle with how far it may be below and above."""
        if total is None:
            self._is_known = False
            return
        self._middle += total[0]
        self._squares[0] += total[1] ** 2
        self._squares[1] += total[2] ** 2

    def add_range(self, given: Range | None) -> None:
        """Add a range."""
        if given is None:
            self._is_known = False
            return
        self._low += given.low
        self._high += given.high

    @property
    def range(self) -> Range | None:
        """The sum; None if a part is not known."""
        if not self._is_known:
            return None
        low, high = (math.sqrt(square) for square in self._squares)
        return Range(max(0.0, self._middle - low) + self._low, self._middle + high + self._high)


def _total(like: Sequence[Sampled], figures: Sequence[float], sized: Sized) -> Total:
    """Return the total of a figure over all of *sized*, and how far the truth may lie below and above.

    The figure is taken to grow with the length of the request, and with nothing else that is known: a line is laid
    through the sample, and how far its points lie from it says how sure that is. A line that slopes the wrong way, or
    that few points carry, is no better than the mean.
    """
    count, total = len(figures), sized.requests
    mean = sum(figures) / count
    mean_chars = sum(one.chars for one in like) / count
    spread = sum((one.chars - mean_chars) ** 2 for one in like)
    together = sum((one.chars - mean_chars) * (figure - mean) for one, figure in zip(like, figures, strict=True))
    slope = together / spread if spread > 1e-9 * (mean_chars**2 + 1) and count >= 8 else 0.0
    slope = max(0.0, slope)
    off = (sized.chars + sized.wide_bytes) / total - mean_chars if total else 0.0
    residuals = [figure - mean - slope * (one.chars - mean_chars) for one, figure in zip(like, figures, strict=True)]
    freedom = max(1, count - 1 - (slope > 0))
    variance = sum(one * one for one in residuals) / freedom
    leverage = off * off / spread if slope else 0.0
    error = math.sqrt(variance * (1 / count + 1 / max(1.0, total) + leverage))
    quantile = _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _NORMAL + 2.5 / freedom
    middle = max(0.0, mean + slope * off) * total
    half = quantile * error * total
    return middle, half, half * (1 + _SKEW * min(1.0, 8 / count))


def _mean(figures: Sequence[float]) -> Range:
    if not figures:
        return NOTHING
    mean = sum(figures) / len(figures)
    variance = sum((figure - mean) ** 2 for figure in figures) / max(1, len(figures) - 1)
    half = _NORMAL * math.sqrt(variance / len(figures))
    return Range(max(0.0, mean - half), mean + half)


def _share_of(hits: int, count: int) -> Range:
    """Return what share of all it may be (Wilson's interval)."""
    if not count:
        return Range(0.0, 1.0)
    z, p = _NORMAL, hits / count
    middle, width = (p + z * z / (2 * count)), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low, high = max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)
    return Range(0.0 if not hits else low, 1.0 if hits == count else high)


def _enough(count: int, found: Range | None) -> int | None:
    if found is None or count < 2 or found.span <= GOOD_SPAN:
        return None
    # Half of a range, as a part of its middle, shrinks with the root of the number.
    half = (found.high - found.low) / (found.high + found.low)
    wanted = (GOOD_SPAN - 1) / (GOOD_SPAN + 1)
    return math.ceil(count * (half / wanted) ** 2)


def _share(prior: Estimate, model: str) -> Range | None:
    """Return the part of the cost that *model* has in *prior*, by its tokens."""
    if prior.live_usd is None:
        return None
    tokens = {name: prompt.high + 5 * answer.high for name, (prompt, answer) in prior.by_model.items()}
    whole = sum(tokens.values())
    return prior.live_usd.times(tokens[model] / whole) if whole else NOTHING


def _by_model(rest: JobSize) -> Mapping[str, Sized]:
    found: dict[str, Sized] = {}
    for kind, sized in rest.kinds.items():
        known = found.setdefault(kind.model, Sized())
        known.requests += sized.requests
        known.chars += sized.chars
        known.wide_bytes += sized.wide_bytes
        known.shared |= sized.shared
    return found

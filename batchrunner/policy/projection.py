"""What the rest of a job will come to, by what a random part of it came to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from batchrunner.policy.intervals import Range, mean, share


class Drawn(NamedTuple):
    """One request of the sample, with all its attempts."""

    chars: int  #: Of its params.
    cost_usd: float | None  #: None: not known.
    input_tokens: int  #: As the limits count them: without what the cache read.
    output_tokens: int
    latency_s: float  #: Of its last attempt.
    failed: bool = False
    truncated: bool = False

    lane: str = ""


class Rest(NamedTuple):
    """What is still to be sent."""

    requests: int
    mean_chars: float  #: Of its params.
    lanes: Mapping[str, int] = MappingProxyType({})  #: How many of them each lane has; empty: there is one lane.
    identical: int = 0  #: Pending beside them, and never sent: an identical request has the answer, or will have it.


class Pace(NamedTuple):
    """The limits in force, per minute; None: none known."""

    rpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    concurrency: int = 50  #: Calls in flight at most.


@dataclass(frozen=True, slots=True)
class Projection:
    """What is to be expected of the rest."""

    drawn: int  #: Requests of the sample.
    rest: int  #: Requests still to be sent.
    cost_usd: Range | None  #: Of the rest; None: a price is not known.
    spent_usd: float | None  #: On the sample.
    input_tokens: Range  #: Of the rest, as the next.
    output_tokens: Range
    failed: Range  #: Share, 0 to 1, as the next.
    truncated: Range
    seconds: Range
    bound_by: str  #: What decides on the time.
    identical: int = 0  #: As of `Rest`.
    none_answered: bool = False  #: Nothing of the sample was answered, so it does not tell what an answer costs.
    by_batches: bool = False  #: The rest goes by batches: at a part of the price, in the API's own time.

    def as_record(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {name: list(value) if isinstance(value, Range) else value for name, value in asdict(self).items()}


def project(drawn: Sequence[Drawn], rest: Rest, paces: Mapping[str, Pace], *, factor: float = 1.0) -> Projection:
    """Return what the *rest* will come to at these *paces*, by lane, by a random sample *drawn* of the same job.

    *factor*: on the cost of the rest, where it goes another way than the sample.
    """
    whole, sizes = rest.requests + len(drawn), [one.chars for one in drawn]

    def each(values: Sequence[float]) -> Range:
        return mean(values, sizes, rest.mean_chars, whole)

    costs = [one.cost_usd for one in drawn if one.cost_usd is not None]
    inputs, outputs = each([one.input_tokens for one in drawn]), each([one.output_tokens for one in drawn])
    times = [_time(drawn, rest, lane, count, paces) for lane, count in (rest.lanes or {"": rest.requests}).items()]
    seconds, bound_by = max(times, key=lambda time: time[0].likely)
    is_priced, none_answered = len(costs) == len(drawn), not any(one.output_tokens for one in drawn)
    return Projection(
        drawn=len(drawn),
        rest=rest.requests,
        cost_usd=each(costs).times(rest.requests * factor) if is_priced and not none_answered else None,
        spent_usd=sum(costs) if is_priced else None,
        input_tokens=inputs.times(rest.requests),
        output_tokens=outputs.times(rest.requests),
        failed=share(sum(one.failed for one in drawn), len(drawn)),
        truncated=share(sum(one.truncated for one in drawn), len(drawn)),
        seconds=seconds,
        bound_by=bound_by,
        identical=rest.identical,
        none_answered=none_answered,
        by_batches=factor != 1.0,
    )


def _time(drawn: Sequence[Drawn], rest: Rest, lane: str, count: int, paces: Mapping[str, Pace]) -> tuple[Range, str]:
    """Return how long *count* requests of *lane* take, and what makes it so long: what takes longest decides."""
    mine, pace = [one for one in drawn if one.lane == lane] or drawn, paces.get(lane, Pace())
    sizes, whole = [one.chars for one in mine], count + len(mine)

    def each(values: Sequence[float]) -> Range:
        return mean(values, sizes, rest.mean_chars, whole)

    latency = each([one.latency_s for one in mine])
    needs = {"calls in flight": latency.times(1 / pace.concurrency)}
    if pace.rpm:
        needs["requests per minute"] = Range(1.0, 1.0, 1.0).times(60 / pace.rpm)
    if pace.itpm:
        needs["input tokens per minute"] = each([one.input_tokens for one in mine]).times(60 / pace.itpm)
    if pace.otpm:
        needs["output tokens per minute"] = each([one.output_tokens for one in mine]).times(60 / pace.otpm)
    bound_by = max(needs, key=lambda name: needs[name].likely)
    # The last call of all takes its time beside what the limits ask for.
    low, likely, high = (max(need[i] for need in needs.values()) * count + latency[i] for i in range(3))
    return Range(low, likely, high), f"{lane}: {bound_by}" if lane and len(rest.lanes) > 1 else bound_by

"""How long a job takes at given limits, and which of them binds. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from batchrunner.policy.intervals import Range
from batchrunner.policy.projection import Pace

#: Tokens per second that an answer is written at, slowest and fastest, and seconds before it begins.
_WRITTEN = (40.0, 150.0)
_BEGINS_S = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Work:
    """What one lane has to do."""

    requests: float
    input_tokens: Range
    output_tokens: Range


@dataclass(frozen=True, slots=True)
class Duration:
    """How long it takes."""

    seconds: Range
    binds: str  #: `requests`, `input tokens`, `output tokens` or `calls in flight`.
    lane: str  #: The slowest.


def duration_of(lanes: Mapping[str, Work], permitted: Mapping[str, Pace], at_once: int) -> Duration | None:
    """Return how long the work of *lanes* takes if they are *permitted* so much, with so many calls *at_once* in all.

    None if there is nothing to do.
    """
    found: list[Duration] = []
    for name, work in lanes.items():
        may = permitted.get(name, Pace())
        limits = {
            "requests": (Range(work.requests, work.requests, work.requests), may.rpm),
            "input tokens": (work.input_tokens, may.itpm),
            "output tokens": (work.output_tokens, may.otpm),
        }
        found += [Duration(amount.times(60 / limit), binds, name) for binds, (amount, limit) in limits.items() if limit]
        found.append(Duration(_in_flight(work, at_once), "calls in flight", name))
    return max(found, key=lambda one: one.seconds.likely, default=None)


def _in_flight(work: Work, at_once: int) -> Range:
    low = work.requests * _BEGINS_S[0] + work.output_tokens.low / _WRITTEN[1]
    high = work.requests * _BEGINS_S[1] + work.output_tokens.high / _WRITTEN[0]
    return Range(low / at_once, (low * high) ** 0.5 / at_once, high / at_once)

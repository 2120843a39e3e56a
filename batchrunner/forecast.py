"""What a job will take and cost: by its size alone, or by a sample of its answers where there are some."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from batchrunner.errors import BatchrunnerError
from batchrunner.policy.intervals import Range
from batchrunner.policy.lanes import model_class
from batchrunner.policy.projection import Drawn, Pace, Projection, Rest, project
from batchrunner.prices import OwnPrices, price_of
from batchrunner.prices.estimating import NOTHING, Estimate, estimate
from batchrunner.prices.sizing import JobSize
from batchrunner.prices.timing import Duration, Work, duration_of
from batchrunner.screen import duration, short, usd
from batchrunner.settings import Limits
from batchrunner.store.files import open_reader
from batchrunner.store.sampled import final_sample, known_limits, pending_size

#: Fewer answers than this say less than the size of the requests does.
_ENOUGH = 10


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the requests that are to be sent will take."""

    estimate: Estimate  #: By size alone.
    projection: Projection | None  #: By answers; None: there are too few.
    time: Duration | None
    is_limited: bool  #: Some limit of requests or tokens is known.
    sample: int = 0  #: Answers that it is by.
    counted: int = 0  #: Requests whose tokens the API has counted.

    @property
    def live_usd(self) -> Range | None:
        """The cost over the Messages API; None: not known."""
        return self.projection.cost_usd if self.projection is not None else self.estimate.live_usd

    @property
    def batch_usd(self) -> Range | None:
        """The cost over the Message Batches API."""
        live, by_size = self.live_usd, self.estimate
        if live is None or by_size.live_usd is None or by_size.batch_usd is None or not by_size.live_usd.high:
            return None
        return live.times(by_size.batch_usd.high / by_size.live_usd.high)

    @property
    def input_tokens(self) -> Range:
        """Tokens of the prompts."""
        return self.projection.input_tokens if self.projection is not None else self.estimate.input_tokens

    @property
    def output_tokens(self) -> Range:
        """Tokens of the answers."""
        return self.projection.output_tokens if self.projection is not None else self.estimate.output_tokens

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        return {
            "requests": self.estimate.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "max_output_tokens": self.estimate.max_output_tokens,
            "live_usd": self.live_usd,
            "batch_usd": self.batch_usd,
            "worst_usd": self.estimate.worst_usd,
            "unpriced_models": self.estimate.unpriced,
            "seconds": self.time.seconds if self.time else None,
            "binds": self.time.binds if self.time else None,
            "lane": self.time.lane if self.time else None,
            "limits_known": self.is_limited,
            "by_answers": self.sample,
            "counted_requests": self.counted,
            "projection": self.projection.as_record() if self.projection is not None else None,
        }


def forecast(
    size: JobSize,
    limits: Limits,
    *,
    own: OwnPrices,
    today: date,
    sample: Sequence[Drawn] = (),
    known: Mapping[str, Pace] | None = None,
    counted: Mapping[str, float] | None = None,
    counted_requests: int = 0,
) -> Forecast:
    """Return what a job of this *size* will take at the user's *limits* and an endpoint's *own* prices.

    *sample*: requests of the same job that are final. *known*: what the endpoint permitted before, by lane. *counted*:
    tokens per character by model, as the API counted *counted_requests*.
    """
    prices = partial(price_of, own=own, today=today)
    by_size = estimate(size, prices, counted)
    lanes = _lanes(size, by_size)
    may = {lane: _permitted(limits, (known or {}).get(lane, Pace())) for lane in lanes}
    projection, time = None, duration_of(lanes, may, limits.cap)
    if sum(one.output_tokens > 0 for one in sample) >= _ENOUGH and by_size.requests:
        projection = project(sample, _rest(size, lanes), may)
        time = Duration(projection.seconds, projection.bound_by, "")
    is_limited = any(limit is not None for one in may.values() for limit in (one.rpm, one.itpm, one.otpm))
    return Forecast(by_size, projection, time, is_limited, len(sample) if projection else 0, counted_requests)


def forecast_of(conn: sqlite3.Connection, pending: int, limits: Limits, *, own: OwnPrices, today: date) -> Forecast:
    """Return what the *pending* requests of a store will take; a large one is looked at here and there."""
    size, sample, known = pending_size(conn, pending), final_sample(conn), known_limits(conn)
    return forecast(size, limits, own=own, today=today, sample=sample, known=known)


def known_of(store: Path) -> tuple[list[Drawn], dict[str, Pace]]:
    """Return what *store* knows of answers and limits; nothing if it cannot be read."""
    try:
        with contextlib.closing(open_reader(store)) as conn:
            return final_sample(conn), known_limits(conn)
    except (BatchrunnerError, sqlite3.DatabaseError):
        return [], {}


def told_in_short(found: Forecast, *, simulated: bool) -> str:
    """Return a forecast in two lines: the cost, and the time."""
    label = f"estimate{' (simulated)' if simulated else ''}"
    if found.live_usd is None:
        return f"{label}: {cost_words(found)}"
    worst = f", at most {usd(found.estimate.worst_usd)}" if found.estimate.worst_usd is not None else ""
    batches = (
        f" ({_dollars(found.batch_usd)} by Message Batches)" if found.batch_usd not in {None, found.live_usd} else ""
    )
    time = f"\n          {_span_words(found.time)}, held by {found.time.binds}" if found.time is not None else ""
    return f"{label}: {_dollars(found.live_usd)}{worst}{batches}{time}"


def _rest(size: JobSize, lanes: Mapping[str, Work]) -> Rest:
    chars = sum(sized.length for sized in size.kinds.values())
    return Rest(
        round(size.requests),
        chars / max(1.0, size.requests),
        {name: round(work.requests) for name, work in lanes.items()},
    )


def _permitted(limits: Limits, past: Pace) -> Pace:
    mine = limits.rate.count * 60 / limits.rate.period_s if limits.rate else None
    rpm, itpm, otpm = _stricter(mine, past.rpm), _stricter(limits.itpm, past.itpm), _stricter(limits.otpm, past.otpm)
    return Pace(rpm, itpm, otpm, limits.cap)


def _stricter(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def _lanes(size: JobSize, by_size: Estimate) -> dict[str, Work]:
    requests: dict[str, float] = {}
    for kind, sized in size.kinds.items():
        requests[kind.model] = requests.get(kind.model, 0) + sized.requests
    found: dict[str, Work] = {}
    for model, (prompts, answers) in by_size.by_model.items():
        had = found.get(lane := model_class(model), Work(0.0, NOTHING, NOTHING))
        found[lane] = Work(
            had.requests + requests[model], had.input_tokens.plus(prompts), had.output_tokens.plus(answers)
        )
    return found


def forecast_lines(found: Forecast) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of a forecast, each with its label."""
    if not found.estimate.requests:
        yield "estimate", "nothing is left to send"
        return
    by = f"by the last {found.sample:,} answers" if found.sample else "by size"
    if found.counted:
        by += f", tokens counted by the API for {found.counted:,}"
    most = short(found.estimate.max_output_tokens)
    tokens = f"{_tokens(found.input_tokens)} tokens of input and {_tokens(found.output_tokens)} of output"
    yield "estimate", f"{found.estimate.requests:,} to send; {tokens}, at most {most} ({by})"
    yield "cost", cost_words(found)
    if found.time is not None:
        yield "time", _time_words(found, found.time)


def cost_words(found: Forecast) -> str:
    """Return what it will cost, live and by batches."""
    if found.live_usd is None:
        unpriced = ", ".join(found.estimate.unpriced)
        why = f"no price is known for {unpriced}" if unpriced else "some answers so far have no known price"
        return f"unknown: {why}; docs/cost.md says how to give prices"
    words = f"{_dollars(found.live_usd)}"
    if found.batch_usd is not None and found.batch_usd != found.live_usd:
        words += f", or {_dollars(found.batch_usd)} by Message Batches"
    if found.estimate.worst_usd is not None:
        words += f"; {usd(found.estimate.worst_usd)} if every answer were as long as max_tokens permits"
    return words


def _time_words(found: Forecast, time: Duration) -> str:
    several = time.lane and len({model_class(model) for model in found.estimate.by_model}) > 1
    where = f" of {time.lane}" if several else ""
    bound = f"{_span_words(time)}; {time.binds}{where} will bind"
    return bound if found.is_limited else f"{bound}, unless the endpoint permits less: its limits are not known yet"


def _span_words(time: Duration) -> str:
    low, high = duration(time.seconds.low), duration(time.seconds.high)
    return high if low == high else f"{low} to {high}"


def _tokens(given: Range) -> str:
    low, high = short(given.low), short(given.high)
    return low if low == high else f"{low} to {high}"


def _dollars(given: Range) -> str:
    low, high = usd(given.low), usd(given.high)
    return low if low == high else f"{low} to {high}"

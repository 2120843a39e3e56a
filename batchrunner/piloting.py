"""After a pilot: what the rest is going to be, and the words for it."""

import math
import sqlite3
from collections.abc import Callable, Iterator

from batchrunner.policy.intervals import Range
from batchrunner.policy.projection import Projection, project
from batchrunner.policy.routing import Route
from batchrunner.prices.price import BATCH_FACTOR
from batchrunner.screen import count, duration, short, usd
from batchrunner.settings import RunSettings
from batchrunner.store.piloted import drawn, paces, rest
from batchrunner.store.queue import Queue


def projected(conn: sqlite3.Connection, pilot: RunSettings, whole: RunSettings) -> Projection:
    """Return what is to be expected of what is left of the *whole*, by the sample that *pilot* has chosen."""
    Queue(conn, first=pilot.first, sampling=pilot.sampling)
    sample = drawn(conn)
    queue = Queue(conn, first=whole.first, sampling=whole.sampling)
    once = whole.sharing.dedupe and not whole.sampling.picks
    left = rest(conn, queue.last_line, chosen=whole.sampling.chooses, once=once)
    limits = whole.limits
    found = paces(conn, cap=limits.cap, cautious_cap=limits.cautious_cap)
    by_batches = whole.routing.route is Route.BATCHES
    return project(sample, left, found, factor=BATCH_FACTOR if by_batches else 1.0)


def projection_told(projection: Projection, left_usd: float | None = None) -> str:
    """Return it as lines for people; *left_usd*: what is left of `--max-cost`."""
    return "\n".join(_lines(projection, left_usd))


def _lines(found: Projection, left_usd: float | None) -> Iterator[str]:
    spent = "" if found.spent_usd is None else f", {usd(found.spent_usd)}"
    identical = f" (beside {count(found.identical)} identical to others)" if found.identical else ""
    drawn = f"pilot: {count(found.drawn)} requests drawn by chance{spent}"
    yield f"{drawn}. The other {count(found.rest)}{identical}, in 19 of 20 cases:"
    if found.none_answered:
        yield "  cost       no telling: no request of the sample was answered"
    else:
        yield f"  cost       {_usd(found.cost_usd)}{' by batches' if found.by_batches else ''}"
    if left_usd is not None and found.cost_usd is not None and found.cost_usd.high > left_usd:
        reach = math.floor(found.rest * left_usd / found.cost_usd.likely) if found.cost_usd.likely else found.rest
        yield f"  --max-cost leaves {usd(left_usd)}: enough for about {count(min(found.rest, reach))} of them"
    live = f"{_between(found.seconds, duration)}; what decides: {found.bound_by}"
    yield f"  time       {'as batches take, up to 24 h' if found.by_batches else live}"
    if not found.none_answered:
        yield f"  output     {_between(found.output_tokens, _tokens)}"
    yield f"  failed     {_between(found.failed, _percent)}"
    yield f"  truncated  {_between(found.truncated, _percent)}"


def _usd(cost: Range | None) -> str:
    return "not known: no price is known for the model (docs/cost.md)" if cost is None else _between(cost, usd)


def _tokens(number: float) -> str:
    return f"{short(number)} tokens"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _between(found: Range, words: Callable[[float], str]) -> str:
    """Return the likely figure and the range around it: `$3.10 ($2.80 to $3.50)`."""
    high = "any" if found.high == math.inf else words(found.high)
    return f"{words(found.likely)} ({words(found.low)} to {high})"

"""After a pilot: what the rest is going to be, and the words for it."""

import math
import sqlite3
from collections.abc import Callable, Iterator

from batchrunner.policy.intervals import Range
from batchrunner.policy.projection import Projection, project
from batchrunner.screen import count, duration, short
from batchrunner.settings import RunSettings
from batchrunner.store.piloted import drawn, paces, rest
from batchrunner.store.queue import Queue


def projected(conn: sqlite3.Connection, pilot: RunSettings, whole: RunSettings) -> Projection:
    """Return what is to be expected of what is left of the *whole*, by the sample that *pilot* has chosen."""
    Queue(conn, first=pilot.first, sampling=pilot.sampling)
    sample = drawn(conn)
    queue = Queue(conn, first=whole.first, sampling=whole.sampling)
    left = rest(conn, queue.last_line, chosen=whole.sampling.chooses)
    found = paces(conn, whole.limits.cap)
    return project(sample, left, found)


def projection_told(projection: Projection) -> str:
    """Return it as lines for people."""
    return "\n".join(_lines(projection))


def _lines(found: Projection) -> Iterator[str]:
    spent = "" if found.spent_usd is None else f", ${found.spent_usd:,.4f}"
    yield f"pilot: {count(found.drawn)} requests drawn by chance{spent}. The other {count(found.rest)}, in 19 of 20 cases:"
    yield f"  cost       {_usd(found.cost_usd)}"
    yield f"  time       {_between(found.seconds, duration)}; what decides: {found.bound_by}"
    yield f"  output     {_between(found.output_tokens, _tokens)}"
    yield f"  failed     {_between(found.failed, _percent)}"
    yield f"  truncated  {_between(found.truncated, _percent)}"


def _usd(cost: Range | None) -> str:
    if cost is None:
        return "not known: no price is known for the model (docs/cost.md)"
    return _between(cost, lambda usd: f"${usd:,.2f}" if usd >= 1 else f"${usd:,.4f}")


def _tokens(number: float) -> str:
    return f"{short(number)} tokens"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _between(found: Range, words: Callable[[float], str]) -> str:
    """Return the likely figure and the range around it: `$3.10 ($2.80 to $3.50)`."""
    high = "any" if found.high == math.inf else words(found.high)
    return f"{words(found.likely)} ({words(found.low)} to {high})"

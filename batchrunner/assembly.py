"""Puts a run's engine room together: lanes with their limiters, the judge, the dispatcher."""

import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from batchrunner.audience import Audience
from batchrunner.bounds import Bounds
from batchrunner.clock import Clock, stamp
from batchrunner.dispatcher import Dispatcher
from batchrunner.endpoint import Way
from batchrunner.keeping import HEARTBEAT_S
from batchrunner.lane import Berth, Lane, monotonic_of
from batchrunner.limiter import Limiter
from batchrunner.policy.courses import Span
from batchrunner.policy.failover import Standing
from batchrunner.policy.judge import Judge
from batchrunner.policy.last_start import LastStart
from batchrunner.policy.priming import Priming
from batchrunner.policy.purse import Purse
from batchrunner.prices import Tag, Tariff, price_of
from batchrunner.prices.fare import Fares
from batchrunner.settings import RunSettings
from batchrunner.slots import Slots
from batchrunner.store.minutes import Pool, recent_sends
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.spending import PriceKept
from batchrunner.store.writer import Writer
from batchrunner.till import Till

#: No limit of the API speaks of a longer period; the user's own may.
_PERIOD_S = 60.0
#: The start of an attempt is on record before it goes out: it took at most about so long, over a new connection.
_WAY_OUT_S = 0.5


@dataclass(slots=True)
class Means:
    """What a run works with, whatever it works on."""

    settings: RunSettings
    clock: Clock
    rng: random.Random
    audience: Audience
    began: float = field(init=False)  #: Monotonic: when the command did.

    def __post_init__(self) -> None:
        self.began = self.clock.monotonic()

    @property
    def last_start(self) -> LastStart | None:
        """When to send the last request, where the user has set an end."""
        duration_s = self.settings.caps.max_duration_s
        return None if duration_s is None else LastStart(self.began, duration_s)


def assemble(
    means: Means,
    way: Way,
    queue: Queue,
    writer: Writer,
    *,
    run_id: int,
    sent_before: Mapping[Pool, Sequence[str]],
    till: Till | None = None,
) -> Dispatcher:
    """Return the dispatcher of a run with a lane for each model class that has something pending.

    *sent_before*: what an earlier run sent within the period that the limits speak of, as `sends_before` found it.
    *till*: keeps `--max-cost`.
    """
    settings, clock, rng = means.settings, means.clock, means.rng
    schema = None if settings.schema is None else json.dumps(settings.schema)
    official, *others = (reached.official for reached in way.reached)
    judge = Judge(settings.rules, accept=settings.accept, official=official, others=others, rng=rng, schema=schema)
    standings = [Standing(reached.name, reached.limits.concurrency) for reached in way.reached]
    lanes = []
    for name in queue.model_classes():
        berths = []
        for index, reached in enumerate(way.reached):
            limits = settings.limits.within(reached.limits)
            limiter = Limiter(limits, clock=clock, rules=settings.rules, rng=rng)
            priming = Priming(holds=settings.sharing.prime)
            berths.append(Berth(index, standings[index], limiter, reached.limits, priming=priming))
        lanes.append(Lane(name, berths[0].limiter, clock, berths))
    now = clock.monotonic()
    for lane in lanes:
        for berth in lane.berths:
            sent = sent_before.get((lane.name, berth.standing.name), ())
            instants = [min(now, monotonic_of(clock, at) + _WAY_OUT_S) for at in sent]
            berth.limiter.flow.begin(now, queue.totals().pending // len(lanes), instants)
    slots = Slots(way.connections)
    return Dispatcher(
        queue,
        writer,
        judge,
        lanes,
        slots=slots,
        clock=clock,
        run_id=run_id,
        audience=means.audience,
        tariff=tariff_of(way, writer),
        halt_at=settings.halt,
        bounds=Bounds(last_start=means.last_start, till=till),
    )


#: So many requests of each lane are looked at for what they may cost; retries whenever they are due.
_PREVIEWED = 500
_EVER = "9999"


def tariff_of(way: Way, writer: Writer) -> Tariff:
    """Return the prices of a run's endpoints; each goes on record before its first use."""
    endpoints = [(reached.name, reached.prices) for reached in way.reached]
    return Tariff(endpoints, keep=partial(_keep, writer))


def _keep(writer: Writer, tag: Tag) -> None:
    writer.submit(PriceKept(tag.number, tag.model, tag.endpoint, tag.priced_at, tag.figures))


def till_for(means: Means, way: Way, queue: Queue, spent_usd: float) -> Till | None:
    """Return what keeps `--max-cost`, None without one; *spent_usd*: what is spent of it already.

    Raises `UsageError` where there is a request among the first of a lane whose price is not known.
    """
    cap_usd, now = means.settings.caps.max_cost_usd, means.clock.utc_now()
    if cap_usd is None:
        return None
    prices = (partial(price_of, own=reached.prices, today=now.date()) for reached in way.reached)
    till = Till(Purse(cap_usd, spent_usd), [Fares(price_list) for price_list in prices])
    for name in queue.model_classes():
        for span in (None, Span()):  # without marked prefixes, and with them
            for attempt in queue.claim(Claim(name, 0, _EVER, count=_PREVIEWED, span=span)).attempts:
                till.preview(attempt)
    return till


def sends_before(conn: sqlite3.Connection, settings: RunSettings, clock: Clock) -> dict[Pool, list[str]]:
    """Return what the run before has sent, per lane and endpoint, within the longest period that a limit can speak of (UTC stamps)."""
    rate = settings.limits.rate
    since = clock.utc_now() - timedelta(seconds=max(_PERIOD_S, rate.span_s if rate else 0.0) + 1)
    return recent_sends(conn, stamp(since), alive_since=stamp(since - timedelta(seconds=HEARTBEAT_S)))

"""Hold estimates against what twenty jobs of different shapes cost in the end, in virtual time.

    python benchmarks/estimates.py [REQUESTS] [PILOT]      # 1,500 requests each, a pilot of 100

For each job: the range before anything is sent, the range after a pilot (a random sample of its answers, as large as the
first projection says it must be, but at most half of the job), and the truth, as the simulator charged it. Exits with 1
if fewer than 18 of 20 ranges hold it, or one spans too much.
"""

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.model import Request
from batchrunner.policy.intervals import GOOD_SPAN, Range, draws_for
from batchrunner.policy.projection import Drawn, Projection, Rest, project
from batchrunner.policy.window import Rate
from batchrunner.prices import price_of
from batchrunner.prices.estimating import WIDEST, estimate
from batchrunner.prices.sizing import JobSize
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator import Simulator
from batchrunner.simulator.answers import body_sha256
from batchrunner.simulator.ledger import Arrival, Ledger
from shapes import SHAPES, Shape
from virtual import virtual_run
from virtual.harness import MODEL, World
from virtual.loop import START, VirtualClock
from virtual.network import VirtualServer

_PUSD = 1e12


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one job."""

    name: str
    before: Range
    truth: float  #: USD, of the whole job.
    projected: Projection
    pilot: int  #: Requests in it.
    has_no_more: bool  #: Half of the job is in it.
    rest: float  #: USD, of what the pilot left.

    @property
    def after(self) -> Range:
        """The range of the rest, after the pilot."""
        assert self.projected.cost_usd is not None
        return self.projected.cost_usd


class _Books(Ledger):
    """Remembers what was paid for each body."""

    def __init__(self) -> None:
        super().__init__(epoch=START)
        self.paid_for: dict[str, list[Arrival]] = {}

    def end(self, arrival: Arrival, now: float, bytes_sent: int, *, delivered: bool) -> None:
        super().end(arrival, now, bytes_sent, delivered=delivered)
        if arrival.paid:
            self.paid_for.setdefault(arrival.body, []).append(arrival)


class _Bookkeeping(World):
    def server(self, spec: str, clock: VirtualClock) -> VirtualServer:
        server = super().server(spec, clock)
        simulator = Simulator(server.simulator.settings, _Books())
        return VirtualServer(simulator, clock, random.Random(self.seed), self.network_s)


def holds(given: Range, truth: float) -> bool:
    """Whether the range has the truth in it."""
    return given.low <= truth <= given.high


def measure(shape: Shape, count: int, pilot: int, seed: int = 1) -> Outcome:
    """Run *count* requests of *shape*, and project them from a *pilot* of so many."""
    lines = list(shape.lines(count, seed))
    requests = _requests(lines)
    size = _sized(requests)
    prices = partial(price_of, today=date(2026, 11, 25))
    before = estimate(size, prices).live_usd
    assert before is not None
    spec = f"latency=0.2..1,rpm=100000,itpm=1000000000,otpm=1000000000,{shape.spec}".rstrip(",")
    settings = RunSettings(limits=Limits(Rate(6000, 60.0), concurrency=4 if "prefix" in shape.name else 20))
    figures = virtual_run(lines, spec, settings, world=_Bookkeeping())
    ledger = figures.simulator.ledger
    assert isinstance(ledger, _Books)
    paid = ledger.paid_for
    costs = {request.custom_id: paid.get(body_sha256(request.params.encode()), []) for request in requests}
    chosen = random.Random(f"{shape.name} pilot {seed}").sample(requests, pilot)
    left, projected = _projected(requests, chosen, costs)
    assert projected.cost_usd is not None
    for _ in range(3):  # a projection says how large a pilot would do, the better the larger the one it is from
        enough = draws_for(projected.cost_usd, len(chosen))
        if enough <= len(chosen) or len(chosen) == count // 2:
            break
        wider = min(count // 2, round(enough * 1.1))
        chosen = random.Random(f"{shape.name} pilot {seed}").sample(requests, wider)
        left, projected = _projected(requests, chosen, costs)
        assert projected.cost_usd is not None
    return Outcome(
        shape.name,
        before,
        sum(_usd(one) for one in costs.values()),
        projected,
        len(chosen),
        len(chosen) == count // 2,
        sum(_usd(costs[request.custom_id]) for request in left),
    )


def _projected(
    requests: Sequence[Request], chosen: Sequence[Request], costs: dict[str, list[Arrival]]
) -> tuple[list[Request], Projection]:
    pilot = {request.custom_id for request in chosen}
    left = [request for request in requests if request.custom_id not in pilot]
    sample = [_drawn(one, costs[one.custom_id]) for one in chosen]
    rest = Rest(len(left), sum(len(request.params) for request in left) / len(left))
    return left, project(sample, rest, {})


def _requests(lines: Sequence[Any]) -> list[Request]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        source = Source(path, Defaults(model=MODEL, max_tokens=1024))
        return [source.shaper().request(line) for line in source.lines()]


def _sized(requests: Sequence[Request]) -> JobSize:
    size = JobSize()
    for request in requests:
        size.add(request.params, request.model, request.max_tokens)
    return size


def _usd(arrivals: Sequence[Arrival]) -> float:
    return sum(one.charge_pusd or 0 for one in arrivals) / _PUSD


def _drawn(request: Request, arrivals: Sequence[Arrival]) -> Drawn:
    last = arrivals[-1] if arrivals else None
    tokens = (last.input_tokens, last.output_tokens) if last else (0, 0)
    return Drawn(len(request.params), _usd(arrivals), *tokens, latency_s=1.0, failed=last is None)


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what is wrong; nothing if the ranges are as good as they must be."""
    wrong = []
    share = 0.9 * len(outcomes)
    if (right := sum(holds(one.before, one.truth) for one in outcomes)) < share:
        wrong.append(f"only {right} of {len(outcomes)} estimates hold the truth")
    if (right := sum(holds(one.after, one.rest) for one in outcomes)) < share:
        wrong.append(f"only {right} of {len(outcomes)} projections hold the truth")
    wrong += [
        f"{one.name}: the estimate spans {one.before.span:.2f} x" for one in outcomes if one.before.span > WIDEST + 1e-9
    ]
    wrong += [
        f"{one.name}: the projection spans {one.after.span:.2f} x"
        for one in outcomes
        if one.after.span > GOOD_SPAN and not one.has_no_more
    ]
    return wrong


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    pilot = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    outcomes = [measure(shape, count, pilot) for shape in SHAPES]
    print(
        f"{'job':<22}{'before, USD':>22}{'span':>6}{'truth':>9}  ok {'after a pilot':>22}{'span':>6}{'truth':>9}  ok  pilot"
    )
    for one in outcomes:
        before, after = (f"{given.low:.4f}..{given.high:.4f}" for given in (one.before, one.after))
        print(
            f"{one.name:<22}{before:>22}{one.before.span:>6.2f}{one.truth:>9.4f}  {'+' if holds(one.before, one.truth) else '-'} "
            f"{after:>23}{one.after.span:>6.2f}{one.rest:>9.4f}  {'+' if holds(one.after, one.rest) else '-'}   {one.pilot}"
        )
    wrong = verdict(outcomes)
    print("\n".join(wrong) or "all as it must be")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

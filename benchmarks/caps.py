"""`--max-cost` over many whole runs in virtual time: what the server billed, as a part of the cap.

    python benchmarks/caps.py [--runs 100] [--json]

The server's own ledger is the witness. Every run differs: lengths of answers, `max_tokens`, calls in flight, failures,
and the cap, anywhere between 30 % and 80 % of what the whole would cost.
"""

import argparse
import json
import random
from dataclasses import asdict, dataclass

from batchrunner.policy.caps import Caps
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from virtual import Figures, World, numbered, virtual_run

#: The API's list price of claude-haiku-4-5, USD per token.
INPUT_USD, OUTPUT_USD = 1e-6, 5e-6
_PROMPT_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Capped:
    """One run that stopped at its cap."""

    cap_usd: float
    billed_usd: float  #: By the server's ledger.
    bound_usd: float  #: What it may be exceeded by: the calls in flight times the longest answer.
    paid: int  #: Answers that the server billed.
    saved: int  #: Answers in the store.
    pending: int
    exit_code: int
    reason: str


def bill(figures: Figures) -> list[float]:
    """Return what the server billed, arrival by arrival."""
    return [
        one.arrival.paid * (one.arrival.input_tokens * INPUT_USD + one.arrival.output_tokens * OUTPUT_USD)
        for one in figures.seen
    ]


def capped_run(seed: int, requests: int = 1500) -> Capped:
    """Run once without a cap and once with one somewhere below that; *seed* decides on everything."""
    rng = random.Random(seed)
    slots, max_tokens = rng.choice((1, 10, 50, 150)), rng.choice((300, 1024, 4096))
    spread = rng.choice(("uniform:20..200", "lognormal:20..4000:0.8", "150"))
    spec = f"latency=0.5..{rng.choice((1, 5))},output_tokens={spread},500={rng.choice((0, 0.05))}"
    lines, limits = [*numbered(requests, max_tokens=max_tokens)], Limits(Rate(6000, 60.0), slots)
    whole = sum(bill(virtual_run(lines, spec, RunSettings(limits=limits), world=World(seed=seed))))
    cap = whole * rng.uniform(0.3, 0.8)
    settings = RunSettings(limits=limits, caps=Caps(max_cost_usd=cap))
    figures = virtual_run(lines, spec, settings, world=World(seed=seed))
    billed, report = bill(figures), figures.report
    if report is None:
        raise AssertionError("our own runs report")
    return Capped(
        cap_usd=cap,
        billed_usd=sum(billed),
        bound_usd=slots * (_PROMPT_TOKENS * INPUT_USD + max_tokens * OUTPUT_USD),
        paid=sum(cost > 0 for cost in billed),
        saved=report.totals.succeeded + report.totals.failed,
        pending=report.totals.pending,
        exit_code=int(report.exit_code),
        reason=report.reason or "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    runs = [capped_run(seed) for seed in range(given.runs)]
    if given.json:
        print(json.dumps([asdict(run) for run in runs]))
        return
    shares = sorted(run.billed_usd / run.cap_usd for run in runs)
    beyond = max((run.billed_usd - run.cap_usd) / run.bound_usd for run in runs)
    print(f"{len(runs)} runs; billed, as a part of the cap:")
    print(f"  least {shares[0]:.3f}   median {shares[len(shares) // 2]:.3f}   most {shares[-1]:.3f}")
    print(f"  furthest beyond the cap: {max(0.0, beyond):.3f} of calls in flight x longest answer")
    print(f"  paid and not in the store: {sum(run.paid - run.saved for run in runs)}")


if __name__ == "__main__":
    main()

"""This limiter beside five other designs, all in virtual time against the same server, as a Markdown table.

python benchmarks/designs.py [REQUESTS] [SCENARIO ...]     default 10,000 and all; a few minutes of one core

Goodput: accepted requests as a part of the refill that was ours until the last acceptance; more than 100 % where the
bucket's first content was spent too. An outage is part of that time.
"""

import sys
from collections.abc import Iterator

from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from virtual import Figures, numbered, virtual_run
from virtual.clients import client_run
from virtual.rivals import RIVALS

RATE = Rate.parse("4000/min")
IN_FLIGHT = 400
_SERVER = "latency=lognormal:1..10,rpm=4000"
SCENARIOS = {
    "steady-1s": f"{_SERVER},bucket_s=1",
    "steady-10s": f"{_SERVER},bucket_s=10",
    "steady-60s": f"{_SERVER},bucket_s=60",
    "tenant-10s": f"{_SERVER},bucket_s=10,tenant=75..:0.5",
    "tenant-1s": f"{_SERVER},bucket_s=1,tenant=75..:0.5",
    "outage": f"{_SERVER},bucket_s=10,outage=60..180",
}
HEAD = "| scenario | design | goodput % | 429 % of sends | sends | failed | finish s |\n|---|---|---|---|---|---|---|"


def runs(spec: str, count: int) -> Iterator[tuple[str, Figures]]:
    """Yield the name and the figures of each design, this one first."""
    settings = RunSettings(limits=Limits(RATE, IN_FLIGHT))
    yield "**batchrunner**", virtual_run(numbered(count), spec, settings)
    for kind in RIVALS:
        yield kind.name, client_run(kind, (str(line["prompt"]) for line in numbered(count)), spec, RATE)


def row(scenario: str, name: str, figures: Figures) -> str:
    goodput, refused = 100 * figures.goodput, 100 * figures.refused_share
    return f"| {scenario} | {name} | {goodput:.1f} | {refused:.2f} | {figures.sent:,} | {figures.failed:,} | {figures.seconds:,.0f} |"


def main(count: int, names: list[str]) -> None:
    print(HEAD)
    for scenario in names or SCENARIOS:
        for name, figures in runs(SCENARIOS[scenario], count):
            print(row(scenario, name, figures), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, sys.argv[2:])

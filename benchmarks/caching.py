"""What priming the prompt cache saves, and what it costs in time: whole runs in virtual time beside unprimed and unmarked ones.

python benchmarks/caching.py [--rows 5000]
"""

import argparse
from collections.abc import Sequence

from batchrunner.policy.sharing import Sharing
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from virtual import Figures, virtual_run
from virtual.sharing import input_cost, sharing, writes

MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
#: What a job is like: groups of rows, the mark, the server, requests a minute, calls in flight.
JOBS: dict[str, tuple[int, object, str, str, int]] = {
    "one group, 200 in flight": (1, MARK, "latency=lognormal:1..10", "60000/min", 200),
    "20 groups that take turns": (20, MARK, "latency=lognormal:1..10", "60000/min", 200),
    "one group, kept for an hour": (1, HOUR, "latency=lognormal:1..10", "60000/min", 200),
    "10 groups at 300 requests a minute": (10, MARK, "latency=lognormal:1..10,rpm=300", "300/min", 50),
    "20 groups, 5 % of the calls fail": (20, MARK, "latency=lognormal:1..10,500=0.05", "60000/min", 200),
}


def _run(job: tuple[int, object, str, str, int], rows: int, *, marked: bool = True, prime: bool = True) -> Figures:
    groups, mark, spec, rate, in_flight = job
    settings = RunSettings(limits=Limits(Rate.parse(rate), in_flight), sharing=Sharing(prime=prime))
    return virtual_run(sharing(rows, groups=groups, mark=mark if marked else None), spec, settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="requests in each job")
    rows: int = parser.parse_args(arguments).rows
    print(f"{rows:,} requests that share a prefix of 6,000 tokens with their group\n")
    print("| job | cache writes: unprimed | primed | input cost of unprimed | of unmarked | time of unprimed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, job in JOBS.items():
        primed, unprimed = _run(job, rows), _run(job, rows, prime=False)
        plain = _run(job, rows, marked=False)
        cost = input_cost(primed)
        print(
            f"| {name} | {writes(unprimed):,} | {writes(primed):,} | {cost / input_cost(unprimed):.0%} "
            f"| {cost / input_cost(plain):.1%} | {primed.seconds / unprimed.seconds - 1:+.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

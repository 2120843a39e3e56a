"""A strict server and our own window: how close to the limit, how many refusals, never more than permitted.

python benchmarks/limits.py [REQUESTS] [RATE]     default 1,500 at 600/10s
"""

import json
import os
import random
import sys
import tempfile
from io import StringIO
from pathlib import Path

import anyio

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.policy.window import Rate
from batchrunner.progress import Silent
from batchrunner.report import Job, Report
from batchrunner.runner import run
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.server import serve


async def paced(path: Path, rate: Rate) -> tuple[Report, Ledger]:
    spec = f"latency=0.05..0.3,rate={rate.count}/{rate.period_s:g}s,strict=1"
    ledger = Ledger()
    async with serve(Simulator(parse_spec(spec), ledger)) as url:
        report = await run(
            Job(path.with_suffix(".db"), Source(path, Defaults(model="claude-haiku-4-5", max_tokens=100))),
            RunSettings(limits=Limits(rate, 200)),
            Endpoint(url),
            reporter=Silent(StringIO()),
            rng=random.Random(1),
        )
    return report, ledger


def main(count: int, rate: Rate) -> None:
    import anthropic  # noqa: F401 - its import is no part of what is measured

    os.environ["ANTHROPIC_API_KEY"] = "sk-ant-api03-benchmark"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        path.write_text("".join(json.dumps({"prompt": f"Question {i}"}) + "\n" for i in range(count)))
        report, ledger = anyio.run(paced, path, rate)
    figures = ledger.summary()
    ideal = (count - 1) / rate.per_second
    print(f"{count:,} requests at {rate} against a strict server, answers after 0.05 to 0.3 s")
    print(f"  finished in {report.seconds:.1f} s; the even pace alone takes {ideal:.1f} s")
    print(f"  refused with 429: {figures.statuses.get(429, 0)}")
    print(f"  most in any {rate.period_s:g} s at the server: {ledger.max_in_window(rate.period_s)} of {rate.count}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_500, Rate.parse(sys.argv[2] if len(sys.argv) > 2 else "600/10s"))

"""Our own limits against the simulator's, over the wire: how fully they are used, how many refusals, never too many.

python benchmarks/limits.py [SCENARIO ...]     default: all; about nine minutes

The same scenarios at full length run in virtual time in tests/test_limits_scenarios.py and benchmarks/designs.py.
"""

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import anyio

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.policy.window import Rate
from batchrunner.progress import Silent
from batchrunner.report import Job, Report
from batchrunner.runner import run
from batchrunner.settings import Limits, RunSettings
from served import served
from virtual import numbered

MODEL, OTHER = "claude-haiku-4-5", "claude-sonnet-5"
_SLOW = "latency=lognormal:1..10"
_LONG = "latency=0.5,tokens_per_s=70,output_tokens=lognormal:17.38..4096:0.9"


def among(count: int, place: int, line: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield *count* ordinary lines with *line* in one place among them."""
    for number, ordinary in enumerate(numbered(count)):
        yield line if number == place else ordinary


def alternating(count: int) -> Iterator[Mapping[str, Any]]:
    """Yield *count* lines for two models in turn."""
    for number, line in enumerate(numbered(count)):
        yield {**line, "model": OTHER if number % 2 else MODEL}


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    what: str
    spec: str
    lines: int
    limits: Limits = field(default_factory=Limits)
    line: Mapping[str, Any] | None = None  #: A special one among the others.
    two_models: bool = False

    def job(self) -> Iterator[Mapping[str, Any]]:
        """Yield its lines."""
        if self.two_models:
            return alternating(self.lines)
        if self.line is not None:
            return among(self.lines, self.lines // 10, self.line)
        return iter(numbered(self.lines))


_RPM = Limits(Rate(4000, 60.0))
SCENARIOS = {
    "steady": Scenario("4,000 a minute, bucket of 1 s", f"{_SLOW},rpm=4000,bucket_s=1", 4000, _RPM),
    "auto": Scenario("the same, limits from the headers", f"{_SLOW},rpm=4000,bucket_s=1", 4000),
    "tenant": Scenario(
        "another tenant takes half after 30 s", f"{_SLOW},rpm=4000,bucket_s=10,tenant=30..:0.5", 4000, _RPM
    ),
    "strict": Scenario(
        "600 in 10 s, strict window", "latency=0.05..0.3,rate=600/10s,strict=1", 1500, Limits(Rate(600, 10.0))
    ),
    "burst": Scenario(
        "the same with --burst",
        "latency=0.05..0.3,rate=600/10s,strict=1",
        1500,
        Limits(Rate(600, 10.0), burst=True),
    ),
    "tokens": Scenario(
        "800,000 output tokens a minute, from a cold start",
        f"{_LONG},otpm=800000,bucket_s=10",
        3000,
        Limits(otpm=800_000),
    ),
    "outage": Scenario("20 s of outage", f"{_SLOW},rpm=4000,bucket_s=10,outage=15..35", 3000, _RPM),
    "poison": Scenario(
        "one row that is always refused",
        f"{_SLOW},rpm=4000,bucket_s=10,headers=0",
        1000,
        _RPM,
        {"id": "poison", "prompt": "[[sim:429]] x"},
    ),
    "large": Scenario(
        "a request of 150,000 tokens among small ones",
        "latency=0.5,itpm=400000,bucket_s=10",
        2000,
        Limits(Rate(2000, 60.0), itpm=400_000),
        {"id": "large", "prompt": "word " * 120_000},
    ),
    "models": Scenario("two models in turn", "latency=0.5..1,rpm=1500,bucket_s=10", 2000, two_models=True),
}


async def measured(path: Path, url: str, scenario: Scenario) -> Report:
    return await run(
        Job(path.with_suffix(".db"), Source(path, Defaults(model=MODEL, max_tokens=4096))),
        RunSettings(limits=scenario.limits),
        Endpoint(url),
        reporter=Silent(StringIO()),
        rng=random.Random(1),
    )


def row(scenario: Scenario, report: Report, seen: Mapping[str, Any]) -> str:
    used = seen["output_used"] if seen["goodput"] is None else seen["goodput"]
    rate = scenario.limits.rate
    cells = [
        scenario.what,
        f"{scenario.lines:,}",
        f"{report.seconds:.1f}",
        "-" if used is None else f"{used:.1%}",
        f"{seen['refused_share']:.2%}",
        f"{seen['statuses'].get(529, 0):,}",
        f"{seen['most']:,} of {rate.count:,}" if rate else "-",
        f"{report.totals.failed:,}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(names: list[str]) -> None:
    import anthropic  # noqa: F401 - its import is no part of what is measured

    os.environ["ANTHROPIC_API_KEY"] = "sk-ant-api03-benchmark"
    print("| scenario | requests | s | of the limit used | 429s | 529s | most in one period | failed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        scenario = SCENARIOS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "jobs.jsonl")
            path.write_text("".join(json.dumps(line) + "\n" for line in scenario.job()))
            with served(scenario.spec) as server:
                report = anyio.run(measured, path, server.url, scenario)
                rate = scenario.limits.rate
                print(row(scenario, report, server.figures(rate.period_s if rate else 60.0)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(SCENARIOS))

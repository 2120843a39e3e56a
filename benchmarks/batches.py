"""The second route in numbers: rows submitted and settled a second, memory while results stream, what it costs.

python benchmarks/batches.py [ROWS] [BATCH_SIZE]     default 100,000 and 20,000; the simulator is a process of its own
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

import anyio

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.policy.routing import Route, Routing
from batchrunner.progress import Silent, Snapshot
from batchrunner.report import Job, Report
from batchrunner.runner import run
from batchrunner.settings import RunSettings

MODEL = "claude-haiku-4-5"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mb() -> float:
    """Return what this process has in memory now."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE / 1e6
    except OSError:  # macOS: the most it ever had
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class Watching(Silent):
    """Notes how much memory the process has, and how far it is."""

    interval_s = 0.2

    def __init__(self) -> None:
        super().__init__(StringIO())
        self.seen: list[tuple[int, float, float]] = []  # done, MB, CPU seconds

    def tick(self, snapshot: Snapshot) -> None:
        """Note it."""
        self.seen.append((snapshot.done, resident_mb(), time.process_time()))


async def by_batches(path: Path, url: str, size: int, *, submit_only: bool) -> tuple[Report, Watching, float, float]:
    """Run, and return the report, what was seen, wall and CPU seconds."""
    watching = Watching()
    routing = Routing(Route.BATCHES, rows=size, queue=10**6, poll_s=0.2, submit_only=submit_only)
    cpu, started = time.process_time(), time.perf_counter()
    report = await run(
        Job(path.with_suffix(".db"), Source(path, Defaults(model=MODEL, max_tokens=100))),
        RunSettings(routing=routing),
        Endpoint(url),
        reporter=watching,
        rng=random.Random(1),
    )
    return report, watching, time.perf_counter() - started, time.process_time() - cpu


async def all_ended(url: str, batches: int) -> None:
    """Wait until the API has worked on everything: what is measured is ours alone."""
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(base_url=url) as client:
        ended = 0
        while ended < batches:
            await anyio.sleep(0.5)
            page = await client.messages.batches.list(limit=1000)
            ended = sum(batch.processing_status == "ended" for batch in page.data)


async def measure(path: Path, url: str, size: int) -> None:
    report, _, wall, cpu = await by_batches(path, url, size, submit_only=True)
    rows = report.totals.requests
    print(f"read and submitted   {rows:,} rows in {wall:.1f} s ({rows / wall:,.0f}/s), {cpu:.1f} s CPU")
    await all_ended(url, report.at_api["batches"])
    report, watching, _, _ = await by_batches(path, url, size, submit_only=False)
    assert report.totals.succeeded == rows, report
    moving = [seen for seen in watching.seen if 0 < seen[0] < rows] or watching.seen
    (first, early_mb, cpu_from), (last, late_mb, cpu_to) = moving[0], moving[-1]
    seconds = (len(moving) - 1) * Watching.interval_s
    rate = (last - first) / seconds if seconds else float("nan")
    print(
        f"settled              {rate:,.0f} rows/s, {(last - first) / max(1e-9, cpu_to - cpu_from):,.0f} per CPU second"
    )
    print(f"memory               {early_mb:.0f} MB after {first:,} rows, {late_mb:.0f} MB after {last:,}")


def main() -> None:
    rows, size = (int(text.replace(",", "")) for text in (*sys.argv[1:], "100000", "20000")[:2])
    os.environ.setdefault("ANTHROPIC_API_KEY", "sk-ant-simulated")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for n in range(rows):
                file.write(
                    json.dumps({"id": f"r{n}", "prompt": f"Question {n}: what is {n} plus {n * 7 % 1000}?"}) + "\n"
                )
        served = subprocess.Popen(
            [sys.executable, "-m", "batchrunner", "simulate", "--port", "0", "--with", "latency=0,batch_s=2,batch_queue=10000000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert served.stdout is not None
            anyio.run(measure, path, served.stdout.readline().strip(), size)
        finally:
            served.terminate()
            served.wait()


if __name__ == "__main__":
    main()

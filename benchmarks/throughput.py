"""The loop, durable, beside the SDK with aiohttp that keeps nothing; the simulator is a process of its own.

python benchmarks/throughput.py [REQUESTS] [IN_FLIGHT]     default 3,000 and 200; answers after 50 ms
"""

import json
import os
import random
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
from batchrunner.progress import Silent
from batchrunner.report import Job
from batchrunner.runner import run
from batchrunner.settings import Limits, RunSettings

MODEL = "claude-haiku-4-5"


def prompts(count: int) -> list[str]:
    return [f"Question {i}: what is {i} plus {i * 7 % 1000}?" for i in range(count)]


async def ours(path: Path, url: str, in_flight: int) -> tuple[float, float]:
    source = Source(path, Defaults(model=MODEL, max_tokens=100))
    cpu, started = time.process_time(), time.perf_counter()
    report = await run(
        Job(path.with_suffix(".db"), source),
        RunSettings(limits=Limits(concurrency=in_flight)),
        Endpoint(url),
        reporter=Silent(StringIO()),
        rng=random.Random(1),
    )
    assert report.totals.pending == report.totals.failed == 0
    return time.perf_counter() - started, time.process_time() - cpu


async def yardstick(texts: list[str], url: str, in_flight: int) -> tuple[float, float]:
    from anthropic import AsyncAnthropic, DefaultAioHttpClient

    cpu, started = time.process_time(), time.perf_counter()
    async with AsyncAnthropic(base_url=url, max_retries=0, http_client=DefaultAioHttpClient()) as client:
        waiting = iter(texts)

        async def worker() -> None:
            for text in waiting:
                await client.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": text}])

        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(worker)
    return time.perf_counter() - started, time.process_time() - cpu


def main(count: int = 3_000, in_flight: int = 200) -> None:
    import anthropic  # noqa: F401 - its import is no part of what is compared

    os.environ["ANTHROPIC_API_KEY"] = "sk-ant-api03-benchmark"
    server = subprocess.Popen(
        [sys.executable, "-m", "batchrunner", "simulate", "--port", "0", "--with", "latency=0.05"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        texts = prompts(count)
        print(f"{count:,} requests, {in_flight} in flight, answers after 50 ms; import of lines included in ours")
        print(f"{'run':>4} {'req/s':>8} {'CPU ms each':>12} {'SDK req/s':>10} {'CPU ms each':>12} {'ratio':>6}")
        for i in range(3):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "jobs.jsonl")
                path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
                wall, cpu = anyio.run(ours, path, url, in_flight)
            bare_wall, bare_cpu = anyio.run(yardstick, texts, url, in_flight)
            print(
                f"{i + 1:>4} {count / wall:>8,.0f} {1000 * cpu / count:>12.2f} "
                f"{count / bare_wall:>10,.0f} {1000 * bare_cpu / count:>12.2f} {bare_wall / wall:>6.2f}"
            )
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))

"""The loops that are compared, each a process of its own on the client's core.

python benchmarks/loops.py KIND URL REQUESTS IN_FLIGHT     prints one JSON object: seconds and CPU seconds of the loop

What is loaded, and in ours the import of lines, is over before the clock starts.
"""

import asyncio
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from io import StringIO
from pathlib import Path
from typing import Any

MODEL = "claude-haiku-4-5"
KEY = "sk-ant-api03-benchmark"
_MAX_TOKENS = 100


def prompt(i: int) -> str:
    return f"Question {i}: what is {i} plus {i * 7 % 1000}?"


def body(i: int) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": _MAX_TOKENS, "messages": [{"role": "user", "content": prompt(i)}]}


def write_lines(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"prompt": prompt(i)}) + "\n" for i in range(count)), encoding="utf-8")


class Watch:
    """Wall and CPU seconds from one instant to another."""

    def __init__(self) -> None:
        self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def taken(self) -> dict[str, Any]:
        """Return what it took until now."""
        return {"seconds": time.perf_counter() - self.began, "cpu_s": time.process_time() - self.cpu_began}


async def ours(url: str, count: int, in_flight: int, *, phases: bool = False) -> dict[str, Any]:
    """This program, from the moment it begins to send until all is sent and saved; everything durable."""
    import anthropic  # noqa: F401 - its import is no part of what is compared

    from batchrunner.audience import OwnProcess
    from batchrunner.endpoint import Endpoint
    from batchrunner.jobfile import Defaults
    from batchrunner.loading import Source
    from batchrunner.progress import PlainLines, Snapshot
    from batchrunner.report import Job
    from batchrunner.runner import run
    from batchrunner.settings import Limits, RunSettings
    from phases import Phases

    class Timed(PlainLines):
        watch: Watch | None = None
        taken: dict[str, Any] | None = None

        def start(self, snapshot: Snapshot) -> None:
            super().start(snapshot)
            if phases:
                watched.begin()
            self.watch = Watch()

        def stop(self) -> None:
            if self.watch is not None and self.taken is None:
                self.taken = self.watch.taken()
                watched.end()

    watched, shown = Phases(), Timed(StringIO())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        write_lines(path, count)
        report = await run(
            Job(path.with_suffix(".db"), Source(path, Defaults(model=MODEL, max_tokens=_MAX_TOKENS))),
            RunSettings(limits=Limits(concurrency=in_flight)),
            Endpoint(url),
            reporter=shown,
            rng=random.Random(1),
            audience=OwnProcess(),
        )
    assert report.totals.succeeded == count
    assert shown.taken is not None
    return shown.taken | {"phases": {phase: seconds / count for phase, seconds in watched.seconds.items()}}


async def by_phase(url: str, count: int, in_flight: int) -> dict[str, Any]:
    """The same, and where its CPU time goes."""
    return await ours(url, count, in_flight, phases=True)


async def sdk(url: str, count: int, in_flight: int) -> dict[str, Any]:
    """`AsyncAnthropic` over aiohttp, as its documentation has it, with `gather` and a semaphore; nothing is kept."""
    from anthropic import AsyncAnthropic, DefaultAioHttpClient

    async with AsyncAnthropic(base_url=url, http_client=DefaultAioHttpClient()) as client:
        free = asyncio.Semaphore(in_flight)

        async def one(i: int) -> str:
            async with free:
                message = await client.messages.create(**body(i))
            return str(message.content[0].text)

        watch = Watch()
        texts = await asyncio.gather(*(one(i) for i in range(count)))
    assert len(texts) == count
    return watch.taken()


async def bare(url: str, count: int, in_flight: int) -> dict[str, Any]:
    """Nothing but aiohttp: the body out, the JSON of the answer in; nothing is kept."""
    import aiohttp

    headers = {"authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"}
    free = asyncio.Semaphore(in_flight)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def one(i: int) -> str:
            async with free, session.post(f"{url}/v1/messages", json=body(i)) as response:
                return str((await response.json())["content"][0]["text"])

        watch = Watch()
        texts = await asyncio.gather(*(one(i) for i in range(count)))
    assert len(texts) == count
    return watch.taken()


async def floor(url: str, count: int, in_flight: int) -> dict[str, Any]:
    """Sockets by hand, no HTTP to speak of: what the canned server and the system can do at most."""
    host, port = url.removeprefix("http://").split(":")
    numbers = iter(range(count))

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for i in numbers:
            data = json.dumps(body(i)).encode()
            writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.close()

    watch = Watch()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return watch.taken()


KINDS: dict[str, Callable[[str, int, int], Awaitable[dict[str, Any]]]] = {
    kind.__name__: kind for kind in (ours, by_phase, sdk, bare, floor)
}


async def _main(kind: str, url: str, count: int, in_flight: int) -> None:
    print(json.dumps(await KINDS[kind](url, count, in_flight)))


if __name__ == "__main__":
    os.environ["ANTHROPIC_API_KEY"] = KEY
    gc.collect()
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))

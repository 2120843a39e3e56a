"""Runs against the simulator: in this process for most tests, as processes where signals and kills are at stake."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import anyio

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults, Template
from batchrunner.loading import Source
from batchrunner.progress import Silent
from batchrunner.report import Job, Report
from batchrunner.runner import run
from batchrunner.settings import RunSettings
from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.answers import answer_text, body_sha256
from batchrunner.simulator.ledger import Arrival, BatchRow
from batchrunner.simulator.server import serve
from batchrunner.store.files import open_reader

KEY = "sk-ant-api03-canary-0123456789"
MODEL = "claude-haiku-4-5"


def job_file(path: Path, prompts: Sequence[Any]) -> Path:
    """Write a job file: strings become {"id", "prompt"} lines, everything else stands as JSON."""
    lines = [{"id": f"r{i}", "prompt": p} if isinstance(p, str) else p for i, p in enumerate(prompts)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


class WatchedLedger(Ledger):
    """A ledger that can be waited on, also from another thread."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self._changed = threading.Condition()
        self.paid: Counter[str] = Counter()
        self.seen: list[Arrival] = []
        self.arrivals = 0
        self.ends = 0
        self.batch_rows: list[BatchRow] = []

    def arrive(self, arrival: Arrival, now: float) -> None:
        super().arrive(arrival, now)
        with self._changed:
            self.arrivals += 1
            self.seen.append(arrival)
            self._changed.notify_all()

    def end(self, arrival: Arrival, now: float, bytes_sent: int, *, delivered: bool) -> None:
        super().end(arrival, now, bytes_sent, delivered=delivered)
        with self._changed:
            self.ends += 1
            self.paid.update([arrival.body] if arrival.paid else [])
            self._changed.notify_all()

    def book(self, row: BatchRow, now: float) -> None:
        super().book(row, now)
        with self._changed:
            self.batch_rows.append(row)
            self.paid.update([row.body] if row.paid else [])
            self._changed.notify_all()

    def wait_until(self, condition: Callable[["WatchedLedger"], bool], timeout_s: float = 60) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout_s), "the simulator never got there"


@contextlib.asynccontextmanager
async def simulator(spec: str = "latency=0.01") -> AsyncIterator[tuple[str, WatchedLedger]]:
    """Serve the simulator in this event loop; yields its address and its ledger."""
    ledger = WatchedLedger()
    async with serve(Simulator(parse_spec(spec), ledger)) as url:
        yield url, ledger


@contextlib.contextmanager
def simulator_thread(spec: str = "latency=0.01", path: Path | None = None) -> Iterator[tuple[str, WatchedLedger]]:
    """Serve the simulator from a thread, for runs that are processes; yields its address and its ledger (in the file *path*)."""
    ledger, ready, address = WatchedLedger(path), threading.Event(), []
    loops: list[tuple[Any, anyio.Event]] = []

    async def main() -> None:
        import asyncio

        stop = anyio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        async with serve(Simulator(parse_spec(spec), ledger)) as url:
            address.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    try:
        assert ready.wait(20)
        yield address[0], ledger
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        ledger.close()


async def run_job(
    path: Path,
    url: str | None,
    settings: RunSettings | None = None,
    *,
    prompt: str | None = None,
    model: str | None = MODEL,
    max_tokens: int = 1024,
    on_change: str | None = None,
    notes: StringIO | None = None,
    **job: Any,
) -> Report:
    """Run the job file at *path* in this process."""
    template = Template(prompt) if prompt is not None else None
    source = Source(path, Defaults(model=model, max_tokens=max_tokens), template, prompt)
    return await run(
        Job(path.with_suffix(".db"), source, on_change, **job),
        settings or RunSettings(),
        Endpoint(url),
        reporter=Silent(notes or StringIO()),
        rng=random.Random(1),
    )


def rows(store: Path, sql: str, *params: Any) -> list[Any]:
    """Return the rows of a query as tuples."""
    with contextlib.closing(open_reader(store)) as conn:
        return [tuple(row) for row in conn.execute(sql, params)]


def expected_answer(params: str) -> str:
    """Return what the simulator answers to a body."""
    return answer_text(json.loads(params))


def right_answers(store: Path) -> bool:
    """Whether every succeeded request has its own answer."""
    pairs = rows(
        store,
        """SELECT i.params, r.text FROM requests q JOIN inputs i USING (seq) JOIN results r USING (seq)
           WHERE q.state = 'succeeded' AND r.number = q.attempts""",
    )
    return bool(pairs) and all(expected_answer(params) == text for params, text in pairs)


def paid_extra(store: Path, ledger: WatchedLedger) -> dict[str, int]:
    """Return how often each request was paid for beyond once, by custom_id."""
    ids = {
        body_sha256(p.encode()): c
        for c, p in rows(store, "SELECT custom_id, params FROM requests JOIN inputs USING (seq)")
    }
    return {ids[body]: times - 1 for body, times in ledger.paid.items() if times > 1}


class RunningCommand:
    """`batchrunner ...` as a process in a group of its own."""

    living: ClassVar[list["RunningCommand"]] = []

    def __init__(self, *args: str, url: str | None = None, cwd: Path, key: str | None = KEY) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
        env |= {"ANTHROPIC_API_KEY": key} if key else {}
        env |= {"ANTHROPIC_BASE_URL": url} if url else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "batchrunner", *args],
            cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.living.append(self)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.finish()

    def finish(self, timeout_s: float = 90) -> "RunningCommand":
        """Wait for its end; its output is in `stdout` and `stderr`."""
        try:
            self.stdout, self.stderr = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.stdout, self.stderr = self.process.communicate()
            raise AssertionError(f"the command did not end\n{self.stdout}\n{self.stderr}") from None
        return self

    @classmethod
    def end_all(cls) -> None:
        """End what a failed test left running."""
        while cls.living:
            process = cls.living.pop().process
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    @property
    def code(self) -> int:
        return self.process.returncode

    def wait_for_note(self, text: str) -> str:
        """Read stderr until a line has *text*; returns that line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if text in line:
                return line
        raise AssertionError(f"{text!r} was never said")


def command(*args: str, url: str | None = None, cwd: Path, key: str | None = KEY) -> RunningCommand:
    """Run `batchrunner ...` to its end."""
    return RunningCommand(*args, url=url, cwd=cwd, key=key).finish()

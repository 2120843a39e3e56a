"""Requests per second and CPU per request: the loop, durable, beside loops that keep nothing; and a whole command.

python benchmarks/throughput.py [REQUESTS] [--short] [--rounds N] [--json]     default 20,000

The answers come after 50 ms from a server that costs next to nothing (benchmarks/answering.py), which has a core of its
own where there are two; every client runs on the other one. Yardsticks and ours take turns, in processes of their own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from answering import answering, stay_on, two_cores
from loops import KEY, MODEL, write_lines
from measuring import Size, Table, benchmark, beside, middle
from phases import ORDER
from processes import BATCHRUNNER, spent
from rows import bare_commits

_LATENCY_S = 0.05
_STARTED = 3_000  #: Requests of a run that is measured with its start-up.
_NAMES = {
    "ours": "batchrunner, durable",
    "sdk": "yardstick: AsyncAnthropic + aiohttp, gather",
    "bare": "yardstick: bare aiohttp",
    "floor": "yardstick: sockets by hand",
}


def loop(kind: str, url: str, count: int, in_flight: int) -> dict[str, Any]:
    """Run one loop in a process of its own and return what it measured."""
    program = str(Path(__file__).with_name("loops.py"))
    done = subprocess.run(
        [sys.executable, program, kind, url, str(count), str(in_flight)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    taken: dict[str, Any] = json.loads(done.stdout)
    return taken


def loops(url: str, size: Size, in_flight: int, told: str = "") -> Table:
    """Return the table of all loops with so many calls in flight."""
    taken: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _NAMES}
    for _ in range(size.rounds):
        for kind, found in taken.items():
            found.append(loop(kind, url, size.count, in_flight))
    table = Table(
        f"the loop: {size.count:,} requests, {in_flight:,} in flight{told}, answers after 50 ms",
        ("client", "req/s", "CPU ms each", "ours is so many times as fast"),
    )
    seconds = {kind: [one["seconds"] for one in found] for kind, found in taken.items()}
    for kind, found in taken.items():
        cpu_ms = 1000 * middle([one["cpu_s"] for one in found]) / size.count
        ratio = None if kind == "ours" else beside(seconds[kind], seconds["ours"])
        table.rows.append((_NAMES[kind], f"{size.count / middle(seconds[kind]):,.0f}", f"{cpu_ms:.2f}", ratio))
    return table


def phases(url: str, size: Size) -> Table:
    """Return the table of CPU time by phase."""
    found = [loop("by_phase", url, size.count, 200)["phases"] for _ in range(size.rounds)]
    table = Table(f"where the CPU time goes, {size.count:,} requests, 200 in flight", ("phase", "CPU ms each", "share"))
    each = {phase: 1000 * middle([one.get(phase, 0.0) for one in found]) for phase in ORDER}
    whole = sum(each.values())
    table.rows = [(phase, f"{ms:.3f}", f"{ms / whole:.0%}") for phase, ms in each.items()]
    table.notes = ["Sampled every millisecond of CPU time; the sampling itself takes a few hundredths of the time."]
    return table


def commands(url: str, rounds: int) -> Table:
    """Return the table of whole commands, from the start of the process to its end."""
    taken: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name, command in _commands(url):
            done = spent(command, environment={"ANTHROPIC_API_KEY": KEY})
            taken.setdefault(name, []).append((done.seconds, done.cpu_s))
    table = Table(
        f"with start-up: {_STARTED:,} requests, 200 in flight, one process from its start to its end",
        ("command", "req/s", "seconds", "CPU s", "ours is so many times as fast"),
    )
    mine = [seconds for seconds, _ in taken["batchrunner run, durable"]]
    for name, found in taken.items():
        seconds, cpu_s = ([one[i] for one in found] for i in (0, 1))
        ratio = None if seconds == mine else beside(seconds, mine)
        rate = f"{_STARTED / middle(seconds):,.0f}"
        table.rows.append((name, rate, f"{middle(seconds):.2f}", f"{middle(cpu_s):.2f}", ratio))
    return table


def _commands(url: str) -> Iterator[tuple[str, Sequence[str]]]:
    program = str(Path(__file__).with_name("loops.py"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        write_lines(path, _STARTED)
        ours = (*BATCHRUNNER, "run", str(path), "--model", MODEL, "-j", "200", "--base-url", url)
        yield "batchrunner run, durable", ours
        for kind in ("sdk", "bare"):
            yield _NAMES[kind], (sys.executable, program, kind, url, str(_STARTED), "200")


def commits(size: Size) -> Table:
    """Return what SQLite alone takes for the same rows."""
    taken = [bare_commits(size.count) for _ in range(size.rounds)]
    table = Table(
        f"yardstick: the same rows into the same tables by sqlite3 alone, {size.count:,} requests",
        ("requests to a commit", "req/s", "CPU ms each"),
    )
    for group in taken[0]:
        seconds = middle([one[group][0] for one in taken])
        cpu_ms = 1000 * middle([one[group][1] for one in taken]) / size.count
        table.rows.append((group, f"{size.count / seconds:,.0f}", f"{cpu_ms:.3f}"))
    return table


def measure(size: Size) -> Sequence[Table]:
    client, server = two_cores()
    with answering(_LATENCY_S, server) as url:
        stay_on(client)
        tables = [loops(url, size, 200), phases(url, size), commands(url, size.rounds)]
        if not size.is_short:
            tables.insert(1, loops(url, size, 1_000))
    tables.append(commits(size))
    if not size.is_short:
        with answering(_LATENCY_S, server, limits=True) as url:
            tables.insert(2, loops(url, size, 200, ", limits told by the headers"))
    return tables


if __name__ == "__main__":
    os.environ["ANTHROPIC_API_KEY"] = KEY
    benchmark(__doc__, measure, short=3_000, long=20_000)

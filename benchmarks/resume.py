"""How soon a run goes on with a large store, and how soon `status` and its like show it.

python benchmarks/resume.py [ROWS] [--short] [--json]     1,000,000 finished requests, 100 left; some 3 GB below $TMPDIR

The time of the first request is when its first byte reaches the endpoint, a server on 127.0.0.1, counted from the start
of the command; the job file lies unchanged beside the store. The yardsticks: the start of a Python that imports the SDK
and makes a client, without which nobody sends anything; and the start of Python alone with a `SELECT count(*)`.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from listening import Listening
from measuring import Size, Table, benchmark, middle
from processes import BATCHRUNNER, PYTHON, Spent, spent
from stores import finish, owning, take_in, write_lines

_LEFT = 100
_CLIENT = "import anthropic; anthropic.AsyncAnthropic(api_key='sk-ant-api03-benchmark', http_client=anthropic.DefaultAioHttpClient())"
_COUNT = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM requests NOT INDEXED').fetchone()[0])"
_KEY = {"ANTHROPIC_API_KEY": "sk-ant-api03-benchmark"}
_SCREENS = (("status",), ("status", "--json"), ("errors",), ("runs",))


def measure(size: Size) -> Sequence[Table]:
    with tempfile.TemporaryDirectory(prefix="scale-") as name, Listening.begun() as endpoint:
        path = Path(name, "jobs.jsonl")
        write_lines(path, size.count + _LEFT)
        with owning(path.with_suffix(".db")) as conn:
            take_in(conn, path)
            finish(conn, 1, size.count)
        whole = path.with_suffix(".whole")
        shutil.copy(path.with_suffix(".db"), whole)
        table = Table(
            f"a store of {size.count + _LEFT:,} requests, {_LEFT} of them left",
            ("command", "first request after, s", "whole command, s", "CPU s"),
        )
        table.rows = [
            *(_going_on(verb, path, whole, endpoint, size.rounds) for verb in ("run", "resume")),
            *(_shown((*BATCHRUNNER, *screen, str(path)), " ".join(screen), size.rounds) for screen in _SCREENS),
            _shown((*PYTHON, _CLIENT), "yardstick: import the SDK, make a client", size.rounds),
            _shown((*PYTHON, _COUNT, str(whole)), "yardstick: SELECT count(*)", size.rounds),
        ]
    return [table]


def _going_on(verb: str, path: Path, whole: Path, endpoint: Listening, rounds: int) -> Sequence[object]:
    first, done = [], []
    for _ in range(rounds):
        shutil.copy(whole, path.with_suffix(".db"))
        endpoint.forget()
        began = time.monotonic()
        done.append(spent([*BATCHRUNNER, verb, str(path), "--base-url", endpoint.url], environment=_KEY))
        assert endpoint.first_at is not None
        assert endpoint.calls == _LEFT, endpoint.calls
        first.append(endpoint.first_at - began)
    name = "run, the job file unchanged" if verb == "run" else verb
    return (name, f"{middle(first):.2f}", *_times(done))


def _shown(command: Sequence[str], name: str, rounds: int) -> Sequence[object]:
    return (name, "", *_times([spent(command) for _ in range(rounds)]))


def _times(done: Sequence[Spent]) -> tuple[str, str]:
    return f"{middle([one.seconds for one in done]):.2f}", f"{middle([one.cpu_s for one in done]):.2f}"


if __name__ == "__main__":
    benchmark(__doc__, measure, short=50_000, long=1_000_000)

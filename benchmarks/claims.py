"""Claims of two lanes in a store of many rows: how long one takes at the beginning, in the middle and at the end.

python benchmarks/claims.py [ROWS] [--short] [--json]     500,000 rows, as many retries due as a minute's cooling leaves

The yardstick is a look-up of as many rows by their key, in the same store and run.
"""

import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from batchrunner.clock import SystemClock
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source, Watcher, load
from batchrunner.store.files import open_reader
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.transactions import transaction
from measuring import Size, Table, benchmark, middle
from stores import owning

MODELS = ("claude-haiku-4-5", "claude-sonnet-5")
_COOLED = 4_000
_TIMES = 9
_CLAIMED = 500
_TRIED = "UPDATE requests SET attempts = 1, not_before = '2026-01-01T00:00:00.000Z' WHERE seq <= ?"


def measure(size: Size) -> Sequence[Table]:
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        path = Path(folder, "jobs.jsonl")
        with path.open("w") as file:
            for n in range(size.count):
                file.write(json.dumps({"prompt": f"Question {n}", "model": MODELS[n % 2]}) + "\n")
        with owning(path.with_suffix(".db")) as conn:
            load(conn, Source(path, Defaults(max_tokens=100)), on_change=None, clock=SystemClock(), watcher=Watcher())
            with transaction(conn) as cursor:
                cursor.execute(_TRIED, (_COOLED,))
            with contextlib.closing(open_reader(path.with_suffix(".db"))) as reading:
                return [_table(reading, size.count)]


def _table(conn: sqlite3.Connection, rows: int) -> Table:
    queue = Queue(conn)
    table = Table(
        f"{rows:,} rows, two lanes in turn, {_COOLED:,} retries due",
        ("a claim of 500, ms (most)", "beginning", "middle", "end"),
        notes=[f"medians of {_TIMES}"],
    )
    for lane in queue.model_classes():
        places = (_COOLED, rows // 2, rows - 1100)
        claims = [Claim(lane, after, "2025-01-01T00:00:00.000Z") for after in places]
        fresh = [_timed(partial(_claim, queue, claim)) for claim in claims]
        due = _timed(partial(_claim, queue, Claim(lane, 0, "2027-01-01T00:00:00.000Z", fresh=False)))
        table.rows += [(f"{lane}, fresh", *fresh), (f"{lane}, retries", due, "", "")]
    table.rows.append(("yardstick: 500 rows by key", _timed(partial(_look_up, conn, rows)), "", ""))
    return table


def _claim(queue: Queue, claim: Claim, _n: int) -> None:
    assert len(queue.claim(claim).attempts) == _CLAIMED


def _look_up(conn: sqlite3.Connection, rows: int, n: int) -> None:
    for seq in range(n * 1000, n * 1000 + _CLAIMED):
        conn.execute("SELECT params FROM inputs WHERE seq = ?", (seq % rows,)).fetchone()


def _timed(work: Callable[[int], None]) -> str:
    took = []
    for n in range(_TIMES):
        began = time.perf_counter()
        work(n)
        took.append((time.perf_counter() - began) * 1000)
    return f"{middle(took):.1f} ({max(took):.1f})"


if __name__ == "__main__":
    benchmark(__doc__, measure, short=50_000, long=500_000)

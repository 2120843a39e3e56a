"""Claims of two lanes in a store of many rows: how long one takes at the beginning, in the middle and at the end.

python benchmarks/claims.py [ROWS]     default 500,000, as many retries due as a minute's cooling leaves

The yardstick is a look-up of as many rows by their key, in the same store and run.
"""

import contextlib
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from batchrunner.clock import SystemClock
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source, Watcher, load
from batchrunner.store.files import open_owner, open_reader, owned
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.transactions import transaction

MODELS = ("claude-haiku-4-5", "claude-sonnet-5")
_COOLED = 4000


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        with path.open("w") as file:
            for n in range(rows):
                file.write(json.dumps({"prompt": f"Question {n}", "model": MODELS[n % 2]}) + "\n")
        store = path.with_suffix(".db")
        with owned(store), contextlib.closing(open_owner(store)) as conn:
            watcher = Watcher(lambda *_: None, lambda: False)
            load(conn, Source(path, Defaults(max_tokens=100)), on_change=None, clock=SystemClock(), watcher=watcher)
            with transaction(conn) as cursor:
                cursor.execute(
                    "UPDATE requests SET attempts = 1, not_before = '2026-01-01T00:00:00.000Z' WHERE seq <= ?",
                    (_COOLED,),
                )
            with contextlib.closing(open_reader(store)) as reading:
                measure(reading, rows)


def measure(conn: sqlite3.Connection, rows: int) -> None:
    queue = Queue(conn)
    print(f"{rows:,} rows, two lanes in turn, {_COOLED:,} retries due; ms for a claim of 500, median of 9 (most)")
    print("| lane | beginning | middle | end |")
    print("| --- | --- | --- | --- |")
    for lane in queue.model_classes():
        cells = [
            timed(queue, Claim(lane, after, "2025-01-01T00:00:00.000Z")) for after in (_COOLED, rows // 2, rows - 1100)
        ]
        print(f"| {lane}, fresh | {' | '.join(cells)} |")
        print(f"| {lane}, retries | {timed(queue, Claim(lane, 0, '2027-01-01T00:00:00.000Z', fresh=False))} | | |")
    print(f"| 500 rows by key | {look_up(conn, rows)} | | |")


def timed(queue: Queue, claim: Claim) -> str:
    spent = []
    for _ in range(9):
        began = time.perf_counter()
        found = queue.claim(claim)
        spent.append((time.perf_counter() - began) * 1000)
        assert len(found.attempts) == claim.count
    return f"{statistics.median(spent):.1f} ({max(spent):.1f})"


def look_up(conn: sqlite3.Connection, rows: int) -> str:
    spent = []
    for n in range(9):
        began = time.perf_counter()
        for seq in range(n * 1000, n * 1000 + 500):
            conn.execute("SELECT params FROM inputs WHERE seq = ?", (seq % rows,)).fetchone()
        spent.append((time.perf_counter() - began) * 1000)
    return f"{statistics.median(spent):.1f} ({max(spent):.1f})"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)

"""How long `errors` takes on a store of many failures, beside a bare count of the same rows.

python benchmarks/errors.py [ROWS]     default 1,000,000 failed requests in 30 groups; writes some 500 MB below $TMPDIR

`errors` is a process of its own, started as one types it; so is the count, whose start-up is that of Python alone.
The rows are written in bulk, and their groups counted from them as `retry` does it; that time is given too.
"""

import contextlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batchrunner.policy.signature import signature
from batchrunner.store.files import open_owner, owned
from batchrunner.store.groups import recount_groups
from batchrunner.store.imports import begin_import
from batchrunner.store.transactions import transaction

_CLASSES = ("invalid", "server", "timeout", "truncated", "refused")
_GROUPS = 30
_ROUNDS = 5
_COUNT = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM requests NOT INDEXED').fetchone()[0])"
_FAILED = """INSERT INTO requests (seq, custom_id, line, line_hash, params_hash, model_class, state, attempts, error_class,
    signature, error_message, finished_at) VALUES (?, ?, ?, ?, ?, 'haiku-4-5', 'failed', 1, ?, ?, ?, ?)"""


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "jobs.db")
        with owned(store), contextlib.closing(open_owner(store, durability="fast")) as conn:
            fill(conn, rows)
        bare = timed([sys.executable, "-c", _COUNT, str(store)], str(rows))
        shown = timed([sys.executable, "-m", "batchrunner", "errors", str(store)], "batchrunner retry")
        listed = timed([sys.executable, "-m", "batchrunner", "errors", str(store), "--json"], '"groups"')
    print("| what | s, median | beside the count |")
    print("| --- | --- | --- |")
    for name, seconds in (("SELECT count(*)", bare), ("errors", shown), ("errors --json", listed)):
        print(f"| {name} | {seconds:.2f} | {seconds / bare:.2f} |")


def fill(conn: sqlite3.Connection, rows: int) -> None:
    """Make a store of *rows* requests that all failed."""
    loading = begin_import(conn, on_change=None)
    with transaction(conn) as cursor:
        cursor.executemany(_FAILED, map(failed_row, range(1, rows + 1)))
    began = time.perf_counter()
    record = {"input_path": "jobs.jsonl", "input_bytes": 1, "input_sha256": "0", "defaults": "{}", "simulated": True}
    loading.complete({**record, "at": stamp(0)})
    print(
        f"{rows:,} failed requests in {_GROUPS} groups; indexes built and counted in {time.perf_counter() - began:.1f} s"
    )
    began = time.perf_counter()
    with transaction(conn) as cursor:
        recount_groups(cursor)
    print(f"the groups counted anew from the rows, as `retry` does: {time.perf_counter() - began:.1f} s")


def failed_row(n: int) -> tuple[object, ...]:
    kind = n * 7919 % _GROUPS
    message = f"{_CLASSES[kind % len(_CLASSES)]} of the kind {'x' * (kind + 1)} at messages.{n}: {n} is too many, by a sentence that has some length"
    digest = f"{n:064x}"
    return n, f"row-{n}", n, digest, digest, _CLASSES[kind % len(_CLASSES)], signature(message), message, stamp(n)


def stamp(n: int) -> str:
    return f"2026-11-{1 + n % 28:02d}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000Z"


def timed(command: list[str], expected: str) -> float:
    """Return the median time in seconds of some runs of *command*, whose output has *expected*."""
    spent = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        spent.append(time.perf_counter() - began)
        assert expected in done.stdout
    return statistics.median(spent)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

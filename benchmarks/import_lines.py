"""How fast a job file is read, checked and stored, beside json.loads + sqlite3 alone; and what memory it takes.

python benchmarks/import_lines.py [LINES]     default 200,000
"""

import gc
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batchrunner.clock import SystemClock
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source, Watcher, load
from batchrunner.store.files import close_owner, open_owner, owned

SMALL = 1_000


def write_lines(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            prompt = f"Question {i}: what is {i} plus {i * 7 % 1000}? Explain briefly, in one sentence."
            params = {"model": "claude-haiku-4-5", "max_tokens": 256, "messages": [{"role": "user", "content": prompt}]}
            file.write(json.dumps({"custom_id": f"r{i}", "params": params}) + "\n")


def ours(path: Path) -> float:
    store = path.with_suffix(".db")
    store.unlink(missing_ok=True)
    started = time.perf_counter()
    with owned(store):
        conn = open_owner(store)
        load(conn, Source(path, Defaults(max_tokens=1024)), on_change=None, clock=SystemClock(), watcher=Watcher())
        close_owner(conn)
    return time.perf_counter() - started


def yardstick(path: Path) -> float:
    """json.loads, json.dumps and one table of two columns with a unique key, in one transaction."""
    store = path.with_suffix(".yardstick")
    store.unlink(missing_ok=True)
    started = time.perf_counter()
    conn = sqlite3.connect(store, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("CREATE TABLE t (id TEXT PRIMARY KEY, params TEXT)")
    conn.execute("BEGIN")
    with path.open("rb") as file:
        rows = ((row["custom_id"], json.dumps(row["params"])) for row in map(json.loads, file))
        conn.executemany("INSERT INTO t VALUES (?, ?)", rows)
    conn.execute("COMMIT")
    conn.close()
    return time.perf_counter() - started


def peak_mb(path: Path) -> float:
    """Return the peak memory of a process of its own that imports *path*."""
    done = subprocess.run([sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large.jsonl"), Path(folder, "small.jsonl")
        write_lines(large, count)
        write_lines(small, SMALL)
        gc.collect()
        print(f"{'run':>4} {'lines/s':>10} {'yardstick':>10} {'ratio':>6}")
        for run in range(3):
            mine, bare = ours(large), yardstick(large)
            print(f"{run + 1:>4} {count / mine:>10,.0f} {count / bare:>10,.0f} {bare / mine:>6.2f}")
        few, many = peak_mb(small), peak_mb(large)
        print(f"peak memory: {few:.0f} MB for {SMALL:,} lines, {many:.0f} MB for {count:,}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        ours(Path(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)

"""How long `errors` and `retry` take on a store of many failures, beside a bare count of the same rows.

python benchmarks/errors.py [ROWS] [--short] [--json]     1,000,000 failed requests in 30 groups; some 900 MB below $TMPDIR

`errors` and `retry --dry-run` are processes of their own, started as one types them; so is the count, whose start-up is
that of Python alone. Putting all of them back is measured in this process: it is what `retry --all` does before it sends.
"""

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from batchrunner.policy.signature import signature
from batchrunner.store.groups import recount_groups
from batchrunner.store.imports import begin_import
from batchrunner.store.selection import Selection, put_back
from batchrunner.store.transactions import transaction
from measuring import Size, Table, benchmark, beside, middle
from processes import BATCHRUNNER, PYTHON, Spent, spent
from stores import owning

_CLASSES = ("invalid", "server", "timeout", "truncated", "refused")
_GROUPS = 30
_COUNT = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM requests NOT INDEXED').fetchone()[0])"
_FAILED = """INSERT INTO requests (seq, custom_id, line, line_hash, params_hash, model_class, state, attempts, error_class,
    signature, error_message, finished_at) VALUES (?, ?, ?, ?, ?, 'haiku-4-5', 'failed', 1, ?, ?, ?, ?)"""
_SCREENS = (("errors",), ("errors", "--json"), ("status",), ("retry", "--all", "--dry-run"))


def measure(size: Size) -> Sequence[Table]:
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        store = Path(folder, "jobs.db")
        with owning(store) as conn:
            fill(conn, size.count)
        bare = [spent([*PYTHON, _COUNT, str(store)]) for _ in range(size.rounds)]
        table = Table(
            f"{size.count:,} failed requests in {_GROUPS} groups",
            ("what", "s", "CPU s", "beside the count"),
            notes=["beside the count: its time by ours, above 1 is faster than it"],
        )
        table.rows = [("yardstick: SELECT count(*)", *_times(bare), "")]
        for verb in _SCREENS:
            ours = [spent([*BATCHRUNNER, *verb, str(store)]) for _ in range(size.rounds)]
            ratio = beside([one.seconds for one in bare], [one.seconds for one in ours])
            table.rows.append((" ".join(verb), *_times(ours), ratio))
        with owning(store) as conn:
            for name, seconds in _put_back(conn, size.count):
                table.rows.append((name, f"{seconds:.2f}", "", ""))
    return [table]


def _times(done: Sequence[Spent]) -> tuple[str, str]:
    return f"{middle([one.seconds for one in done]):.2f}", f"{middle([one.cpu_s for one in done]):.2f}"


def _put_back(conn: sqlite3.Connection, rows: int) -> Sequence[tuple[str, float]]:
    began = time.perf_counter()
    with transaction(conn) as cursor:
        recount_groups(cursor)
    counted = time.perf_counter()
    assert put_back(conn, Selection(), at=stamp(0)) == rows
    return [
        ("the groups counted anew", counted - began),
        ("all put back (`retry --all`)", time.perf_counter() - counted),
    ]


def fill(conn: sqlite3.Connection, rows: int) -> None:
    """Make a store of *rows* requests that all failed."""
    loading = begin_import(conn, on_change=None)
    with transaction(conn) as cursor:
        cursor.executemany(_FAILED, map(failed_row, range(1, rows + 1)))
    record = {"input_path": "jobs.jsonl", "input_bytes": 1, "input_sha256": "0", "defaults": "{}", "simulated": True}
    loading.complete({**record, "at": stamp(0)})


def failed_row(n: int) -> tuple[object, ...]:
    kind = n * 7919 % _GROUPS
    message = f"{_CLASSES[kind % len(_CLASSES)]} of the kind {'x' * (kind + 1)} at messages.{n}: {n} is too many, by a sentence that has some length"
    digest = f"{n:064x}"
    return n, f"row-{n}", n, digest, digest, _CLASSES[kind % len(_CLASSES)], signature(message), message, stamp(n)


def stamp(n: int) -> str:
    return f"2026-11-{1 + n % 28:02d}T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000Z"


if __name__ == "__main__":
    benchmark(__doc__, measure, short=100_000, long=1_000_000)

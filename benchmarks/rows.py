"""What a run writes, written by sqlite3 alone: the floor under every loop that keeps what it does."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from answering import MESSAGE, TEXT
from batchrunner.model import Attempt, Settlement, Success, Usage
from batchrunner.store.changes import END, MOVE, RESULT, START, Settled, Started
from stores import MODEL, owning, take_in, write_lines

_AT = "2026-11-22T14:03:07.123Z"
_ANSWER = Success(MESSAGE.decode(), TEXT, "end_turn", MODEL, Usage(24, 46), "req_011CAAAAAAAAAAAAAAAAAAAA")
_ROWS = (START, END, RESULT, MOVE)


class _Noting:
    """A cursor that only notes which rows it was given; totals are not among them."""

    rowcount = 0

    def __init__(self) -> None:
        self.noted: dict[str, Sequence[Any]] = {}

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        if sql in _ROWS:
            self.noted[sql] = values


def bare_commits(count: int, groups: tuple[int, ...] = (1, 20, 100)) -> dict[int, tuple[float, float]]:
    """Return wall and CPU seconds for the starts, ends, answers and states of *count* requests, by size of a commit."""
    return {group: _commits(min(count, 200 * group), group, count) for group in groups}


def _noted(seq: int) -> dict[str, Sequence[Any]]:
    """Return the rows that a run writes for the request *seq*, by statement."""
    attempt = Attempt(seq, 1, f"r{seq}", "haiku-4-5", "{}", 256)
    cursor: Any = _Noting()
    Started(attempt, 1, _AT).write(cursor)
    Settled(Settlement(attempt, _ANSWER, None, _AT)).write(cursor)
    rows: dict[str, Sequence[Any]] = cursor.noted
    return rows


def _commits(count: int, group: int, whole: int) -> tuple[float, float]:
    rows = [_noted(seq) for seq in range(1, count + 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        write_lines(path, count)
        with owning(path.with_suffix(".db")) as conn:
            take_in(conn, path)
            began, cpu_began = time.perf_counter(), time.process_time()
            for first in range(0, count, group):
                together = rows[first : first + group]
                for statements in ((START,), (END, RESULT, MOVE)):
                    conn.execute("BEGIN IMMEDIATE")
                    for sql in statements:
                        conn.executemany(sql, [row[sql] for row in together])
                    conn.execute("COMMIT")
            scale = whole / count
            return scale * (time.perf_counter() - began), scale * (time.process_time() - cpu_began)

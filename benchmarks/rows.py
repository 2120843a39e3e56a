"""What a run writes, written by sqlite3 alone: the floor under every loop that keeps what it does."""

import tempfile
import time
from pathlib import Path

from answering import MESSAGE, TEXT
from batchrunner.store.changes import END, MOVE, RESULT, START
from stores import MODEL, owning, take_in, write_lines

_AT = "2026-11-22T14:03:07.123Z"
_ANSWERED = (_AT, "success", None, 200, "req_011CAAAAAAAAAAAAAAAAAAAA", None, False, True, 24, 46, 0, 0)


def bare_commits(count: int, groups: tuple[int, ...] = (1, 20, 100)) -> dict[int, tuple[float, float]]:
    """Return wall and CPU seconds for the starts, ends, answers and states of *count* requests, by size of a commit."""
    return {group: _commits(min(count, 200 * group), group, count) for group in groups}


def _commits(count: int, group: int, whole: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        write_lines(path, count)
        with owning(path.with_suffix(".db")) as conn:
            take_in(conn, path)
            began, cpu_began = time.perf_counter(), time.process_time()
            for first in range(1, count + 1, group):
                seqs = range(first, min(first + group, count + 1))
                for statements in (
                    ((START, [(seq, 1, 1, "claude-haiku-4", _AT, None) for seq in seqs]),),
                    (
                        (END, [(*_ANSWERED, seq, 1) for seq in seqs]),
                        (RESULT, [(seq, 1, True, TEXT, "end_turn", MODEL, MESSAGE.decode()) for seq in seqs]),
                        (MOVE, [("succeeded", 1, None, None, None, None, _AT, seq, 1) for seq in seqs]),
                    ),
                ):
                    conn.execute("BEGIN IMMEDIATE")
                    for sql, rows in statements:
                        conn.executemany(sql, rows)
                    conn.execute("COMMIT")
            scale = whole / count
            return scale * (time.perf_counter() - began), scale * (time.process_time() - cpu_began)

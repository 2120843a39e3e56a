"""What a run writes, written by sqlite3 alone: the floor under every loop that keeps what it does."""

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from answering import MESSAGE, TEXT
from stores import MODEL, owning, take_in, write_lines

_AT = "2026-11-22T14:03:07.123Z"
_START = "INSERT INTO attempts (seq, number, run_id, lane, started_at) VALUES (?, 1, 1, 'claude-haiku-4', ?)"
_END = """UPDATE attempts SET ended_at = ?, outcome = 'success', http_status = 200, api_request_id = ?, input_tokens = 24,
    output_tokens = 46, cache_write_tokens = 0, cache_read_tokens = 0 WHERE seq = ? AND number = 1"""
_RESULT = """INSERT INTO results (seq, number, accepted, text, stop_reason, model, message)
    VALUES (?, 1, 1, ?, 'end_turn', ?, ?)"""
_MOVE = "UPDATE requests SET state = 'succeeded', attempts = 1, finished_at = ? WHERE seq = ? AND state = 'pending'"


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
                _commit(conn, (_START, [(seq, _AT) for seq in seqs]))
                _commit(
                    conn,
                    (_END, [(_AT, "req_011CAAAAAAAAAAAAAAAAAAAA", seq) for seq in seqs]),
                    (_RESULT, [(seq, TEXT, MODEL, MESSAGE.decode()) for seq in seqs]),
                    (_MOVE, [(_AT, seq) for seq in seqs]),
                )
            scale = whole / count
            return scale * (time.perf_counter() - began), scale * (time.process_time() - cpu_began)


def _commit(conn: sqlite3.Connection, *statements: tuple[str, list[tuple[Any, ...]]]) -> None:
    conn.execute("BEGIN IMMEDIATE")
    for sql, rows in statements:
        conn.executemany(sql, rows)
    conn.execute("COMMIT")

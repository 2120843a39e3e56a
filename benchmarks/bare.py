"""The yardstick of imports: `json.loads` and bare sqlite3, the same rows into the same tables, the same indexes at the end."""

import json
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

from batchrunner.store.imports import CHUNK
from batchrunner.store.schema import IMPORT_INDEXES, UNIQUE_ID_INDEX
from stores import Generated, owning

_REQUEST = "INSERT INTO requests (seq, custom_id, line, line_hash, params_hash, model_class) VALUES (?, ?, ?, ?, ?, 'haiku-4-5')"
_INPUT = "INSERT INTO inputs (seq, params, metadata, max_tokens, stream, timeout_s) VALUES (?, ?, NULL, ?, 0, NULL)"
#: As long as a real one; whether lines repeat or have changed is not looked at.
_HASH = "0" * 20


def bare_import(lines: int) -> tuple[float, float]:
    """Return the seconds in which so many generated lines are in a store, on the clock and of the processor.

    Nothing of them is checked or hashed.
    """
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, owning(Path(folder, "bare.db")) as conn:
        conn.execute("PRAGMA synchronous = NORMAL")
        began, cpu = time.perf_counter(), time.process_time()
        _insert(conn, _lines(lines))
        conn.execute("BEGIN")
        for index in (UNIQUE_ID_INDEX, *IMPORT_INDEXES):
            conn.execute(index)
        conn.execute("COMMIT")
        return time.perf_counter() - began, time.process_time() - cpu


def _lines(lines: int) -> Iterable[bytes]:
    made = Generated(lines)
    while block := made.read(0):
        yield from block.splitlines()


def _insert(conn: sqlite3.Connection, lines: Iterable[bytes]) -> None:
    numbered = zip(count(1), map(json.loads, lines), strict=False)
    while chunk := list(islice(numbered, CHUNK)):
        requests: Sequence[Any] = [(n, row["custom_id"], n, _HASH, _HASH) for n, row in chunk]
        inputs: Sequence[Any] = [(n, json.dumps(row["params"]), row["params"]["max_tokens"]) for n, row in chunk]
        conn.execute("BEGIN")
        conn.executemany(_REQUEST, requests)
        conn.executemany(_INPUT, inputs)
        conn.execute("COMMIT")

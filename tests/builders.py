"""Builders for the tests of policies, limiter and store: each gives something ordinary, to be varied by keyword."""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchrunner.model import (
    Attempt,
    Decision,
    ErrorClass,
    Failure,
    Outcome,
    Request,
    Settlement,
    State,
    Success,
    Usage,
)
from batchrunner.store.changes import begin_run
from batchrunner.store.files import close_owner, open_owner
from batchrunner.store.imports import begin_import
from batchrunner.store.repeats import Imported
from batchrunner.store.writer import Change

MODEL = "claude-haiku-4-5"
LANE = "haiku-4-5"
AT = "2026-11-22T14:00:00.000Z"
LATER = "2026-11-22T15:00:00.000Z"
MESSAGE = '{"type":"message"}'


def body(prompt: str = "Say hello.", **params: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": prompt}]} | params


def request(
    custom_id: str | None,
    line: int,
    params: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> Request:
    """One line of a job file; without an id its id is derived, as the job file's reader does it."""
    given = dict(params or body())
    text = json.dumps(given, separators=(",", ":"))
    line_hash = _hash(json.dumps([custom_id, given, metadata, timeout_s]))
    return Request(
        custom_id=custom_id if custom_id is not None else f"h-{line_hash}",
        line=line,
        line_hash=line_hash,
        params=text,
        params_hash=_hash(text),
        model=given["model"],
        max_tokens=given["max_tokens"],
        stream=bool(given.get("stream")),
        timeout_s=timeout_s,
        metadata=None if metadata is None else json.dumps(metadata),
    )


def numbered(count: int, **params: Any) -> list[Request]:
    """Requests `r1`, `r2`, ... on lines 1, 2, ..."""
    return [request(f"r{n}", n, body(f"Say {n}.", **params)) for n in range(1, count + 1)]


def job_record(*, simulated: bool = False, at: str = AT) -> dict[str, Any]:
    return {
        "input_path": "/jobs/jobs.jsonl",
        "input_bytes": 1,
        "input_sha256": "0" * 64,
        "defaults": "{}",
        "simulated": simulated,
        "at": at,
    }


@contextlib.contextmanager
def opened_store(path: Path) -> Iterator[sqlite3.Connection]:
    conn = open_owner(path, durability="fast")  # nobody pulls the plug here
    try:
        yield conn
    finally:
        close_owner(conn)


def take_in(conn: sqlite3.Connection, requests: Iterable[Request], on_change: str | None = None) -> Imported:
    """Import *requests* as the lines of a job file."""
    incoming = begin_import(conn, on_change=on_change)
    try:
        incoming.add(list(requests))
        return incoming.complete(job_record())
    except BaseException:
        incoming.abandon()
        raise


def run_on(conn: sqlite3.Connection) -> int:
    run = {"version": "0.1.0", "host": "here", "pid": 1, "at": AT}
    return begin_run(conn, run, {}, LATER)


def attempt(seq: int = 1, number: int = 1, **fields: Any) -> Attempt:
    ordinary: dict[str, Any] = {
        "custom_id": f"r{seq}",
        "lane": LANE,
        "params": json.dumps(body()),
        "max_tokens": 16,
    }
    return Attempt(seq=seq, number=number, **(ordinary | fields))


def success(text: str = "Hello.", **fields: Any) -> Success:
    ordinary: dict[str, Any] = {
        "message": MESSAGE,
        "stop_reason": "end_turn",
        "model": MODEL,
        "usage": Usage(10, 5, 2, 1),
        "api_request_id": "req_1",
    }
    return Success(text=text, **(ordinary | fields))


def failure(error_class: ErrorClass = ErrorClass.SERVER, message: str = "It broke.", **fields: Any) -> Failure:
    return Failure(error_class, message, **fields)


def settlement(
    attempt_: Attempt, outcome: Outcome | None = None, decision: Decision | None = None, not_before: str | None = None
) -> Settlement:
    return Settlement(attempt_, outcome or success(), decision, AT, not_before)


def write(conn: sqlite3.Connection, *changes: Change) -> None:
    """Write *changes* in one transaction."""
    cursor = conn.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    for change in changes:
        change.write(cursor)
    cursor.execute("COMMIT")


def rows(conn: sqlite3.Connection, sql: str, *bound: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in conn.execute(sql, bound)]


def state_of(conn: sqlite3.Connection, custom_id: str) -> State:
    return State(conn.execute("SELECT state FROM requests WHERE custom_id = ?", (custom_id,)).fetchone()[0])


def dump(conn: sqlite3.Connection, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of *tables*, to see whether anything changed."""
    return {table: rows(conn, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables}


def moment(text: str = AT) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]

"""The runs that worked on a store, as `runs` lists them."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from batchrunner.store.found import Run

# Whatever columns there are: a store of an earlier schema is read as it is.
_RUNS = "SELECT * FROM runs ORDER BY id"
_LATEST = "SELECT * FROM runs ORDER BY id DESC LIMIT 1"
# A request was finished by the run of its latest attempt.
_FINISHED = """SELECT a.run_id, count(*) FROM requests q CROSS JOIN attempts a ON a.seq = q.seq AND a.number = q.attempts
    WHERE q.state <> 'pending' AND q.line IS NOT NULL GROUP BY a.run_id"""
_SENT = "SELECT run_id, count(*) FROM attempts GROUP BY run_id"


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run, with what it was told and what it did."""

    run: Run
    settings: dict[str, Any]
    finished: int  #: Requests of the latest input that became final in it and still are.
    calls: int  #: Attempts that it made.


def past_runs(conn: sqlite3.Connection) -> list[PastRun]:
    """Return every run, the oldest first. Reads every request and every attempt."""
    finished, calls = (dict(conn.execute(sql).fetchall()) for sql in (_FINISHED, _SENT))
    found = []
    for row in conn.execute(_RUNS):
        run = Run.of(row)
        found.append(PastRun(run, json.loads(row["settings"]), finished.get(run.id, 0), calls.get(run.id, 0)))
    return found


def latest_settings(conn: sqlite3.Connection) -> dict[str, Any]:
    """Return the settings of the latest run as they were in force last: what it was told, then what it was retuned to.

    Empty if there was no run.
    """
    row = conn.execute(_LATEST).fetchone()
    if row is None:
        return {}
    settings = json.loads(row["settings"])
    return in_force(settings, Run.of(row)) if isinstance(settings, dict) else {}


def in_force(settings: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return *settings*, what *run* began with, with the last of its changes laid over them."""
    return settings | (run.changes[-1].now if run.changes else {})

"""The runs that worked on a store, as `runs` lists them."""

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrunner.store.files import open_reader
from batchrunner.store.found import Run

_RUNS = """SELECT id, version, host, pid, started_at, heartbeat_at, ended_at, ending, reason, settings
    FROM runs ORDER BY id"""
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
        facts = dict(row)
        settings = json.loads(facts.pop("settings"))
        run = Run(**facts)
        found.append(PastRun(run, settings, finished.get(run.id, 0), calls.get(run.id, 0)))
    return found


def last_settings(store: Path) -> dict[str, Any]:
    """Return the settings on record of the latest run on *store*, none if there was none; raises as `open_reader` does."""
    with contextlib.closing(open_reader(store)) as conn:
        row = conn.execute("SELECT settings FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    settings = json.loads(row[0]) if row else {}
    return settings if isinstance(settings, dict) else {}

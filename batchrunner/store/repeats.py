"""What both imports share: ids that stand on several lines, and the job's record of its input."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from batchrunner.errors import InputError
from batchrunner.model import Request
from batchrunner.policy.signature import signature
from batchrunner.store.groups import recount_groups

_SHOWN = 20


@dataclass(slots=True)
class Imported:
    """What an import brought."""

    requests: int = 0  #: In the input now.
    new: int = 0
    removed: int = 0  #: Kept in the store, but no line of the input any more.
    merged: int = 0  #: Lines that repeat an id with the same content.
    updated: int = 0  #: Changed lines without an answer: they simply took their new form.
    kept: int = 0  #: Changed lines that were answered before, left as they were (`--on-change keep`).
    rerun: int = 0  #: Changed lines that were answered before and are sent again (`--on-change rerun`).
    invalid: int = 0  #: Lines that cannot be sent, recorded as failed requests (`--skip-invalid`).
    examples: list[str] = field(default_factory=list)  #: Some ids of what changed.


# A derived id is the hash of the line, so lines with the same derived id are identical: each counts as a request of
# its own. A given id must mean one request.
_TWINS = """CREATE TEMP TABLE twins AS
    SELECT seq, custom_id, line, params_hash, custom_id = 'h-' || line_hash AS derived,
           row_number() OVER id AS n, first_value(line) OVER id AS first_line, first_value(params_hash) OVER id AS first_hash
    FROM {table} WHERE custom_id IN (SELECT custom_id FROM {table} GROUP BY custom_id HAVING count(*) > 1)
    WINDOW id AS (PARTITION BY custom_id ORDER BY seq)"""
_CONFLICTS = "FROM twins WHERE n > 1 AND NOT derived AND params_hash <> first_hash"
_RENAME = """UPDATE {table} SET custom_id = twins.custom_id || '-' || twins.n
    FROM twins WHERE twins.seq = {table}.seq AND twins.derived AND twins.n > 1"""
_MERGE = "DELETE FROM {table} WHERE seq IN (SELECT seq FROM twins WHERE n > 1 AND NOT derived)"


def settle_repeated_ids(cursor: sqlite3.Cursor, table: Literal["requests", "incoming"]) -> int:
    """Number identical lines without ids, merge repeated ids with the same content; returns how many were merged.

    Raises `InputError` naming both lines where the same id stands for different requests.
    """
    cursor.execute("DROP TABLE IF EXISTS temp.twins")
    cursor.execute(_TWINS.format(table=table))
    cursor.execute("CREATE INDEX temp.twins_seq ON twins (seq)")
    conflicts = cursor.execute(
        f"SELECT custom_id, first_line, line {_CONFLICTS} ORDER BY line LIMIT {_SHOWN}"
    ).fetchall()
    if conflicts:
        (count,) = cursor.execute(f"SELECT count(*) {_CONFLICTS}").fetchone()
        raise _conflict_error(conflicts, count)
    cursor.execute(_RENAME.format(table=table))
    cursor.execute(_MERGE.format(table=table))
    merged = cursor.rowcount
    cursor.execute("DROP TABLE temp.twins")
    return merged


def _conflict_error(conflicts: list[tuple[str, int, int]], count: int) -> InputError:
    shown = "; ".join(f"{custom_id!r} on lines {first} and {line}" for custom_id, first, line in conflicts)
    more = f" and {count - len(conflicts):,} more" if count > len(conflicts) else ""
    return InputError(f"The same id stands for different requests: {shown}{more}. Give each request an id of its own.")


# Only what a line that cannot be sent stands for now: one that is kept as it was has another hash.
_UNSENDABLE = """UPDATE requests SET state = 'failed', error_class = 'input', signature = f.signature,
    error_message = f.message, finished_at = :at
    FROM temp.faults f
    WHERE f.line = requests.line AND f.params_hash = requests.params_hash AND requests.state = 'pending'"""
_GATHER_FAULTS = """CREATE TEMP TABLE IF NOT EXISTS faults (
    line INTEGER PRIMARY KEY, params_hash TEXT NOT NULL, signature TEXT NOT NULL, message TEXT NOT NULL)"""


class Faults:
    """Lines that can never be sent, gathered beside the store until their requests have their ids."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def add(self, cursor: sqlite3.Cursor, requests: Sequence[Request]) -> None:
        """Gather those of *requests* that have a fault."""
        found = [(r.line, r.params_hash, signature(r.fault), r.fault) for r in requests if r.fault is not None]
        if found:
            cursor.execute(_GATHER_FAULTS)
            cursor.executemany("INSERT INTO temp.faults VALUES (?, ?, ?, ?)", found)

    def settle(self, cursor: sqlite3.Cursor, at: str) -> int:
        """Declare their requests failed; returns how many there are."""
        if not self._any():
            return 0
        count = cursor.execute(_UNSENDABLE, {"at": at}).rowcount
        cursor.execute("DROP TABLE temp.faults")
        return count

    def clear(self) -> None:
        """Let go of what was gathered."""
        self._conn.execute("DROP TABLE IF EXISTS temp.faults")

    def _any(self) -> bool:
        return bool(self._conn.execute("SELECT 1 FROM sqlite_temp_schema WHERE name = 'faults'").fetchone())


_TOTALS = """SELECT count(line) AS requests,
    count(CASE WHEN line IS NOT NULL AND state = 'succeeded' THEN 1 END) AS succeeded,
    count(CASE WHEN line IS NOT NULL AND state = 'failed' THEN 1 END) AS failed,
    count(*) - count(line) AS removed FROM requests"""
_RECOUNT = "UPDATE job SET requests = :requests, succeeded = :succeeded, failed = :failed, removed = :removed"
_JOB = """INSERT OR REPLACE INTO job
    (id, input_path, input_bytes, input_sha256, defaults, simulated, created_at, import_completed_at,
     requests, succeeded, failed, removed)
    VALUES (1, :input_path, :input_bytes, :input_sha256, :defaults, :simulated,
            coalesce((SELECT created_at FROM job), :at), :at, :requests, :succeeded, :failed, :removed)"""


def record_input(cursor: sqlite3.Cursor, job: Mapping[str, Any]) -> int:
    """Declare the import complete and count the totals anew; returns the number of requests in the input.

    *job* has input_path, input_bytes, input_sha256, defaults (JSON text), simulated and at (UTC stamp).
    """
    totals = _totals(cursor)
    cursor.execute(_JOB, {**job, **totals})
    recount_groups(cursor)
    return totals["requests"]


def recount(cursor: sqlite3.Cursor) -> None:
    """Renew the job's totals and those of the groups of failures from the rows."""
    cursor.execute(_RECOUNT, _totals(cursor))
    recount_groups(cursor)


def _totals(cursor: sqlite3.Cursor) -> dict[str, int]:
    names = ("requests", "succeeded", "failed", "removed")
    return dict(zip(names, cursor.execute(_TOTALS).fetchone(), strict=True))

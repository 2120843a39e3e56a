"""Taking requests in for the first time: straight to the tables, with the indexes built at the end."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from batchrunner.failpoints import Point, reach
from batchrunner.model import Request
from batchrunner.policy.lanes import model_class
from batchrunner.store.reimport import Reimport
from batchrunner.store.repeats import Faults, Imported, record_input, settle_repeated_ids
from batchrunner.store.schema import IMPORT_INDEXES, UNIQUE_ID_INDEX
from batchrunner.store.transactions import transaction

#: So many requests are written at a time.
CHUNK = 2000

_EMPTIED = ("DELETE FROM requests", "DELETE FROM inputs", "DELETE FROM job", "DELETE FROM failure_groups")

lane_of = cache(model_class)


class Import(Protocol):
    """What both ways of taking requests in can do."""

    def add(self, requests: Sequence[Request]) -> None:
        """Take in a chunk."""
        ...

    def complete(self, job: Mapping[str, Any]) -> Imported:
        """Check ids, make everything visible and set the job's input to *job*; raises `InputError`."""
        ...

    def abandon(self) -> None:
        """Leave the store as it was."""
        ...


def begin_import(conn: sqlite3.Connection, *, on_change: str | None) -> Import:
    """Return the import that *conn*'s store needs. *on_change*: `keep`, `rerun`, or None to stop at changed requests."""
    row = conn.execute("SELECT import_completed_at FROM job").fetchone()
    if row is not None and row[0] is not None:
        return Reimport(conn, on_change)
    return FirstImport(conn)


class FirstImport:
    """Into an empty store. Rows are committed chunk by chunk; until it is complete nothing is sent."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._seq = 0
        self._faults = Faults(conn)
        (self._durability,) = conn.execute("PRAGMA synchronous").fetchone()
        self.abandon()
        # No flush per chunk: a cut short import counts for nothing, and the last commit flushes all before it.
        conn.execute("PRAGMA synchronous = NORMAL")

    def add(self, requests: Sequence[Request]) -> None:
        """Write a chunk and commit it."""
        first = self._seq + 1
        self._seq += len(requests)
        with transaction(self._conn) as cursor:
            self._faults.add(cursor, requests)
            cursor.executemany(
                "INSERT INTO requests (seq, custom_id, line, line_hash, params_hash, model_class, prefix)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (seq, r.custom_id, r.line, r.line_hash, r.params_hash, lane_of(r.model), r.prefix)
                    for seq, r in enumerate(requests, first)
                ],
            )
            cursor.executemany(
                "INSERT INTO inputs (seq, params, metadata, max_tokens, stream, timeout_s) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (seq, r.params, r.metadata, r.max_tokens, r.stream, r.timeout_s)
                    for seq, r in enumerate(requests, first)
                ],
            )
        reach(Point.IMPORTING)

    def complete(self, job: Mapping[str, Any]) -> Imported:
        """Build the indexes, settle repeated ids, and declare the import complete."""
        imported = Imported()
        self._restore_durability()
        with transaction(self._conn) as cursor:
            try:
                cursor.execute(UNIQUE_ID_INDEX)
            except sqlite3.IntegrityError:
                imported.merged = settle_repeated_ids(cursor, "requests")
                cursor.execute("DELETE FROM inputs WHERE seq NOT IN (SELECT seq FROM requests)")
                cursor.execute(UNIQUE_ID_INDEX)
            imported.invalid = self._faults.settle(cursor, job["at"])
            for index in IMPORT_INDEXES:
                cursor.execute(index)
            imported.new = imported.requests = record_input(cursor, job)
            reach(Point.COMPLETING)
        reach(Point.IMPORTED)
        return imported

    def abandon(self) -> None:
        """Empty the store: an import that was not completed counts for nothing."""
        self._restore_durability()
        self._faults.clear()
        with transaction(self._conn) as cursor:
            for statement in _EMPTIED:
                cursor.execute(statement)
            for index in ("requests_custom_id", "requests_fresh", "requests_due", "requests_failed", "requests_line"):
                cursor.execute("DROP INDEX IF EXISTS " + index)

    def _restore_durability(self) -> None:
        self._conn.execute(f"PRAGMA synchronous = {self._durability:d}")

"""A job file read again: its lines are gathered beside the store, compared by id, and merged in one transaction."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from batchrunner.errors import ChangedRequestsError
from batchrunner.failpoints import Point, reach
from batchrunner.model import Request
from batchrunner.policy.lanes import model_class
from batchrunner.store.repeats import Faults, Imported, record_input, settle_repeated_ids
from batchrunner.store.sharing import FORGET_COPIES
from batchrunner.store.transactions import transaction

#: Changed requests are counted up to here before the import stops because of them.
_COUNTED = 1000
_SHOWN = 5

_GATHER = """CREATE TEMP TABLE incoming (
    seq INTEGER PRIMARY KEY, custom_id TEXT NOT NULL, line INTEGER NOT NULL, line_hash TEXT NOT NULL,
    params_hash TEXT NOT NULL, model_class TEXT NOT NULL, params TEXT, metadata TEXT,
    max_tokens INTEGER NOT NULL, stream INTEGER NOT NULL, timeout_s REAL, prefix TEXT)"""
_ADD = "INSERT INTO incoming VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_KNOWN = """SELECT q.custom_id, q.params_hash FROM json_each(?) given JOIN requests q ON q.custom_id = given.value"""

# An answer that is there, or may have been paid for, is at stake; a failed request is not: its line was mended.
_CHANGED = """SELECT q.seq, q.custom_id,
           q.state = 'succeeded' OR q.batch_id IS NOT NULL OR (q.state = 'pending' AND EXISTS (
               SELECT 1 FROM attempts a WHERE a.seq = q.seq AND (a.ended_at IS NULL OR a.possibly_paid = 1))) AS at_stake,
           n.params AS was, i.params AS now
    FROM incoming i JOIN requests q ON q.custom_id = i.custom_id JOIN inputs n ON n.seq = q.seq
    WHERE i.params_hash <> q.params_hash ORDER BY i.line"""
_NEW_REQUESTS = """INSERT INTO requests (custom_id, line, line_hash, params_hash, model_class, prefix)
    SELECT custom_id, line, line_hash, params_hash, model_class, prefix FROM incoming i
    WHERE NOT EXISTS (SELECT 1 FROM requests q WHERE q.custom_id = i.custom_id) ORDER BY i.line"""
# A further copy of an identical line was not gathered with its params: the first copy has them.
_NEW_INPUTS = """INSERT INTO inputs (seq, params, metadata, max_tokens, stream, timeout_s)
    SELECT q.seq,
           coalesce(i.params, (SELECT n.params FROM requests b JOIN inputs n ON n.seq = b.seq
                               WHERE b.custom_id = 'h-' || i.line_hash)),
           i.metadata, i.max_tokens, i.stream, i.timeout_s
    FROM incoming i JOIN requests q ON q.custom_id = i.custom_id WHERE q.seq > :last_seq"""
# What differs only in the order of its keys counts as the same from here on, though its hash is another.
_SAME_AFTER_ALL = """UPDATE incoming SET params_hash = q.params_hash
    FROM requests q WHERE q.custom_id = incoming.custom_id AND q.seq IN (SELECT seq FROM reordered)"""
_TAKE_REQUEST = """UPDATE requests SET params_hash = i.params_hash, line_hash = i.line_hash, model_class = i.model_class,
    prefix = i.prefix, answered_by = NULL, state = 'pending', budget_from = attempts, error_class = NULL, signature = NULL, error_message = NULL,
    not_before = NULL, finished_at = NULL, batch_id = NULL
    FROM incoming i WHERE i.custom_id = requests.custom_id AND requests.seq IN (SELECT seq FROM taken)"""
_TAKE_INPUT = """UPDATE inputs SET params = i.params, metadata = i.metadata, max_tokens = i.max_tokens, stream = i.stream,
    timeout_s = i.timeout_s
    FROM incoming i JOIN requests q ON q.custom_id = i.custom_id
    WHERE q.seq = inputs.seq AND inputs.seq IN (SELECT seq FROM taken)"""
# The same request with other metadata or another time-out: neither is part of what was asked.
_TAKE_SIDE = """UPDATE inputs SET metadata = i.metadata, timeout_s = i.timeout_s
    FROM incoming i JOIN requests q ON q.custom_id = i.custom_id
    WHERE q.seq = inputs.seq AND i.line_hash <> q.line_hash AND i.params_hash = q.params_hash"""
_TAKE_LINE_HASH = """UPDATE requests SET line_hash = i.line_hash
    FROM incoming i WHERE i.custom_id = requests.custom_id AND i.line_hash <> requests.line_hash
      AND i.params_hash = requests.params_hash"""
_LINES_GONE = """UPDATE requests SET line = NULL
    WHERE line IS NOT NULL AND custom_id NOT IN (SELECT custom_id FROM incoming)"""
_LINES_MOVED = """UPDATE requests SET line = i.line
    FROM incoming i WHERE i.custom_id = requests.custom_id AND requests.line IS NOT i.line"""


class Reimport:
    """Into a store that has requests."""

    def __init__(self, conn: sqlite3.Connection, on_change: str | None) -> None:
        self._conn = conn
        self._on_change = on_change
        self._faults = Faults(conn)
        self.abandon()
        conn.execute(_GATHER)

    def add(self, requests: Sequence[Request]) -> None:
        """Gather a chunk; what the store already has is gathered without its params."""
        ids = json.dumps([r.custom_id for r in requests])
        known = dict(self._conn.execute(_KNOWN, (ids,)).fetchall())
        with transaction(self._conn) as cursor:
            self._faults.add(cursor, requests)
            cursor.executemany(_ADD, (self._row(r, known.get(r.custom_id) == r.params_hash) for r in requests))
        reach(Point.IMPORTING)

    @staticmethod
    def _row(r: Request, known: bool) -> tuple[Any, ...]:  # noqa: FBT001 - a private helper of one caller
        params = None if known else r.params
        lane = model_class(r.model)
        return (
            r.custom_id,
            r.line,
            r.line_hash,
            r.params_hash,
            lane,
            params,
            r.metadata,
            r.max_tokens,
            r.stream,
            r.timeout_s,
            r.prefix,
        )

    def complete(self, job: Mapping[str, Any]) -> Imported:
        """Merge; raises `ChangedRequestsError` and leaves the store as it was if requests changed and none said how."""
        imported = Imported()
        with transaction(self._conn) as cursor:
            imported.merged = settle_repeated_ids(cursor, "incoming")
            cursor.execute("CREATE UNIQUE INDEX temp.incoming_id ON incoming (custom_id)")
            self._sort_changed(cursor, imported)
            (last_seq,) = cursor.execute("SELECT coalesce(max(seq), 0) FROM requests").fetchone()
            cursor.execute(_NEW_REQUESTS)
            imported.new = cursor.rowcount
            cursor.execute(_NEW_INPUTS, {"last_seq": last_seq})
            cursor.execute(FORGET_COPIES.format(table="taken"))
            for statement in (_TAKE_INPUT, _TAKE_REQUEST, _TAKE_SIDE, _TAKE_LINE_HASH):
                cursor.execute(statement)
            cursor.execute("DELETE FROM overrides WHERE seq IN (SELECT seq FROM taken)")
            cursor.execute(_LINES_GONE)
            imported.removed = cursor.rowcount
            cursor.execute(_LINES_MOVED)
            imported.invalid = self._faults.settle(cursor, job["at"])
            imported.requests = record_input(cursor, job)
            reach(Point.COMPLETING)
        reach(Point.IMPORTED)
        self.abandon()
        return imported

    def abandon(self) -> None:
        """Let go of what was gathered."""
        self._faults.clear()
        self._conn.execute("DROP TABLE IF EXISTS temp.incoming")
        self._conn.execute("DROP TABLE IF EXISTS temp.taken")
        self._conn.execute("DROP TABLE IF EXISTS temp.reordered")

    def _sort_changed(self, cursor: sqlite3.Cursor, imported: Imported) -> None:
        """Fill `taken` with the requests that take their new form, or raise."""
        cursor.execute("CREATE TEMP TABLE taken (seq INTEGER PRIMARY KEY)")
        cursor.execute("CREATE TEMP TABLE reordered (seq INTEGER PRIMARY KEY)")
        stopped = 0
        for seq, custom_id, at_stake in self._truly_changed(cursor):
            if not at_stake:
                imported.updated += 1
            elif self._on_change is None:
                stopped += 1
            elif self._on_change == "keep":
                imported.kept += 1
            else:
                imported.rerun += 1
            if at_stake and len(imported.examples) < _SHOWN:
                imported.examples.append(custom_id)
            if not at_stake or self._on_change == "rerun":
                cursor.execute("INSERT INTO taken VALUES (?)", (seq,))
            if stopped > _COUNTED:
                break
        if stopped:
            raise _changed_error(stopped, imported.examples)
        cursor.execute(_SAME_AFTER_ALL)

    def _truly_changed(self, cursor: sqlite3.Cursor) -> Iterator[tuple[int, str, bool]]:
        """Yield what differs in more than the order of its keys; what does not goes to `reordered`."""
        for seq, custom_id, at_stake, was, now in self._conn.execute(_CHANGED):
            if now is None or _canonical(was) != _canonical(now):
                yield seq, custom_id, bool(at_stake)
            else:
                cursor.execute("INSERT INTO reordered VALUES (?)", (seq,))


def _canonical(params: str) -> str:
    return json.dumps(json.loads(params), sort_keys=True)


def _changed_error(count: int, examples: list[str]) -> ChangedRequestsError:
    number = f"more than {_COUNTED:,}" if count > _COUNTED else f"{count:,}"
    plural = (
        "requests that were answered, or may have been,"
        if count != 1
        else "request that was answered, or may have been,"
    )
    names = ", ".join(repr(name) for name in examples) + (", ..." if count > len(examples) else "")
    return ChangedRequestsError(
        f"{number} {plural} would now be sent with other content (prompt, model, max_tokens or another "
        f"parameter): {names}. Nothing was sent. Use --on-change keep to keep what the store has, or --on-change rerun "
        "to send and pay again."
    )

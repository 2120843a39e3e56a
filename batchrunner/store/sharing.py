"""What requests have in common: beginnings that the prompt cache keeps, and everything (`--dedupe`).

`requests.prefix` sorts the requests that share a marked prefix together (`policy/prefixes.py`). `requests.answered_by` is
the place of an identical request: a pending one waits for its answer, a final one has a copy of it.
"""

import sqlite3
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrunner.store.repeats import recount
from batchrunner.store.transactions import transaction

if TYPE_CHECKING:
    from sqlite_utils import Database

#: The predicate is that of the reading verbs' questions; without marks the prefix is null, and the order that of `seq`.
FRESH_INDEX = """CREATE INDEX IF NOT EXISTS requests_fresh ON requests (model_class, prefix, seq)
    WHERE state = 'pending' AND not_before IS NULL AND line IS NOT NULL"""
#: Empty where no run had `--dedupe`.
WAITING_INDEX = """CREATE INDEX IF NOT EXISTS requests_waiting ON requests (answered_by, state)
    WHERE answered_by IS NOT NULL"""

_ADDED = (
    # the marked beginnings of the request, as hashes, shortest first; NULL: none that a prompt cache could keep
    "ALTER TABLE requests ADD COLUMN prefix TEXT",
    # seq of an identical request whose answer this one waits for, or has a copy of; NULL: it is sent itself
    "ALTER TABLE requests ADD COLUMN answered_by INTEGER",
)
_RESULTS = """
    SELECT q.custom_id, q.state AS status, r.text, r.stop_reason, r.model,
           a.input_tokens, a.output_tokens, a.cache_read_tokens, a.cache_write_tokens,
           CASE WHEN q.answered_by IS NULL THEN a.cost_usd WHEN q.state <> 'pending' THEN 0.0 END AS cost_usd,
           q.attempts,
           round((julianday(a.ended_at) - julianday(a.started_at)) * 86400, 3) AS latency_s,
           q.error_class, q.error_message, a.api_request_id, i.metadata, r.message, q.line, q.seq,
           (SELECT o.custom_id FROM requests o WHERE o.seq = q.answered_by) AS deduplicated_of
    FROM requests q
    JOIN inputs i ON i.seq = q.seq
    LEFT JOIN results r
        ON r.seq = q.seq
        AND r.number = (SELECT max(number) FROM results WHERE seq = q.seq AND number > q.budget_from)
    LEFT JOIN attempts a
        ON a.seq = q.seq AND a.number = coalesce(r.number, q.attempts) AND a.number > q.budget_from
        AND q.answered_by IS NULL"""


def add_to(db: "Database") -> None:
    """Bring the tables of *db* to what this module needs. No row is rewritten, however many there are."""
    for statement in _ADDED:
        db.execute(statement)
    had_index = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'requests_fresh'").fetchone()
    db.execute("DROP INDEX IF EXISTS requests_fresh")
    if had_index:  # otherwise an import is still to be completed, and makes it
        db.execute(FRESH_INDEX)
    db.execute(WAITING_INDEX)
    db.create_view("results_flat", _RESULTS, replace=True)


# --- identical requests -------------------------------------------------------------------------------------------

#: Identical is what would be sent: the parameters of the line with whatever `retry --set` has laid over them.
SENT = """params_hash || coalesce((SELECT group_concat(patch, char(10)) FROM
    (SELECT patch FROM overrides WHERE seq = q.seq ORDER BY rowid)), '')"""
# An answer is as good where its line is gone; a copy is copied only where its original has another answer by now.
_FAMILIES = f"""CREATE TEMP TABLE families AS
    SELECT {SENT} AS sent,
           coalesce(min(CASE WHEN q.state = 'succeeded' AND q.answered_by IS NULL THEN q.seq END),
                    min(CASE WHEN q.state = 'succeeded' THEN q.seq END)) AS answered,
           coalesce(min(CASE WHEN q.state = 'pending' AND q.batch_id IS NOT NULL THEN q.seq END),
                    min(CASE WHEN q.state = 'pending' THEN q.seq END)) AS first
    FROM requests q WHERE q.state <> 'failed' AND (q.line <= :last_line OR q.line IS NULL AND q.state = 'succeeded')
    GROUP BY sent HAVING count(*) > 1 AND first IS NOT NULL"""  # noqa: S608 - fixed texts
_PAIR = f"""UPDATE requests AS q SET answered_by = coalesce(f.answered, f.first), not_before = NULL
    FROM temp.families f
    WHERE f.sent = {SENT} AND q.state = 'pending' AND q.batch_id IS NULL AND q.line IS NOT NULL
      AND q.line <= :last_line AND q.seq <> coalesce(f.answered, f.first)"""  # noqa: S608 - fixed texts
_RELEASE = "UPDATE requests SET answered_by = NULL WHERE state = 'pending' AND answered_by IS NOT NULL"

# A copy stands where the request's own first answer would.
_COPY = """INSERT OR REPLACE INTO results (seq, number, accepted, text, stop_reason, model, message)
    SELECT d.seq, d.attempts + 1, r.accepted, r.text, r.stop_reason, r.model, r.message
    FROM requests d CROSS JOIN results r ON r.seq = d.answered_by AND r.number = {number}
    WHERE d.state = 'pending' AND d.answered_by IS NOT NULL AND {which}"""
_COPY_ONE = _COPY.format(number=":number", which="d.answered_by = :seq")
_COPY_KNOWN = _COPY.format(
    number="(SELECT max(n.number) FROM results n WHERE n.seq = d.answered_by)",
    which="(SELECT o.state FROM requests o WHERE o.seq = d.answered_by) = 'succeeded'",
)
_FOLLOW = """UPDATE requests SET state = :state, error_class = :error_class, signature = :signature,
    error_message = :message, finished_at = :at
    WHERE state = 'pending' AND answered_by IS NOT NULL AND answered_by = :seq RETURNING seq"""
_SETTLE_KNOWN = """UPDATE requests AS d SET state = 'succeeded', error_class = NULL, signature = NULL, error_message = NULL,
    finished_at = :at
    WHERE d.state = 'pending' AND d.answered_by IS NOT NULL
      AND (SELECT o.state FROM requests o WHERE o.seq = d.answered_by) = 'succeeded'"""
_COUNT = {
    "succeeded": "UPDATE job SET succeeded = succeeded + :count",
    "failed": "UPDATE job SET failed = failed + :count",
}
_COUNT_GROUP = """UPDATE failure_groups SET failed = failed + :count
    WHERE error_class = :error_class AND signature = :signature"""
#: Of requests that are put back to be sent themselves, by the table of their `seq`; their own answers stay.
FORGET_COPIES = """DELETE FROM results WHERE seq IN
    (SELECT q.seq FROM {table} t CROSS JOIN requests q ON q.seq = t.seq WHERE q.answered_by IS NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Paired:
    """What looking for identical requests has found."""

    answered: int = 0  #: Had their answer at once: an identical request had been answered before.
    waiting: int = 0  #: Wait for one that is still to be sent.


def unpair(conn: sqlite3.Connection) -> None:
    """Let every request be sent itself that waited for an identical one."""
    with transaction(conn) as cursor:
        cursor.execute(_RELEASE)


def pair_up(conn: sqlite3.Connection, *, last_line: int, at: str) -> Paired:
    """Let each pending request up to *last_line* whose twin was answered, or comes before it, have that one's answer.

    Of identical ones that are pending one is sent; those that sit in batches are on their way already. *at*: UTC stamp.
    """
    bound = {"last_line": last_line}
    with transaction(conn) as cursor:
        cursor.execute(_RELEASE)
        cursor.execute("DROP TABLE IF EXISTS temp.families")
        cursor.execute(_FAMILIES, bound)
        cursor.execute("CREATE INDEX temp.families_sent ON families (sent)")
        cursor.execute(_PAIR, bound)
        paired = cursor.rowcount
        cursor.execute("DROP TABLE temp.families")
        answered = _share_known(cursor, at)
    return Paired(answered, paired - answered)


def share_known(conn: sqlite3.Connection, *, at: str) -> int:
    """Give what waits for a request that is answered by now its answer; returns how many did. *at*: UTC stamp.

    A settlement does that itself; this is for answers that came another way, in batches or from a rescue file.
    """
    with transaction(conn) as cursor:
        return _share_known(cursor, at)


def _share_known(cursor: sqlite3.Cursor, at: str) -> int:
    cursor.execute(_COPY_KNOWN)
    count = cursor.execute(_SETTLE_KNOWN, {"at": at}).rowcount
    if count:
        recount(cursor)
    return count


def follow(cursor: sqlite3.Cursor, seq: int, number: int, fate: Mapping[str, str | None]) -> "array[int]":
    """Let what waits for the request *seq* share its fate: its answer of attempt *number*, if there is one.

    *fate* has state, error_class, signature, message and at. Returns the places of those that do.
    """
    cursor.execute(_COPY_ONE, {"seq": seq, "number": number})
    followers = array("q", [place for (place,) in cursor.execute(_FOLLOW, {**fate, "seq": seq})])
    if followers:
        cursor.execute(_COUNT[str(fate["state"])], {"count": len(followers)})
        if fate["state"] == "failed":
            named = {"error_class": fate["error_class"], "signature": fate["signature"]}
            cursor.execute(_COUNT_GROUP, {"count": len(followers), **named})
    return followers

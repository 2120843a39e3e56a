"""Choosing rows: the totals of a selection, and putting failed requests back."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.policy.lanes import model_class
from batchrunner.store.groups import as_list, named_groups
from batchrunner.store.repeats import recount
from batchrunner.store.sharing import FORGET_COPIES
from batchrunner.store.transactions import transaction


@dataclass(frozen=True, slots=True)
class Totals:
    """How many requests stand where."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def pending(self) -> int:
        """Requests that are not final."""
        return self.requests - self.succeeded - self.failed


_FIRST = """SELECT count(*), count(CASE WHEN state = 'succeeded' THEN 1 END), count(CASE WHEN state = 'failed' THEN 1 END)
    FROM requests WHERE line IS NOT NULL AND line <= ?"""

# The condition lets the greatest line be read off the end of its index.
_WHOLE = """SELECT requests, succeeded, failed, (SELECT max(line) FROM requests WHERE line IS NOT NULL) FROM job"""


def totals(conn: sqlite3.Connection, last_line: int | None = None) -> Totals:
    """Return the totals of the job, or of its lines up to *last_line*."""
    whole = conn.execute(_WHOLE).fetchone()
    if whole is None:
        return Totals()
    *numbers, greatest = whole
    if last_line is None or greatest is None or last_line >= greatest:
        return Totals(*numbers)
    return Totals(*conn.execute(_FIRST, (last_line,)).fetchone())


def is_complete(conn: sqlite3.Connection) -> bool:
    """Whether a job file has been read to its end."""
    row = conn.execute("SELECT import_completed_at FROM job").fetchone()
    return row is not None and row[0] is not None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which failed requests to put back, and with what change."""

    classes: Collection[str] = ()  #: Empty: of any class.
    ids: Collection[str] = ()  #: Empty: all.
    patch: Mapping[str, Any] = field(
        default_factory=dict
    )  #: Laid over their parameters from now on: `overlay.laid_over`.
    signatures: Collection[str] = ()  #: Keys, signatures or messages (`groups.named_groups`); empty: any.


# A line that cannot be sent (`run --skip-invalid`) stays failed until the job file says something else.
# An empty list of classes, ids or groups selects nothing; NULL leaves that condition out. Only this text is put in.
_CHOSEN = """FROM requests
    WHERE state = 'failed' AND line IS NOT NULL AND NOT (error_class = 'input' AND attempts = 0)
      AND (:classes IS NULL OR error_class IN (SELECT value FROM json_each(:classes)))
      AND (:ids IS NULL OR custom_id IN (SELECT value FROM json_each(:ids)))
      AND (:groups IS NULL OR error_class || char(10) || signature IN (SELECT value FROM json_each(:groups)))"""
_SELECTED = f"CREATE TEMP TABLE chosen AS SELECT seq {_CHOSEN}"
_COUNTED = f"""SELECT error_class, signature, count(*), min(error_message) {_CHOSEN}
    GROUP BY error_class, signature ORDER BY count(*) DESC, error_class, signature"""
_PUT_BACK = """UPDATE requests SET state = 'pending', budget_from = attempts, not_before = NULL, finished_at = NULL, answered_by = NULL
    WHERE state = 'failed' AND seq IN (SELECT seq FROM chosen)"""
_PATCH = "INSERT INTO overrides (seq, patch, created_at) SELECT seq, :patch, :at FROM chosen"
_MOVE_LANE = "UPDATE requests SET model_class = :model_class WHERE seq IN (SELECT seq FROM chosen)"


@dataclass(frozen=True, slots=True)
class SelectedGroup:
    """Failed requests of one class and signature that a selection takes."""

    error_class: str
    signature: str
    count: int
    message: str  #: Of one of them.


def count_selected(conn: sqlite3.Connection, selection: Selection) -> list[SelectedGroup]:
    """Return what *selection* would put back, largest group first.

    Raises `UsageError` for ids that no request has and for signatures that no failed one has.
    """
    return [SelectedGroup(*row) for row in conn.execute(_COUNTED, _names(conn, selection))]


def put_back(conn: sqlite3.Connection, selection: Selection, *, at: str) -> int:
    """Make the selected failed requests pending again, with full budgets; returns how many. *at*: UTC stamp.

    The parameters as given stay on record beside the patch. Raises `UsageError` as `count_selected` does.
    """
    names, patch = _names(conn, selection), selection.patch
    with transaction(conn) as cursor:
        cursor.execute("DROP TABLE IF EXISTS temp.chosen")
        cursor.execute(_SELECTED, names)
        if patch:
            cursor.execute(_PATCH, {"patch": json.dumps(patch), "at": at})
        if "model" in patch:
            cursor.execute(_MOVE_LANE, {"model_class": model_class(patch["model"])})
        cursor.execute(FORGET_COPIES.format(table="temp.chosen"))
        cursor.execute(_PUT_BACK)
        count = cursor.rowcount
        recount(cursor)
        cursor.execute("DROP TABLE temp.chosen")
    return count


def _names(conn: sqlite3.Connection, selection: Selection) -> dict[str, str | None]:
    if unknown := _unknown_ids(conn, selection.ids):
        raise UsageError(f"No request has the id {', '.join(map(repr, unknown[:5]))}.")
    groups = named_groups(conn, selection.signatures) if selection.signatures else []
    return {
        "classes": json.dumps(sorted(selection.classes)) if selection.classes else None,
        "ids": json.dumps(sorted(selection.ids)) if selection.ids else None,
        "groups": as_list(groups) if groups else None,
    }


def _unknown_ids(conn: sqlite3.Connection, ids: Collection[str]) -> list[str]:
    rows = conn.execute(
        "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT custom_id FROM requests)", (json.dumps(sorted(ids)),)
    )
    return [value for (value,) in rows]


def claim_for(conn: sqlite3.Connection, *, simulated: bool, store: Path) -> None:
    """Make sure that simulated and real answers never share a store; raises `UsageError`."""
    row = conn.execute("SELECT simulated, EXISTS (SELECT 1 FROM attempts) FROM job").fetchone()
    if row is None or bool(row[0]) == simulated:
        return
    if row[1]:
        holds, remedy = ("simulated", "without --simulate") if row[0] else ("real", "with --simulate")
        raise UsageError(
            f"{store} holds {holds} answers; a run {remedy} needs a store of its own: name one with --db, "
            "or remove this one if it was only a trial."
        )
    conn.execute("UPDATE job SET simulated = ?", (simulated,))

"""The rows of an export: which requests, with which columns."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchrunner.model import State
from batchrunner.store.found import EXPORT_COLUMNS
from batchrunner.store.where import as_condition, rows_where


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which requests of the latest input to export."""

    only: State | None = None  #: Those in this state.
    where: str | None = None  #: Those for which this SQL condition over `WHERE_COLUMNS` holds.


#: Everybody.
ALL = Chosen()

_OF_INPUT = "(SELECT {} FROM inputs i WHERE i.seq = results_flat.seq)"
#: Columns that an export has when asked for. Sub-selects, so that a condition's names stay those of the view alone.
EXTRA_COLUMNS = {
    "line": "line",
    "message": "message",
    "deduplicated_of": "deduplicated_of",
    "params": _OF_INPUT.format("params"),
    "timeout_s": _OF_INPUT.format("timeout_s"),
    "patches": """(SELECT json_group_array(json(patch)) FROM
        (SELECT patch FROM overrides WHERE seq = results_flat.seq ORDER BY rowid))""",
}


def export_sql(chosen: Chosen = ALL, extra: Sequence[str] = ()) -> str:
    """Return the query for *chosen*: `EXPORT_COLUMNS`, `metadata`, then *extra* (of `EXTRA_COLUMNS`)."""
    columns = [*EXPORT_COLUMNS, "metadata", *(f"{EXTRA_COLUMNS[name]} AS {name}" for name in extra)]
    conditions = ["line IS NOT NULL"]
    if chosen.only is not None:
        conditions.append(f"status = '{chosen.only}'")
    if chosen.where is not None:
        conditions.append(as_condition(chosen.where))
    return f"SELECT {', '.join(columns)} FROM results_flat WHERE {' AND '.join(conditions)} ORDER BY line"  # noqa: S608


def export_rows(conn: sqlite3.Connection, chosen: Chosen, extra: Sequence[str]) -> Iterator[sqlite3.Row]:
    """Yield the rows of *chosen* in the order of the input. Raises `UsageError` for a condition that is none."""
    sql = export_sql(chosen, extra)
    yield from conn.execute(sql) if chosen.where is None else rows_where(conn, sql, chosen.where)

"""Whether a store is sound, as far as that can be seen in a second: a small one whole, a large one here and there."""

import sqlite3
import time

#: A store above this is not read whole before a run may begin: from a cold disk that takes minutes.
WHOLE_BYTES = 64 * 1024 * 1024
_PATIENCE_S = 1.0
#: So many places of each large table are looked at, and all of the small ones.
_PLACES = 50
_SMALL = ("job", "runs", "lane_totals", "minutes", "failure_groups")
# Reading a row checks the pages on the way to it. Only these names are ever put in.
_LARGE = ("requests", "inputs", "attempts", "results")
_KEYS = {"results": "rowid"}
_ENDS = "SELECT (SELECT min({key}) FROM {table}), (SELECT max({key}) FROM {table})"
_LOOK = "SELECT 1 FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1"


def flaw(conn: sqlite3.Connection) -> str | None:
    """Return what SQLite finds wrong with the store of *conn*; None if it finds nothing, or not in time.

    May raise `sqlite3.DatabaseError` instead.
    """
    (pages,), (page_bytes,) = (conn.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    deadline = time.monotonic() + _PATIENCE_S
    if pages * page_bytes <= WHOLE_BYTES:
        return _in_time(conn, "PRAGMA quick_check(1)", deadline)
    for table in _SMALL:
        if found := _in_time(conn, f"PRAGMA quick_check({table})", deadline):
            return found
    for table in _LARGE:
        _look_at(conn, table, deadline)
    return None


def _in_time(conn: sqlite3.Connection, check: str, deadline: float) -> str | None:
    # Before 3.41 SQLite walks all pages before it asks whether to go on: hence the bound on what is checked whole.
    conn.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        (verdict,) = conn.execute(check).fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        verdict = "ok"
    finally:
        conn.set_progress_handler(None, 0)
    return None if verdict == "ok" else str(verdict)


def _look_at(conn: sqlite3.Connection, table: str, deadline: float) -> None:
    names = {"table": table, "key": _KEYS.get(table, "seq")}
    first, last = conn.execute(_ENDS.format(**names)).fetchone()
    look = _LOOK.format(**names)
    for place in range(_PLACES if first is not None else 0):
        if time.monotonic() > deadline:
            return
        conn.execute(look, (first + (last - first) * place // (_PLACES - 1),)).fetchone()

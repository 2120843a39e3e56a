"""`--where`: an SQL condition of the user's, evaluated so that it can only read, and not forever."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator

from batchrunner.errors import UsageError
from batchrunner.screen import visible
from batchrunner.store.found import EXPORT_COLUMNS

#: What a condition may name.
WHERE_COLUMNS = (*EXPORT_COLUMNS, "metadata", "message", "line", "seq")

#: A condition that finds no row for so long is given up, in seconds.
_SILENT_S = 120.0
_STEPS_BETWEEN_LOOKS = 20_000

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
#: Functions that only compute. The list is of the permitted ones: what SQLite learns tomorrow is refused.
_FUNCTIONS = frozenset(
    """abs avg ceil ceiling char coalesce concat concat_ws count date datetime exp floor format glob group_concat hex if
    ifnull iif instr json json_array json_array_length json_error_position json_extract json_group_array
    json_group_object json_object json_quote json_type json_valid julianday length like likelihood likely ln log log10
    log2 lower ltrim max min mod nullif octet_length pow power printf quote random replace round rtrim sign sqrt
    strftime string_agg substr substring sum time timediff total trim trunc typeof unicode unixepoch unlikely upper
    -> ->>""".split()  # noqa: SIM905 - read as a text, not one a line
)
#: Errors of SQLite that are the condition's own, and not the file's.
_OF_THE_CONDITION = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
}


def as_condition(expression: str) -> str:
    """Return *expression* as a condition to put after AND; `rows_where` sees to it that it is one."""
    # The line feeds end a comment. Between WHEN and THEN no parenthesis can be closed that was not opened.
    return f"CASE WHEN\n{expression}\nTHEN 1 END"


def check_condition(conn: sqlite3.Connection, expression: str) -> None:
    """Raise `UsageError` unless *expression* is a condition over `WHERE_COLUMNS` that does nothing but compute."""
    with _guarded(conn, expression, _Patience()):
        # In parentheses and between WHEN and THEN alike: what would break out of one is no SQL in the other.
        for form in (f"(\n{expression}\n)", as_condition(expression)):
            conn.execute(f"SELECT 1 FROM results_flat WHERE {form} LIMIT 0")  # noqa: S608 - the point of it


def rows_where(conn: sqlite3.Connection, sql: str, expression: str) -> Iterator[sqlite3.Row]:
    """Yield the rows of *sql*, which contains `as_condition(expression)`.

    While it runs, the connection permits reading alone. Raises `UsageError` for what `check_condition` refuses, for an
    error in computing, and for a condition that takes too long.
    """
    check_condition(conn, expression)
    patience = _Patience()
    with _guarded(conn, expression, patience):
        for row in conn.execute(sql):
            yield row
            patience.renew()


class _Patience:
    """How long a condition may still find nothing."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._until = time.monotonic() + _SILENT_S

    def is_over(self) -> bool:
        return time.monotonic() > self._until


@contextlib.contextmanager
def _guarded(conn: sqlite3.Connection, expression: str, patience: _Patience) -> Iterator[None]:
    conn.set_authorizer(_permitted)
    conn.set_progress_handler(patience.is_over, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        # ValueError: a NUL or half a character in it. Warning: two statements, on Python 3.11.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _OF_THE_CONDITION:
            raise
        raise UsageError(_refusal(expression, str(error))) from error
    finally:
        conn.set_progress_handler(None, 0)
        conn.set_authorizer(None)


def _permitted(action: int, _one: str | None, two: str | None, _database: str | None, _view: str | None) -> int:
    if action in _READING or (action == sqlite3.SQLITE_FUNCTION and (two or "").lower() in _FUNCTIONS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _refusal(expression: str, cause: str) -> str:
    said = f"--where {visible(expression)!r}"
    if cause == "interrupted":
        return f"{said} found nothing for {_SILENT_S:.0f} s and was given up."
    if "not authorized" in cause or "prohibited" in cause:
        return f"{said}: {cause}. A condition can read and compute, nothing else."
    if "malformed JSON" in cause:
        return f"{said}: not every row has JSON there; put `json_valid(...) AND` before it."
    columns = f" Columns: {', '.join(WHERE_COLUMNS)}." if "no such column" in cause else ""
    return f"{said}: {cause}. It takes an SQL condition such as \"status = 'failed'\".{columns}"

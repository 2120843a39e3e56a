"""Damage that SQLite does not see: a flipped bit in a record turns a text into a number, and no checksum tells."""

import json
import sqlite3

from batchrunner.store.found import DamagedError

_COLUMNS = """SELECT t.name, c.name, upper(c.type) FROM sqlite_master t JOIN pragma_table_info(t.name) c
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND upper(c.type) IN ('TEXT', 'INTEGER')"""


def is_damage(conn: sqlite3.Connection, error: BaseException) -> bool:
    """Whether *error*, met while reading the store at *conn*, is because of what is in it and no mistake of the reader."""
    # Whatever wrote the store wrote UTF-8 and JSON: what is neither was damaged since.
    if isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError | json.JSONDecodeError | DamagedError):
        return True
    # A word in it is none of ours any more.
    if isinstance(error, ValueError) and "is not a valid" in str(error):
        return True
    # A row became no record: its columns have other names than they had.
    if isinstance(error, TypeError) and "__init__()" in str(error):
        return True
    return isinstance(error, TypeError | ValueError | KeyError) and _has_strays(conn)


def _has_strays(conn: sqlite3.Connection) -> bool:
    """Whether a value is of another type than its column. Reads every row, so it is for when something has gone wrong."""
    try:
        columns = conn.execute(_COLUMNS).fetchall()
        return (
            any(_strays(conn, *column) for column in columns)
            or conn.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok"
        )
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return True


def _strays(conn: sqlite3.Connection, table: str, column: str, kind: str) -> bool:
    # Names come from the store's own schema; they are quoted all the same.
    where, what = (f'"{name.replace(chr(34), 2 * chr(34))}"' for name in (table, column))
    sql = f"SELECT EXISTS (SELECT 1 FROM {where} WHERE typeof({what}) NOT IN (?, 'null'))"  # noqa: S608
    return bool(conn.execute(sql, (kind.lower(),)).fetchone()[0])

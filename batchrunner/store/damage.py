"""Damage that SQLite does not see: a flipped bit in a record turns a text into a number, and no checksum tells."""

import sqlite3

_COLUMNS = """SELECT t.name, c.name, upper(c.type) FROM sqlite_master t JOIN pragma_table_info(t.name) c
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND upper(c.type) IN ('TEXT', 'INTEGER')"""


def is_damaged(conn: sqlite3.Connection) -> bool:
    """Whether the store at *conn* holds what no run has written: a value of another type than its column's, no text.

    Reads every row, so it is for when something has gone wrong already.
    """
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

"""One transaction, all or nothing."""

import contextlib
import sqlite3
from collections.abc import Iterator


@contextlib.contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """Commit what the block does with the cursor, or none of it."""
    cursor = conn.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
        cursor.execute("COMMIT")
    except BaseException:
        # Some errors (a full disk) have rolled back already.
        with contextlib.suppress(sqlite3.Error):
            cursor.execute("ROLLBACK")
        raise

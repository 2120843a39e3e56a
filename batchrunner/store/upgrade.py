"""A store of an earlier schema is brought up to date: copied first, then changed in one transaction."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from batchrunner.failpoints import Point, reach
from batchrunner.outfile import sync_directory
from batchrunner.store.schema import SCHEMA_VERSION, migrate

#: What must be left of the disk beside the copy: the migration writes too.
_SPARE_BYTES = 64 * 1024 * 1024


def upgrade(conn: sqlite3.Connection, store: Path, note: Callable[[str], None]) -> None:
    """Bring *store* to today's schema, if it is of an earlier one; *note* is told in sentences.

    A copy of it as it was is left beside it (`jobs.db.schema-1`), unless the disk has no room for one. A crash at any instant
    leaves the old store or the new one. The caller owns the store. Raises `OSError` or `sqlite3.Error`.
    """
    (version,) = conn.execute("PRAGMA user_version").fetchone()
    if version >= SCHEMA_VERSION:
        return
    from sqlite_utils import Database

    _copy(conn, store, version, note)
    migrate(Database(conn, execute_plugins=False))
    reach(Point.MIGRATED)


def copy_path(store: Path, version: int) -> Path:
    """Return where *store* is copied to before it leaves the schema *version*."""
    return store.with_name(f"{store.name}.schema-{version}")


def _copy(conn: sqlite3.Connection, store: Path, version: int, note: Callable[[str], None]) -> None:
    (pages,), (page_bytes,) = (conn.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    needed, free = pages * page_bytes + _SPARE_BYTES, shutil.disk_usage(store.parent).free
    if free < needed:
        note(
            f"{store} is brought from schema {version} to {SCHEMA_VERSION} without a copy of it beforehand: that would "
            f"take {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
        )
        return
    copy = copy_path(store, version)
    draft = copy.with_name(copy.name + ".part")
    draft.unlink(missing_ok=True)  # left behind by a kill; the lock says that nobody is at it
    # SQLite fills a file that is there and empty, and leaves its mode alone.
    fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        conn.execute("VACUUM INTO ?", (str(draft),))
        os.fsync(fd)  # VACUUM INTO does not
        reach(Point.BACKED_UP)
        draft.replace(copy)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    sync_directory(store.parent)
    note(
        f"{store} is brought from schema {version} to {SCHEMA_VERSION}; {copy} is what it was, to be removed when all is well"
    )

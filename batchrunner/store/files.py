"""Opening a store: created whole or not at all, refused by name when it is not ours, locked by the kernel."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from batchrunner.errors import StoreError, StoreLockedError, UsageError
from batchrunner.failpoints import Point, reach
from batchrunner.outfile import sync_directory
from batchrunner.store.schema import APPLICATION_ID, SCHEMA_VERSION, migrate
from batchrunner.store.soundness import flaw
from batchrunner.store.upgrade import upgrade

_BUSY_TIMEOUT_S = 5.0
_STORE_SUFFIXES = {".db", ".sqlite", ".sqlite3"}

_SYNCHRONOUS = {"full": "FULL", "fast": "NORMAL"}
_OWNER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    # A flush that reaches the platter on macOS too; elsewhere without effect.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
)


def store_path(given: Path) -> Path:
    """Return the store that belongs to *given*: a job file (`jobs.jsonl`, `jobs.csv.gz` -> `jobs.db`) or a store itself.

    Raises `UsageError` for what can be neither.
    """
    if given.name in {"", ".."}:
        raise UsageError(f"{given} is a directory; name a job file or a store.")
    if str(given) == "-":
        raise UsageError("The standard input has no store beside it: name one with --db jobs.db.")
    if given.suffix in _STORE_SUFFIXES:
        return given
    return (given.with_suffix("") if given.suffix == ".gz" else given).with_suffix(".db")


def lock_path(store: Path) -> Path:
    """Return the lock file of *store*: beside the file itself, so that it is one lock whatever link leads there."""
    return beside(store, ".lock")


def beside(store: Path, suffix: str) -> Path:
    """Return a companion of *store*, where SQLite too looks for it: links are followed."""
    real = store.resolve() if store.is_symlink() else store
    return real.with_name(real.name + suffix)


#: An owner signs the lock right after it has it; on a busy machine that may take a moment (seconds).
_SIGNING_S = 0.5


@contextlib.contextmanager
def owned(store: Path) -> Iterator[str]:
    """Hold *store* for this process; the kernel lets go of it however the process ends. Gives this owner's own name.

    Raises `StoreLockedError` naming pid and host of the owner, `StoreError` if the lock file cannot be written.
    """
    path = lock_path(store)
    fd = _lock(store, path)
    reach(Point.LOCKED)
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        owner["name"] = name = secrets.token_hex(8)
        _sign(fd, path, json.dumps(owner).encode())
        yield name
    finally:
        if not store.exists():  # nothing came of it: leave nothing behind
            path.unlink(missing_ok=True)
        os.ftruncate(fd, 0)  # nobody owns it any more, although this process may live on
        os.close(fd)


def _lock(store: Path, path: Path) -> int:
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written ({error.strerror}); the store needs a writable directory (--db names another place)."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = _who_owns(store, fd)
            os.close(fd)
            raise StoreLockedError(message) from None
        except OSError as error:
            os.close(fd)
            raise StoreError(
                f"{path} cannot be locked ({error.strerror}), so nothing would keep two runs apart there (a network file "
                "system?); name a store on a local disk with --db."
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(fd)):
                return fd
        os.close(fd)  # its last owner removed it between our opening and our locking


def _sign(fd: int, path: Path, record: bytes) -> None:
    try:
        os.pwrite(fd, record, 0)
        os.ftruncate(fd, len(record))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. If the disk is full, make room.") from error


def _who_owns(store: Path, fd: int) -> str:
    until = time.monotonic() + _SIGNING_S
    while not (signed := os.pread(fd, 1024, 0)) and time.monotonic() < until:
        time.sleep(0.01)  # it has locked and not signed yet
    try:
        owner = json.loads(signed)
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        who = "another process"
    return f"{store} is in use by {who}. `status` and `export` work meanwhile; wait for it or stop it (Ctrl-C)."


def open_owner(
    store: Path, *, durability: str = "full", note: Callable[[str], None] = lambda _: None
) -> sqlite3.Connection:
    """Open *store* for writing, making it first if there is none. The caller holds `owned(store)`.

    *durability*: `full` (a commit survives a power cut) or `fast` (it survives a crash of the process only). *note* is
    told when a store of an earlier version is brought up to date.
    Raises `StoreError` for a file that is not a store, is damaged, is newer than this version, or cannot be written.
    """
    if not store.exists():
        _create(store)
    _check_file(store)
    if not os.access(store, os.W_OK):
        raise StoreError(
            f"{store} is read-only; a run must write there. Mend its permissions or name another with --db."
        )
    try:
        conn = sqlite3.connect(store, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        with _closed_on_error(conn):
            _check_identity(conn, store)
            for pragma in _OWNER_PRAGMAS:
                conn.execute(pragma)
            conn.execute("PRAGMA synchronous = " + _SYNCHRONOUS[durability])
            if (found := flaw(conn)) is not None:
                raise StoreError(damaged(store, found))
            upgrade(conn, store, note)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the second: a damaged name in a message of the first
        raise StoreError(damaged(store, error)) from error
    except OSError as error:
        raise StoreError(f"{store} cannot be copied before it is brought up to date: {error.strerror}.") from error
    return conn


def open_reader(store: Path) -> sqlite3.Connection:
    """Open *store* for reading only, also while a run writes to it. Raises `StoreError` or `UsageError`."""
    if not store.exists():
        raise UsageError(f"There is no store {store} yet; `batchrunner run` makes it.")
    _check_file(store)
    # Without a writable directory SQLite cannot make the shared-memory file that WAL needs; nobody writes there then.
    mode = "mode=ro" if os.access(store.parent, os.W_OK) or _wal(store).exists() else "mode=ro&immutable=1"
    try:
        conn = sqlite3.connect(
            f"{store.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        with _closed_on_error(conn):
            _check_identity(conn, store)
            conn.execute("PRAGMA trusted_schema = OFF")
            conn.execute("PRAGMA query_only = ON")
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the second: a damaged name in a message of the first
        raise StoreError(damaged(store, error)) from error
    conn.row_factory = sqlite3.Row
    return conn


@contextlib.contextmanager
def _closed_on_error(conn: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        conn.close()
        raise


def remove(store: Path) -> None:
    """Remove a store in which there is nothing, with all that SQLite put beside it. Its connection is closed."""
    for path in (_wal(store), beside(store, "-shm"), store):
        path.unlink(missing_ok=True)


def close_owner(conn: sqlite3.Connection) -> None:
    """End the owner's connection: planner statistics renewed, the write-ahead log folded into the file."""
    with contextlib.suppress(sqlite3.OperationalError):  # a reader may hold the log: the next run folds it
        conn.execute("PRAGMA analysis_limit = 400")  # otherwise it may read whole indexes, of ten million rows too
        conn.execute("PRAGMA optimize")
        reach(Point.CHECKPOINT)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    conn.close()


def _wal(store: Path) -> Path:
    return beside(store, "-wal")


def _create(store: Path) -> None:
    """Make a store under another name, only for its owner to read, and move it in place when it is whole."""
    from sqlite_utils import Database

    _refuse_orphaned_log(store)
    draft = store.with_name(store.name + ".new")
    try:
        draft.unlink(missing_ok=True)  # left behind by a kill; the lock says that nobody is at it
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        conn = sqlite3.connect(draft, isolation_level=None)
        try:
            migrate(Database(conn, execute_plugins=False))
        finally:
            conn.close()
        reach(Point.CREATING)
        draft.rename(store)
        sync_directory(store.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"The store {store} cannot be made: {error}. Name another place with --db.") from error


def _refuse_orphaned_log(store: Path) -> None:
    """SQLite would play a log that a removed or moved store left behind into the new one, and ruin it."""
    wal = _wal(store)
    if wal.exists() and wal.stat().st_size:
        raise StoreError(
            f"{wal} was left behind by a store that is not there any more; its last answers may be in it. Put {store} "
            "back beside it, or remove it if that store was thrown away, or name another store with --db."
        )


def _check_file(store: Path) -> None:
    """Refuse what cannot be a store, without opening it.

    Closing it again would drop the locks that SQLite holds on it for every other connection of this process (POSIX),
    and a foreign tool could then delete the live log.
    """
    try:
        status = store.stat()
    except OSError as error:
        raise StoreError(f"{store} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{store} is not a file, so it is no store. Name another one with --db.")
    if not status.st_size:
        raise StoreError(f"{store} is empty, so it is no store of ours. Remove it or name another store with --db.")


def _check_identity(conn: sqlite3.Connection, store: Path) -> None:
    (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    (version,) = conn.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise StoreError(
            f"{store} is a SQLite file of another program. It is left as it is; name another store with --db."
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{store} was written by a newer batchrunner (schema {version}, this one knows {SCHEMA_VERSION}); upgrade."
        )
    if (trigger := conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()) is not None:
        raise StoreError(
            f"{store} has a trigger, {trigger[0][:80]!r}: batchrunner makes none, and it could change prompts and answers "
            "unseen. Drop it with sqlite3 if it is yours; do not use the store otherwise."
        )


def damaged(store: Path, cause: object) -> str:
    """Return what to say of a *store* that SQLite refuses because of *cause*."""
    if "locked" in str(cause):
        return f"{store} is locked by another program (a database browser in a transaction?); close it and try again."
    if "is full" in str(cause):
        return f"{store} cannot be written: {cause}. Make room there, then run the same command again."
    if "not a database" in str(cause):
        return f"{store} is not a SQLite file. It is left as it is; name another store with --db."
    return (
        f"{store} cannot be used: {cause}. It is left as it is; `sqlite3 {store} .recover` saves what can be read, "
        "or name another store with --db."
    )

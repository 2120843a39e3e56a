"""Bringing home what an earlier run could not write: the rescue files of a store, taken in before anything is sent."""

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from batchrunner.errors import StoreError, UsageError
from batchrunner.store.changes import RunEnded, Settled
from batchrunner.store.records import change_of
from batchrunner.store.refusal import ROW_ERRORS
from batchrunner.store.repeats import recount
from batchrunner.store.rescue import KIND, VERSION, is_safe, rescue_files
from batchrunner.store.transactions import transaction

_RUN = "SELECT host, pid, started_at, ended_at IS NULL OR ending = 'died' FROM runs WHERE id = ?"
_STARTED = """SELECT a.ended_at, q.state, q.attempts, q.budget_from FROM attempts a JOIN requests q ON q.seq = a.seq
    WHERE a.seq = ? AND a.number = ? AND a.run_id = ? AND q.custom_id = ?"""
_SET_ATTEMPTS = "UPDATE requests SET attempts = ? WHERE seq = ?"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of one rescue file. It is removed, as everything in it is in the store now."""

    path: Path
    answers: int  #: Attempts that have their end now.
    known: int  #: Attempts that had it before: the file was taken in already, or is a copy.
    is_cut: bool = False  #: Whoever wrote it died in the middle of its last line.

    @property
    def words(self) -> str:
        """The same for people."""
        known = f" ({self.known} were there already)" if self.known else ""
        answers = "1 answer" if self.answers == 1 else f"{self.answers} answers"
        cut = "; its last line is cut off, so that answer is lost" if self.is_cut else ""
        return f"{answers} that an earlier run could not write taken in from {self.path}{known}{cut}"


class _NotOurs(Exception):  # noqa: N818 - for a file that is simply somebody else's
    """The file is no rescue file of this store."""


def adopt_found(conn: sqlite3.Connection, store: Path) -> Iterator[Adopted]:
    """Take in every rescue file of *store* that lies where a run leaves one. The caller owns the store.

    Files of other stores, or of other users, are left alone. Raises `StoreError` for one that cannot be read.
    """
    for path in rescue_files(store):
        with contextlib.suppress(_NotOurs):
            yield _adopt(conn, path, store, trusted=False)


def adopt(conn: sqlite3.Connection, path: Path, store: Path) -> Adopted:
    """Take in the rescue file *path*. The caller owns *store*.

    Raises `UsageError` for a file that is none of this store, `StoreError` for one that cannot be read to its end; then
    nothing of it is taken in.
    """
    try:
        return _adopt(conn, path, store, trusted=True)
    except _NotOurs as error:
        raise UsageError(f"{path} is no rescue file of {store}: {error}. Nothing was taken in.") from None


def _adopt(conn: sqlite3.Connection, path: Path, store: Path, *, trusted: bool) -> Adopted:
    with _opened(path, trusted=trusted) as file:
        run_id, is_open = _run_of(conn, file)
        (before,) = conn.execute("PRAGMA synchronous").fetchone()
        conn.execute("PRAGMA synchronous = FULL")  # the file goes when its content is here
        try:
            with transaction(conn) as cursor:
                adopted = _take_in(cursor, file, path, run_id, is_open=is_open)
                recount(cursor)
        except sqlite3.Error as error:
            raise StoreError(
                f"What is in {path} cannot be written to {store} yet: {error}. It stays where it is; make room (or close what holds the store), then run "
                "the same command again."
            ) from error
        finally:
            conn.execute(f"PRAGMA synchronous = {before:d}")
    with contextlib.suppress(OSError):  # taken in a second time it changes nothing
        path.unlink()
    return adopted


def _take_in(cursor: sqlite3.Cursor, file: BinaryIO, path: Path, run_id: int, *, is_open: bool) -> Adopted:
    answers = known = 0
    for number, line in enumerate(file, 2):
        try:
            record: Mapping[str, Any] = json.loads(line)
        except (ValueError, RecursionError) as error:
            if line.endswith(b"\n"):
                raise _damaged(path, number) from error
            return Adopted(path, answers, known, is_cut=True)
        try:
            change = change_of(record, run_id)
            if isinstance(change, Settled):
                is_new = _settle(cursor, change, run_id)
                answers, known = answers + is_new, known + (not is_new)
            elif is_open or not isinstance(change, RunEnded):
                change.write(cursor)
        except (ValueError, KeyError, TypeError, AttributeError, *ROW_ERRORS) as error:
            raise _damaged(path, number) from error
    return Adopted(path, answers, known)


def _damaged(path: Path, number: int) -> StoreError:
    return StoreError(
        f"{path}, line {number}, is damaged, so nothing of the file was taken in and nothing was sent. Take that "
        "line out, or move the file away to go on without its answers."
    )


@contextlib.contextmanager
def _opened(path: Path, *, trusted: bool) -> Iterator[BinaryIO]:
    """Open *path*; unless it is *trusted*, only a file that nobody else can have put there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if trusted else os.O_NOFOLLOW))
    except OSError as error:
        if not trusted:
            raise _NotOurs from error
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _NotOurs("it is not a file")
        if not trusted and not is_safe(status):
            raise _NotOurs("others can write to it")
        yield file


def _run_of(conn: sqlite3.Connection, file: BinaryIO) -> tuple[int, bool]:
    """Return which run of this store wrote *file*, and whether its end is still open."""
    try:
        header = json.loads(file.readline())
        kind, version, run = header["kind"], header["version"], header["run"]
        wanted = (run["host"], run["pid"], run["started_at"])
        row = conn.execute(_RUN, (int(run["id"]),)).fetchone()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise _NotOurs("it has another form") from None
    if kind != KIND or version != VERSION:
        raise _NotOurs("it has another form, perhaps of a newer version")
    if row is None or row[:3] != wanted:
        raise _NotOurs(f"it is of a run on {header.get('store')} that this store knows nothing of")
    return int(run["id"]), bool(row[3])


def _settle(cursor: sqlite3.Cursor, change: Settled, run_id: int) -> bool:
    """Write *change* unless its attempt has an end; a request that is final, or asks something else by now, stays."""
    settlement = change.settlement
    attempt = settlement.attempt
    row = cursor.execute(_STARTED, (attempt.seq, attempt.number, run_id, attempt.custom_id)).fetchone()
    if row is None or row[0] is not None:
        return False
    _, state, attempts, budget_from = row
    answers_it = budget_from < attempt.number and (attempts <= attempt.number or settlement.decision is None)
    if state != "pending" or not answers_it:
        change.write(cursor)
        return True
    cursor.execute(_SET_ATTEMPTS, (attempt.number - 1, attempt.seq))  # as it was when the attempt ended
    change.write(cursor)
    cursor.execute(_SET_ATTEMPTS, (max(attempts, attempt.number), attempt.seq))
    return True

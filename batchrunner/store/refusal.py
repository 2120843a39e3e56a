"""A store that refuses: how long it is tried again, and what the user is told meanwhile."""

import sqlite3
from collections.abc import Callable

#: While the disk refuses, a group is tried again so often (seconds), for so long.
REFUSED_RETRY_S = 5.0
REFUSED_PATIENCE_S = 600.0
#: A lock of another program is waited for within SQLite, so long each time; it is spoken of when it lasts.
LOCK_WAIT_S = 1.0
LOCK_RETRY_S = 0.2
LOCK_UNTOLD_S = 5.0
LOCKED_PATIENCE_S = 60.0

#: Errors of a single row, as against those of the disk or of a lock.
ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    UnicodeError,
    OverflowError,
)

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
#: No waiting mends these.
_RUINED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def wait_for_locks(conn: sqlite3.Connection) -> None:
    """Let *conn* wait for locks only so long that a stop is heeded in between."""
    conn.execute(f"PRAGMA busy_timeout = {round(LOCK_WAIT_S * 1000):d}")


class Refusal:
    """One stretch of time in which the store refuses to be written. Instants are those of the event loop."""

    def __init__(self, now: float, complain: Callable[[str], None]) -> None:
        """It begins *now*; *complain* is told a sentence."""
        self.is_final = False  #: Waited out for as long as it is worth.
        self.pause_s = 0.0  #: To be waited before the next try.
        self._since = now
        self._complain = complain
        self._told = False
        self._words = ""

    def meet(self, error: sqlite3.Error, now: float, changes: int, deadline: float) -> None:
        """One more try ended with *error*; so many *changes* wait. Beyond *deadline* no refusal is waited out."""
        code = _primary_code(error)
        patience_s, retry_s, told_from_s = REFUSED_PATIENCE_S, REFUSED_RETRY_S, 0.0
        remedy = "if the disk is full, make room"
        if code in _LOCKED:
            patience_s, retry_s, told_from_s = LOCKED_PATIENCE_S, LOCK_RETRY_S, LOCK_UNTOLD_S
            remedy = "another program holds it in a transaction (a database browser?): close it"
        elif code in _RUINED:
            patience_s = 0.0
        left_s = min(self._since + patience_s, deadline) - now
        waited_s = now - self._since
        self.is_final = left_s <= 0
        self.pause_s = max(0.0, min(retry_s, left_s))
        self._words = f"could not be written for {waited_s:,.0f} s: {error}" if waited_s >= 1 else f"failed: {error}"
        if not self.is_final and not self._told and waited_s >= told_from_s:
            self._told = True
            self._complain(
                f"the store cannot be written ({error}): sending is on hold, {changes} changes wait in memory; tried "
                f"again for {_span(left_s)}; {remedy}"
            )

    @property
    def told(self) -> str:
        """What to say of a store that was given up: what follows `The store`."""
        return self._words

    def over(self) -> None:
        """The store can be written again."""
        if self._told:
            self._complain("the store can be written again; going on")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"

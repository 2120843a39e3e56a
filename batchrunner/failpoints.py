"""Named instants at which a fault test kills the process. Unless the environment asks for one, reaching it does nothing.

`BATCHRUNNER_FAILPOINT=NAME:N` kills it with SIGKILL when NAME is reached for the Nth time; `NAME:N:SECONDS` so much later, to hit
the middle of what begins there. Meant for `tests/faults`; anything else in the variable is ignored.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

VARIABLE = "BATCHRUNNER_FAILPOINT"


class Point(StrEnum):
    """Where a process can be killed."""

    LOCKED = "locked"  #: The lock is taken, the owner's name not written yet.
    CREATING = "creating"  #: A new store is whole, but under another name.
    MIGRATING = "migrating"  #: Before each statement of a migration, inside its transaction.
    MIGRATED = "migrated"  #: All migrations are committed.
    BACKED_UP = "backed_up"  #: The copy before a migration is whole, but under another name.
    IMPORTING = "importing"  #: A chunk of lines is committed.
    COMPLETING = "completing"  #: The import is all but committed.
    IMPORTED = "imported"  #: The import is committed.
    BEFORE_SEND = "before_send"  #: The start is on record, nothing is sent.
    AFTER_SEND = "after_send"  #: The request goes out.
    ANSWERED = "answered"  #: The answer has arrived and nobody knows of it yet.
    IN_TRANSACTION = "in_transaction"  #: A group is written, and not committed.
    COMMITTED = "committed"  #: A group is committed, and those who wait for it do not know.
    CHECKPOINT = "checkpoint"  #: The log is about to be folded into the file at the end of a run.
    BATCH_INTENDED = "batch_intended"  #: A batch is on record with its rows, and not sent.
    BATCH_SENT = "batch_sent"  #: The last of its body goes out.
    BATCH_ANSWERED = "batch_answered"  #: The API has it, and its id is not on record.
    BATCH_COLLECTING = "batch_collecting"  #: Some of its results have come, and are not settled.
    EXPORTED = "exported"  #: An export is on the disk, under another name.
    RENAMED = "renamed"  #: An export is in place.


@dataclass(slots=True)
class _Armed:
    point: str
    left: int
    delay_s: float = 0.0


_armed: _Armed | None = None


def arm(wish: str | None) -> None:
    """Kill this process as *wish* says; None or nonsense: never."""
    global _armed  # noqa: PLW0603 - one for the process, as the environment is
    _armed = None
    try:
        name, count, *delay = (wish or "").split(":")
        _armed = _Armed(Point(name), int(count), float(delay[0]) if delay else 0.0)
    except ValueError:
        return


def reach(point: Point) -> None:
    """Die here if that is wanted."""
    if _armed is not None and _armed.point == point:
        _armed.left -= 1
        if _armed.left == 0:
            _die(_armed.delay_s)


def _die(delay_s: float) -> None:
    if not delay_s:
        os.kill(os.getpid(), signal.SIGKILL)

    def later() -> None:
        time.sleep(delay_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=later, daemon=True).start()


arm(os.environ.get(VARIABLE))

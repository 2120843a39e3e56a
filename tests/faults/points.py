"""Kills at named instants: see `batchrunner.failpoints`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from batchrunner.errors import Exit, UsageError
from batchrunner.failpoints import VARIABLE, Point
from faults.endpoint import Endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import Nursery, Place, place
from store_helpers import typed

REQUESTS = 300
SLOTS = 20
AT_ONCE: dict[str, Any] = {"concurrency": SLOTS, "rpm": 60_000}

#: Where a run that sends can be killed; each is reached some hundred times in one that is left alone.
SENDING = (Point.BEFORE_SEND, Point.AFTER_SEND, Point.ANSWERED, Point.IN_TRANSACTION, Point.COMMITTED)
#: On the way there, each reached once.
STARTING = (Point.LOCKED, Point.CREATING, Point.IMPORTING, Point.COMPLETING, Point.IMPORTED)


def tagged(folder: Path, requests: int = REQUESTS) -> Place:
    """Make a job whose bodies no other job at the same simulator has."""
    return place(folder, [f"Question {i} of {folder}" for i in range(requests)])


def die_at(runs: Nursery, where: Place, served: Endpoint, wish: str, **options: Any) -> None:
    """Run until the failpoint kills it; a run that is not killed there is an error of the test."""
    life = runs.run(where, served.url, env={VARIABLE: wish}, **AT_ONCE | options)
    code = life.finish()
    assert code == -9, f"{wish} was never reached: {where.stderr.read_text(encoding='utf-8')}"
    look(where)


def look(where: Place) -> None:
    """The verbs that read must take what a kill has left behind, and no draft may be taken for a store."""
    if where.store.exists():
        assert typed("status", where.store).exit_code == Exit.OK
    else:
        with pytest.raises(UsageError, match="no store"):
            typed("status", where.store)


def killed_at(
    folder: Path, runs: Nursery, served: Endpoint, wishes: Iterable[str], where: Place | None = None, **options: Any
) -> Verdict:
    """Kill runs of one job at each of *wishes* in turn, let the last one finish, and judge."""
    where = where or tagged(folder)
    kills = 0
    for wish in wishes:
        die_at(runs, where, served, wish, **options)
        kills += 1
    life = runs.run(where, served.url, **AT_ONCE | options)
    assert life.finish() == 0, where.stderr.read_text(encoding="utf-8")
    served.settle()
    return check_invariants(
        where.job,
        ledger=served.ledger,
        saved=where.saved(),
        kills=kills,
        slots=SLOTS,
        outputs=where.outputs,
        finished="first" not in options,
        alone=False,
    )

"""How long a store that refuses is tried again, and what is said meanwhile. Time is an argument."""

import math
import sqlite3

import pytest

from batchrunner.store.refusal import Refusal


def error(code: int, message: str = "it refuses") -> sqlite3.Error:
    found = sqlite3.OperationalError(message)
    found.sqlite_errorcode = code
    return found


FULL = error(sqlite3.SQLITE_FULL, "database or disk is full")
LOCKED = error(sqlite3.SQLITE_BUSY, "database is locked")


class Told(list[str]):
    def __init__(self, now: float = 100.0) -> None:
        super().__init__()
        self.refusal = Refusal(now, self.append)

    def ended(self) -> bool:
        return self.refusal.is_final


@pytest.mark.parametrize(
    ("met", "patience_s"),
    [
        (FULL, 600.0),
        (error(sqlite3.SQLITE_IOERR_WRITE), 600.0),
        (error(sqlite3.SQLITE_READONLY), 600.0),
        (LOCKED, 60.0),
        (error(sqlite3.SQLITE_BUSY_SNAPSHOT), 60.0),
        (error(sqlite3.SQLITE_CORRUPT), 0.0),
        (error(sqlite3.SQLITE_NOTADB), 0.0),
        (sqlite3.DatabaseError("of an unknown kind"), 600.0),
    ],
    ids=str,
)
def test_patience_is_of_the_kind_that_the_refusal_is(met: sqlite3.Error, patience_s: float) -> None:
    told = Told()
    if patience_s:
        told.refusal.meet(met, 100.0 + patience_s - 0.1, 3, math.inf)
        assert not told.ended()
        assert 0 < told.refusal.pause_s <= 0.1 + 1e-9, "the last try comes at the end of it"
    told.refusal.meet(met, 100.0 + patience_s, 3, math.inf)
    assert told.ended()


@pytest.mark.parametrize("met", [FULL, LOCKED], ids=str)
def test_nobody_waits_beyond_the_end_of_a_drain(met: sqlite3.Error) -> None:
    told = Told()
    told.refusal.meet(met, 101.0, 3, 125.0)
    assert not told.ended()
    told.refusal.meet(met, 124.9, 3, 125.0)
    assert told.refusal.pause_s == pytest.approx(0.1)
    told.refusal.meet(met, 125.0, 3, 125.0)
    assert told.ended()
    assert told.refusal.told == f"could not be written for 25 s: {met}"


def test_a_full_disk_is_told_at_once_and_once() -> None:
    told = Told()
    for now in (100.0, 105.0, 110.0):
        told.refusal.meet(FULL, now, 7, math.inf)
        assert told.refusal.pause_s == 5.0
    told.refusal.over()
    assert len(told) == 2
    assert "database or disk is full" in told[0]
    assert "7 changes wait in memory; tried again for 10 min; if the disk is full, make room" in told[0]
    assert told[1] == "the store can be written again; going on"


def test_a_lock_is_spoken_of_only_when_it_lasts() -> None:
    told = Told()
    told.refusal.meet(LOCKED, 101.0, 7, math.inf)
    told.refusal.meet(LOCKED, 104.9, 7, math.inf)
    told.refusal.over()
    assert told == []
    told.refusal.meet(LOCKED, 105.0, 7, math.inf)
    assert "another program holds it in a transaction" in told[0]
    assert "tried again for 55 s" in told[0]

"""The minutes' accounts, what an earlier run sent, and attempts that use up nothing."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner.model import ErrorClass, Fail, Halt, Retry
from batchrunner.store.changes import RunEnded, Settled, Started, begin_run
from batchrunner.store.minutes import OF_RUN, MinuteKept, recent_sends
from batchrunner.store.queue import Claim, Queue
from builders import LANE, LATER, attempt, failure, numbered, opened_store, rows, run_on, settlement, take_in, write

MINUTE = "2026-11-22T14:00:00.000Z"
FIGURES = {
    "sent": 3,
    "refused": 2,
    "failed": 1,
    "input_tokens": 30,
    "output_tokens": 40,
    "rpm": 100.0,
    "itpm": None,
    "otpm": 8000,
}


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(4))
        yield conn


def kept(run_id: int, minute: str = MINUTE, lane: str = LANE, **other: object) -> MinuteKept:
    return MinuteKept(run_id, lane, minute, {**FIGURES, **other}, {"ramp": 1.23456})


def test_what_is_written_of_a_minute_adds_up_and_limits_and_waits_are_the_latest(conn: sqlite3.Connection) -> None:
    run_id = run_on(conn)
    write(conn, kept(run_id), MinuteKept(run_id, LANE, MINUTE, {**FIGURES, "rpm": 50.0, "otpm": None}, {"pause": 30}))
    ((*key, sent, refused, failed, inputs, outputs, rpm, itpm, otpm, waited),) = (
        tuple(row) for row in conn.execute(OF_RUN, {"run_id": run_id})
    )
    assert key == [run_id, LANE, "", MINUTE]
    assert (sent, refused, failed, inputs, outputs) == (6, 4, 2, 60, 80)
    assert (rpm, itpm, otpm) == (50.0, None, None)
    assert json.loads(waited) == {"pause": 30}


def test_each_run_lane_and_minute_has_a_row_of_its_own(conn: sqlite3.Connection) -> None:
    first, second = run_on(conn), run_on(conn)
    write(conn, kept(first), kept(second), kept(second, lane="opus-4"), kept(second, "2026-11-22T14:01:00.000Z"))
    assert rows(conn, "SELECT count(*), sum(sent) FROM minutes") == [(4, 12)]
    found = [(lane, minute[14:16]) for _, lane, _endpoint, minute, *_ in conn.execute(OF_RUN, {"run_id": second})]
    assert found == [(LANE, "00"), (LANE, "01"), ("opus-4", "00")]


# What an earlier run sent.


def at(second: float) -> str:
    return f"2026-11-22T14:{int(second) // 60:02}:{second % 60:06.3f}Z"


def run_from(
    conn: sqlite3.Connection, began: float, ended: float | None, sends: dict[int, float], **fields: Any
) -> None:
    run_id = begin_run(conn, {"version": "0.1.0", "host": "here", "pid": 1, "at": at(began)}, {}, LATER)
    for seq, second in sends.items():
        write(conn, Started(attempt(seq, **fields), run_id, at(second)))
    if ended is not None:
        write(conn, RunEnded(run_id, at(ended), "interrupted", None))


def sends(conn: sqlite3.Connection, since: float) -> dict[str, list[str]]:
    found = recent_sends(conn, at(since), alive_since=at(max(0, since - 5)))
    assert {endpoint for _, endpoint in found} <= {None}, "a run with one endpoint has no name for it"
    return {lane: instants for (lane, _), instants in found.items()}


def test_a_new_store_knows_of_no_sends(conn: sqlite3.Connection) -> None:
    assert sends(conn, 100) == {}


def test_sends_since_an_instant_are_found_in_their_order_and_by_lane(conn: sqlite3.Connection) -> None:
    run_from(conn, 50, 130, {1: 120, 2: 99, 3: 101})
    run_from(conn, 131, 140, {4: 135}, lane="opus-4")
    assert sends(conn, 100) == {LANE: [at(101), at(120)], "opus-4": [at(135)]}


def test_short_runs_in_a_row_are_all_remembered(conn: sqlite3.Connection) -> None:
    """Ctrl-C, resume, Ctrl-C, resume: the server counts the sends of both."""
    run_from(conn, 90, 105, {1: 100})
    run_from(conn, 110, 112, {2: 111})
    run_from(conn, 113, 114, {})
    assert sends(conn, 95) == {LANE: [at(100), at(111)]}


def test_a_run_that_died_is_remembered_by_its_last_heartbeat(conn: sqlite3.Connection) -> None:
    run_from(conn, 100, None, {1: 103})
    assert sends(conn, 102) == {LANE: [at(103)]}
    assert sends(conn, 106) == {}, "it gave its last sign six seconds before"


# Attempts that use up nothing.


@pytest.mark.parametrize(
    ("decision", "counts"),
    [(Retry(0.0, counted=True), True), (Retry(0.0, counted=False), False), (Halt("no key"), False), (Fail(), True)],
)
def test_an_attempt_counts_unless_it_is_excused(
    conn: sqlite3.Connection, decision: Retry | Halt | Fail, counts: bool
) -> None:
    run_id, tried, due = run_on(conn), attempt(1), MINUTE if isinstance(decision, Retry) else None
    write(conn, Started(tried, run_id, MINUTE), Settled(settlement(tried, failure(), decision, due)))
    assert rows(conn, "SELECT counted FROM attempts") == [(int(counts),)]


def test_excused_attempts_use_up_no_budget_after_a_resume(conn: sqlite3.Connection) -> None:
    """The next run reads from the store what a request has left."""
    run_id = run_on(conn)
    for number, counted in enumerate([True, False, False, True, False], 1):
        tried = attempt(1, number)
        put_back = settlement(tried, failure(ErrorClass.OVERLOADED), Retry(0.0, counted=counted), MINUTE)
        write(conn, Started(tried, run_id, MINUTE), Settled(put_back))
    again, *_ = Queue(conn).claim(Claim(LANE, 0, LATER, frozenset(), True)).attempts
    assert (again.number, dict(again.failures)) == (6, {ErrorClass.OVERLOADED: 2})

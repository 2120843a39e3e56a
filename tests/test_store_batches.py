"""Batches on record: guarded steps, rows that sit in one batch only, and settlements that are those of single attempts."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner.batch import BATCH_TRANSITIONS, BatchState, Remote, RowKey
from batchrunner.model import (
    Attempt,
    Bill,
    Decision,
    ErrorClass,
    Fail,
    Failure,
    Outcome,
    Retry,
    Settlement,
    Success,
    Usage,
)
from batchrunner.store.batch_settling import Freed, FromBatch, SettledRows
from batchrunner.store.batches import Closed, Intended, Told, left_in, open_batches, sitting
from batchrunner.store.changes import Settled, Started
from batchrunner.store.forgetting import forget
from batchrunner.store.queue import RECALL, Claim, Queue
from batchrunner.store.spending import probably_spent_usd
from batchrunner.store.transactions import transaction
from builders import opened_store, request, run_on, take_in

AT, LATER = "2026-11-22T00:00:00.000Z", "2026-11-22T01:00:00.000Z"


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened_store(tmp_path / "jobs.db") as opened:
        take_in(opened, [request(f"r{n}", line=n) for n in range(1, 9)])
        run_on(opened)
        yield opened


def write(conn: sqlite3.Connection, *changes: Any) -> None:
    with transaction(conn) as cursor:
        for change in changes:
            change.write(cursor)


def intended(*seqs: int, nonce: str = "a" * 16) -> Intended:
    return Intended(nonce, 1, "http://x", 99, AT, [RowKey(seq, 1) for seq in seqs], 0.5)


def remote(state: BatchState, name: str = "msgbatch_1") -> Remote:
    return Remote(name, state, AT, LATER, succeeded=3)


def test_what_sits_in_a_batch_is_claimed_by_nobody_else(conn: sqlite3.Connection) -> None:
    write(conn, intended(2, 3))
    conn.row_factory = sqlite3.Row
    claimed = Queue(conn).claim(Claim(Queue(conn).model_classes()[0], 0, LATER))
    assert [attempt.seq for attempt in claimed.attempts] == [1, 4, 5, 6, 7, 8]
    assert sitting(conn) == 2
    with pytest.raises(sqlite3.IntegrityError):
        write(conn, intended(3, 4, nonce="b" * 16))
    assert [batch.requests for batch in open_batches(conn)] == [2]  # all of it or none


@pytest.mark.parametrize("before", list(BatchState))
@pytest.mark.parametrize("after", list(BatchState))
def test_a_batch_takes_only_the_steps_it_may(conn: sqlite3.Connection, before: BatchState, after: BatchState) -> None:
    write(conn, intended(1, 2))
    conn.execute("UPDATE batches SET state = ?", (before,))
    is_told = after in {BatchState.IN_PROGRESS, BatchState.CANCELING, BatchState.ENDED}
    write(conn, Told(1, remote(after), LATER, AT) if is_told else Closed(1, after, AT))
    (state,) = conn.execute("SELECT state FROM batches").fetchone()
    moves = after in BATCH_TRANSITIONS[before]
    assert state == (after if moves else before)
    assert sitting(conn) == (0 if moves and not is_told else 2)


def test_a_batch_keeps_the_id_it_got_first(conn: sqlite3.Connection) -> None:
    write(conn, intended(1), Told(1, remote(BatchState.IN_PROGRESS), LATER, AT))
    write(conn, Told(1, remote(BatchState.ENDED, "msgbatch_2"), LATER, AT))
    assert conn.execute("SELECT remote_id, state FROM batches").fetchone()[:] == ("msgbatch_1", "in_progress")


def attempt(seq: int) -> Attempt:
    return Attempt(seq, 1, f"r{seq}", "claude-x", "{}", 10)


def success(text: str) -> Success:
    return Success('{"x":1}', text, "end_turn", "claude-x", Usage(3, 5))


OUTCOMES: list[tuple[Outcome, Decision | None, str | None]] = [
    (success("one"), None, None),
    (success("two"), None, None),
    (Failure(ErrorClass.INVALID, "wrong 17"), Fail(), None),
    (Failure(ErrorClass.INVALID, "wrong 18"), Fail(), None),
    (Failure(ErrorClass.EXPIRED, "late"), Retry(1.0), LATER),
    (Failure(ErrorClass.TRUNCATED, "cut", answer=success("half")), Fail(), None),
]
TABLES = {
    "attempts": "SELECT seq, number, run_id, lane, ended_at, outcome, error_class, possibly_paid, counted, input_tokens, cost_usd FROM attempts",
    "results": "SELECT * FROM results",
    "requests": "SELECT seq, state, attempts, error_class, signature, error_message, not_before, finished_at, batch_id FROM requests",
    "job": "SELECT succeeded, failed FROM job",
    "spending": "SELECT * FROM spending",
    "failure_groups": "SELECT * FROM failure_groups",
}


def test_many_rows_settle_as_each_would_alone(tmp_path: Path) -> None:
    settlements = [
        Settlement(attempt(seq), outcome, decision, LATER, not_before, Bill(7, "claude-x", 0.25))
        for seq, (outcome, decision, not_before) in enumerate(OUTCOMES, 1)
    ]
    found = []
    for by_batch in (True, False):
        with opened_store(tmp_path / f"{by_batch}.db") as conn:
            take_in(conn, [request(f"r{n}", line=n) for n in range(1, 9)])
            run_on(conn)
            if by_batch:
                write(conn, intended(*range(1, 7)))
                rows = SettledRows([(FromBatch(1, 1, AT), settlement) for settlement in settlements])
                write(conn, rows)
                write(conn, rows)  # a download that is begun again: the first outcome stands
            else:
                for settlement in settlements:
                    write(conn, Started(settlement.attempt, 1, AT), Settled(settlement))
            found.append({name: [tuple(row) for row in conn.execute(sql)] for name, sql in TABLES.items()})
    assert found[0] == found[1]


def test_recall_gives_only_what_still_sits_there(conn: sqlite3.Connection) -> None:
    write(conn, intended(1, 2, 3), intended(4, nonce="b" * 16))
    write(conn, SettledRows([(FromBatch(1, 1, AT), Settlement(attempt(2), success("x"), None, LATER))]))
    write(conn, Freed(1, [3], LATER))
    assert [found.seq for found in Queue(conn).recall(1, [1, 2, 3, 4])] == [1]
    assert left_in(conn, 1, 10) == [RowKey(1, 1)]
    assert conn.execute("SELECT not_before, batch_id FROM requests WHERE seq = 3").fetchone()[:] == (LATER, None)
    assert forget(conn, LATER) == 2
    assert sitting(conn) == 0


@pytest.mark.parametrize("paid", [True, False])
def test_what_was_given_up_may_have_been_paid_for_and_is_due_again(conn: sqlite3.Connection, paid: bool) -> None:
    write(conn, intended(1, 2, 3), intended(4, nonce="b" * 16))
    assert forget(conn, LATER, paid=paid) == 2
    assert sitting(conn) == 0
    tried = conn.execute("SELECT seq, number, batch_id, possibly_paid, counted FROM attempts ORDER BY seq").fetchall()
    assert [tuple(row) for row in tried] == [(seq, 1, 1 + seq // 4, 1, 0) for seq in range(1, 5) if paid]
    assert probably_spent_usd(conn) == pytest.approx(1.0 if paid else 0.0)
    conn.row_factory = sqlite3.Row
    claimed = Queue(conn).claim(Claim(Queue(conn).model_classes()[0], 0, LATER))
    assert sorted(found.seq for found in claimed.attempts) == list(range(1, 9))
    assert {found.number for found in claimed.attempts if found.seq < 5} == {1 + paid}


@pytest.mark.parametrize(
    "sql", [RECALL, "SELECT count(*) FROM requests WHERE batch_id IS NOT NULL"], ids=["recall", "sitting"]
)
def test_hot_statements_scan_no_table(conn: sqlite3.Connection, sql: str) -> None:
    plan = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", {"batch": 1, "seqs": "[1]"})]
    scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step and "(" not in step]
    assert plan
    assert not scans, plan

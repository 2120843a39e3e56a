"""What a run writes: settlements move requests along the table of transitions and no other way."""

import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.model import TRANSITIONS, Decision, ErrorClass, Fail, Halt, Outcome, Retry, State
from batchrunner.store.changes import (
    Heartbeat,
    RunEnded,
    Settled,
    Started,
    Unstarted,
    begin_run,
    next_state,
    recover,
)
from batchrunner.store.selection import Selection, put_back
from builders import (
    AT,
    LATER,
    MESSAGE,
    attempt,
    body,
    dump,
    failure,
    numbered,
    opened_store,
    request,
    rows,
    run_on,
    settlement,
    state_of,
    success,
    take_in,
    write,
)

PAIRS = list(itertools.product(State, State))
ALLOWED = [(old, new) for old, new in PAIRS if new in TRANSITIONS[old]]

#: An outcome and a decision that lead to each state.
LEADS_TO: dict[State, tuple[Outcome, Decision | None]] = {
    State.PENDING: (failure(), Retry(0.0)),
    State.SUCCEEDED: (success(), None),
    State.FAILED: (failure(ErrorClass.INVALID), Fail()),
}
REQUESTS = ("requests", "job")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A store with one pending request, `r1`, that was never sent."""
    with opened_store(tmp_path / "jobs.db") as conn:
        take_in(conn, numbered(1))
        yield conn


def settle(conn: sqlite3.Connection, state: State, number: int, seq: int = 1) -> None:
    """Start an attempt and settle it so that it leads to *state*."""
    outcome, decision = LEADS_TO[state]
    tried = attempt(seq, number)
    write(conn, Started(tried, 1, AT), Settled(settlement(tried, outcome, decision)))


def bring_to(conn: sqlite3.Connection, state: State) -> None:
    """Let the first attempt of `r1` lead to *state*."""
    settle(conn, state, 1)
    assert state_of(conn, "r1") is state


# The table of transitions, through the statements that run.


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_settlement_moves_a_pending_request_and_no_other(conn: sqlite3.Connection, old: State, new: State) -> None:
    bring_to(conn, old)
    before = dump(conn, *REQUESTS)
    settle(conn, new, 2)
    if old is State.PENDING:
        assert state_of(conn, "r1") is new
        assert rows(conn, "SELECT attempts FROM requests") == [(2,)]
    else:
        assert dump(conn, *REQUESTS) == before, "a final request is left by the user's wish alone"


@pytest.mark.parametrize("old", list(State))
def test_putting_back_moves_a_failed_request_and_no_other(conn: sqlite3.Connection, old: State) -> None:
    bring_to(conn, old)
    before = dump(conn, *REQUESTS)
    moved = put_back(conn, Selection(), at=LATER)
    assert moved == (old is State.FAILED)
    assert state_of(conn, "r1") is (State.PENDING if moved else old)
    assert moved or dump(conn, *REQUESTS) == before
    assert not moved or State.PENDING in TRANSITIONS[old]


@pytest.mark.parametrize("old", list(State))
@pytest.mark.parametrize("on_change", ["keep", "rerun"])
def test_a_changed_request_is_sent_again_only_where_the_user_says_so(
    conn: sqlite3.Connection, old: State, on_change: str
) -> None:
    bring_to(conn, old)
    take_in(conn, [request("r1", 1, body("Another prompt."))], on_change)
    # A failed request has no answer that could be kept: it takes its new form whatever is asked.
    kept = on_change == "keep" and old is not State.FAILED
    assert state_of(conn, "r1") is (old if kept else State.PENDING)
    assert State.PENDING in TRANSITIONS[old]


def test_every_arrow_of_the_table_is_walked_by_one_of_these_statements() -> None:
    settled = {(State.PENDING, new) for new in State}
    put_back_or_rerun = {(State.FAILED, State.PENDING), (State.SUCCEEDED, State.PENDING)}
    assert settled | put_back_or_rerun == set(ALLOWED)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("state = 'running'", "no such state"),
        ("state = NULL", "a state there must be"),
        ("state = 'succeeded'", "final without finished_at"),
        ("state = 'failed'", "final without finished_at"),
        ("finished_at = '2026-11-22T14:00:00.000Z'", "finished but pending"),
        ("state = 'failed', finished_at = '2026-11-22T14:00:00.000Z', not_before = '2026-11-22T15:00:00.000Z'", "both"),
    ],
)
def test_the_schema_refuses_states_that_cannot_be(conn: sqlite3.Connection, columns: str, why: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute(f"UPDATE requests SET {columns}")


# What a settlement writes.


def test_an_answer_is_written_whole(conn: sqlite3.Connection) -> None:
    tried = attempt(1, 1)
    write(conn, Started(tried, 7, "2026-11-22T13:59:58.000Z"), Settled(settlement(tried)))
    assert rows(conn, "SELECT number, accepted, text, stop_reason, model, message FROM results") == [
        (1, 1, "Hello.", "end_turn", "claude-haiku-4-5", MESSAGE)
    ]
    assert rows(conn, "SELECT run_id, ended_at, outcome, http_status, api_request_id, possibly_paid FROM attempts") == [
        (7, AT, "success", 200, "req_1", 0)
    ]
    tokens = "input_tokens, output_tokens, cache_write_tokens, cache_read_tokens"
    assert rows(conn, f"SELECT {tokens} FROM attempts") == [(10, 5, 2, 1)]
    assert rows(conn, f"SELECT lane, attempts, answered, {tokens} FROM lane_totals") == [
        ("haiku-4-5", 1, 1, 10, 5, 2, 1)
    ]
    assert rows(conn, "SELECT state, attempts, error_class, not_before, finished_at FROM requests") == [
        ("succeeded", 1, None, None, AT)
    ]
    assert rows(conn, "SELECT requests, succeeded, failed FROM job") == [(1, 1, 0)]
    flat = conn.execute("SELECT custom_id, status, text, latency_s, attempts FROM results_flat").fetchall()
    assert flat == [("r1", "succeeded", "Hello.", 2.0, 1)]


def test_a_failure_is_written_with_class_signature_and_body(conn: sqlite3.Connection) -> None:
    tried = attempt(1, 1)
    broken = failure(ErrorClass.INVALID, "max_tokens: 99 > 8", http_status=400, body="<html>", possibly_paid=True)
    write(conn, Started(tried, 1, AT), Settled(settlement(tried, broken, Fail())))
    columns = "state, error_class, signature, error_message, finished_at"
    assert rows(conn, f"SELECT {columns} FROM requests") == [
        ("failed", "invalid", "max_tokens: # > #", "max_tokens: 99 > 8", AT)
    ]
    assert rows(
        conn, "SELECT outcome, error_class, http_status, message, possibly_paid, output_tokens FROM attempts"
    ) == [("failure", "invalid", 400, "max_tokens: 99 > 8\n<html>", 1, None)]
    assert rows(conn, "SELECT requests, succeeded, failed FROM job") == [(1, 0, 1)]
    assert rows(conn, "SELECT count(*) FROM results") == [(0,)]


def test_an_answer_that_was_not_accepted_is_kept_and_counted_as_paid(conn: sqlite3.Connection) -> None:
    tried = attempt(1, 1)
    cut = failure(ErrorClass.TRUNCATED, "cut off", answer=success("Hel", stop_reason="max_tokens"))
    write(conn, Started(tried, 1, AT), Settled(settlement(tried, cut, Fail())))
    assert rows(conn, "SELECT accepted, text FROM results") == [(0, "Hel")]
    assert rows(conn, "SELECT output_tokens FROM attempts") == [(5,)]
    assert rows(conn, "SELECT answered, output_tokens FROM lane_totals") == [(1, 5)]


def test_a_retry_waits_until_its_time_and_counts_nothing_as_done(conn: sqlite3.Connection) -> None:
    tried = attempt(1, 1)
    write(conn, Started(tried, 1, AT), Settled(settlement(tried, failure(), Retry(5.0), LATER)))
    assert rows(conn, "SELECT state, attempts, not_before, finished_at FROM requests") == [("pending", 1, LATER, None)]
    assert rows(conn, "SELECT succeeded, failed FROM job") == [(0, 0)]
    settle(conn, State.SUCCEEDED, 2)
    assert rows(conn, "SELECT state, not_before, error_class, signature, error_message FROM requests") == [
        ("succeeded", None, None, None, None)
    ]


def test_a_halt_leaves_the_request_pending_and_due_at_once(conn: sqlite3.Connection) -> None:
    tried = attempt(1, 1)
    refused = failure(ErrorClass.AUTHENTICATION, "The key is not valid.")
    write(conn, Started(tried, 1, AT), Settled(settlement(tried, refused, Halt("Stop."))))
    assert rows(conn, "SELECT state, attempts, not_before, finished_at FROM requests") == [("pending", 1, None, None)]


@pytest.mark.parametrize("state", list(State))
def test_each_decision_leads_to_its_state(state: State) -> None:
    outcome, decision = LEADS_TO[state]
    assert next_state(settlement(attempt(), outcome, decision)) is state
    assert next_state(settlement(attempt(), failure(), Halt("Stop."))) is State.PENDING


# Late answers.


@pytest.mark.parametrize("late", list(State))
@pytest.mark.parametrize("reached", list(State))
def test_a_late_answer_changes_nothing_but_the_record_of_its_attempt(
    conn: sqlite3.Connection, late: State, reached: State
) -> None:
    """Attempt 1 ends after attempt 2 has decided what becomes of the request."""
    write(conn, Started(attempt(1, 1), 1, AT))
    settle(conn, reached, 2)
    before = dump(conn, *REQUESTS)
    second = rows(conn, "SELECT * FROM attempts WHERE number = 2")
    outcome, decision = LEADS_TO[late]
    write(conn, Settled(settlement(attempt(1, 1), outcome, decision, LATER)))
    assert dump(conn, *REQUESTS) == before
    assert rows(conn, "SELECT * FROM attempts WHERE number = 2") == second
    assert rows(conn, "SELECT ended_at FROM attempts WHERE number = 1") == [(AT,)], "its attempt is on record"


@pytest.mark.parametrize("state", list(State))
def test_a_settlement_told_twice_moves_and_counts_once(conn: sqlite3.Connection, state: State) -> None:
    settle(conn, state, 1)
    before = dump(conn, *REQUESTS)
    outcome, decision = LEADS_TO[state]
    write(conn, Settled(settlement(attempt(1, 1), outcome, decision)))
    assert dump(conn, *REQUESTS) == before


def test_an_attempt_cannot_be_started_twice(conn: sqlite3.Connection) -> None:
    write(conn, Started(attempt(1, 1), 1, AT))
    with pytest.raises(sqlite3.IntegrityError):
        Started(attempt(1, 1), 2, LATER).write(conn.cursor())


def test_a_start_is_taken_back_only_while_it_is_open(conn: sqlite3.Connection) -> None:
    write(conn, Started(attempt(1, 1), 1, AT), Unstarted(attempt(1, 1)))
    assert rows(conn, "SELECT * FROM attempts") == []
    settle(conn, State.PENDING, 1)
    write(conn, Unstarted(attempt(1, 1)))
    assert rows(conn, "SELECT count(*) FROM attempts") == [(1,)]


# Runs that begin, end and die.


def test_a_run_is_on_record_from_its_beginning_to_its_end(conn: sqlite3.Connection) -> None:
    run_id = begin_run(conn, {"version": "1", "host": "here", "pid": 7, "at": AT}, {"rate": "5/1s"}, LATER)
    assert rows(conn, "SELECT version, host, pid, started_at, heartbeat_at, ended_at FROM runs") == [
        ("1", "here", 7, AT, AT, None)
    ]
    assert json.loads(conn.execute("SELECT settings FROM runs").fetchone()[0]) == {"rate": "5/1s"}
    write(conn, Heartbeat(run_id, LATER))
    assert rows(conn, "SELECT heartbeat_at, ended_at FROM runs") == [(LATER, None)]
    write(conn, RunEnded(run_id, LATER, "halted", "No credit."))
    assert rows(conn, "SELECT ended_at, ending, reason FROM runs") == [(LATER, "halted", "No credit.")]


def test_recovery_closes_the_run_that_died_at_its_last_sign_of_life(conn: sqlite3.Connection) -> None:
    finished, died = run_on(conn), run_on(conn)
    write(conn, RunEnded(finished, LATER, "finished", None), Heartbeat(died, LATER))
    recover(conn)
    assert rows(conn, "SELECT id, ended_at, ending FROM runs") == [(finished, LATER, "finished"), (died, LATER, "died")]


def test_recovery_counts_the_attempts_that_a_crash_left_open(conn: sqlite3.Connection) -> None:
    """Their numbers are taken, and the record says that they may have been paid for."""
    settle(conn, State.PENDING, 1)
    write(conn, Started(attempt(1, 2), 1, AT))
    for _ in range(2):
        recover(conn)
        assert rows(conn, "SELECT state, attempts FROM requests") == [("pending", 2)]
    settle(conn, State.SUCCEEDED, 3)
    recover(conn)
    assert rows(conn, "SELECT state, attempts FROM requests") == [("succeeded", 3)]
    assert rows(conn, "SELECT number, ended_at FROM attempts WHERE ended_at IS NULL") == [(2, None)]


def test_a_new_run_shortens_waits_that_a_clock_set_back_made_endless(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(2))
    for seq, not_before in ((1, "2099-01-01T00:00:00.000Z"), (2, AT)):
        write(conn, Started(attempt(seq), 1, AT), Settled(settlement(attempt(seq), failure(), Retry(5.0), not_before)))
    begin_run(conn, {"version": "1", "host": "here", "pid": 7, "at": AT}, {}, LATER)
    assert rows(conn, "SELECT seq, not_before FROM requests") == [(1, LATER), (2, AT)]

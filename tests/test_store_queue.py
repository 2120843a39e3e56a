"""Claims: what is given out, and that no statement on the hot path ever scans."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.model import ErrorClass, Fail, Retry, State
from batchrunner.policy.sampling import Sampling
from batchrunner.store import changes, chosen, queue, selection, sharing, spending
from batchrunner.store.changes import Settled, Started
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.selection import Selection, put_back
from builders import (
    AT,
    LANE,
    LATER,
    attempt,
    body,
    failure,
    numbered,
    opened_store,
    request,
    rows,
    run_on,
    settlement,
    take_in,
    write,
)

NOW = "2026-11-22T14:30:00.000Z"
ROWS = 4000
_SPREAD = """UPDATE requests SET
    model_class = CASE WHEN seq % 5 = 0 THEN 'opus-4' ELSE 'haiku-4-5' END,
    state = CASE WHEN seq % 10 < 4 THEN 'succeeded' WHEN seq % 10 = 4 THEN 'failed' ELSE 'pending' END,
    error_class = CASE WHEN seq % 10 = 4 THEN 'server' END,
    attempts = seq % 10 < 5,
    finished_at = CASE WHEN seq % 10 < 5 THEN :at END,
    not_before = CASE WHEN seq % 10 > 7 THEN :at END,
    line = CASE WHEN seq % 50 THEN line END"""
_TRIED = """INSERT INTO attempts (seq, number, run_id, lane, started_at, ended_at, outcome, error_class)
    SELECT seq, 1, 1, model_class, :at, CASE WHEN seq % 97 THEN :at END, 'failure', 'server' FROM requests WHERE seq % 3"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A store with some thousand requests in every state, two lanes, and attempts and patches for many of them."""
    with opened_store(tmp_path_factory.mktemp("large") / "jobs.db") as conn:
        take_in(conn, numbered(ROWS))
        conn.execute("BEGIN")
        conn.execute(_SPREAD, {"at": AT})
        conn.execute(_TRIED, {"at": AT})
        conn.execute("INSERT INTO overrides SELECT seq, '{\"max_tokens\":9}', ? FROM requests WHERE seq % 2", (AT,))
        run_on_sql = (
            "INSERT INTO runs (version, settings, host, pid, started_at, heartbeat_at) VALUES ('1', '{}', 'h', 1, ?, ?)"
        )
        conn.execute(run_on_sql, (AT, AT))
        conn.execute("COMMIT")
        chosen.choose(conn, Sampling(shuffle=True), 2**62)
        conn.execute("PRAGMA query_only = OFF")
        yield conn


@pytest.fixture(params=["fresh statistics", "sampled statistics", "no statistics"])
def planned(large: sqlite3.Connection, request: pytest.FixtureRequest) -> sqlite3.Connection:
    """The large store with and without what `PRAGMA optimize` leaves behind at the end of a run."""
    large.execute(f"PRAGMA analysis_limit = {400 if request.param == 'sampled statistics' else 0}")
    large.execute("ANALYZE")
    if request.param == "no statistics":
        large.execute("DELETE FROM sqlite_stat1")
        large.execute("ANALYZE sqlite_schema")
    return large


def plan(conn: sqlite3.Connection, sql: str) -> list[str]:
    """Return the steps of *sql*'s plan. Parameters are left unbound, as the planner sees them."""
    names = dict.fromkeys(_names_in(sql))
    bound = names or (None,) * sql.count("?")
    return [row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + sql, bound)]


def _names_in(sql: str) -> list[str]:
    return [word.strip("(),").removeprefix(":") for word in sql.split() if word.strip("(,").startswith(":")]


#: What each statement must find its rows by. Nothing else may be read.
_READS = {
    "FRESH": (queue.FRESH, ["requests_fresh", "overrides_seq", "requests_waiting", "PRIMARY KEY"]),
    "FRESH_SPAN": (queue.FRESH_SPAN, ["requests_fresh", "overrides_seq", "requests_waiting", "PRIMARY KEY"]),
    "DUE": (queue.DUE, ["requests_due", "overrides_seq", "requests_waiting", "PRIMARY KEY"]),
    "NEXT_DUE": (queue.NEXT_DUE, ["requests_due"]),
    "NEXT_FRESH_CLASS": (queue.NEXT_FRESH_CLASS, ["requests_fresh"]),
    "NEXT_DUE_CLASS": (queue.NEXT_DUE_CLASS, ["requests_due"]),
    "FRESH_CHOSEN": (queue.FRESH_CHOSEN, ["PRIMARY KEY", "overrides_seq", "requests_waiting"]),
    "DUE_CHOSEN": (
        queue.DUE_CHOSEN,
        ["requests_due", "chosen_seq", "overrides_seq", "requests_waiting", "PRIMARY KEY"],
    ),
    "NEXT_DUE_CHOSEN": (queue.NEXT_DUE_CHOSEN, ["requests_due", "chosen_seq"]),
    "FAILURES": (queue.FAILURES, ["PRIMARY KEY"]),
    "LINE_AT": (queue.LINE_AT, ["requests_line"]),
    "totals": (selection._WHOLE, ["requests_line", "SCAN job"]),
}
_WRITES = {
    "UNSTART": (changes.UNSTART, ["PRIMARY KEY"]),
    "END": (changes.END, ["PRIMARY KEY"]),
    "MOVE": (changes.MOVE, ["PRIMARY KEY"]),
    "HEARTBEAT": (changes.HEARTBEAT, ["PRIMARY KEY"]),
    "END_RUN": (changes.END_RUN, ["PRIMARY KEY"]),
    "CATCH_UP": (changes.CATCH_UP, ["PRIMARY KEY", "attempts_doubtful", "PRIMARY KEY"]),
    "CLAMP_DUE": (changes.CLAMP_DUE, ["requests_due"]),
    "COPY_ONE": (sharing._COPY_ONE, ["requests_waiting", "sqlite_autoindex_results"]),
    "FOLLOW": (sharing._FOLLOW, ["requests_waiting"]),
}
#: Walks along an index in its order, stopped by a LIMIT, or over a partial index that holds few rows.
_WALKS = {"LINE_AT", "CATCH_UP", "CLAMP_DUE", "totals"}


@pytest.mark.parametrize("name", [*_READS, *_WRITES])
def test_hot_statements_search_by_index_and_sort_nothing(planned: sqlite3.Connection, name: str) -> None:
    sql, expected = (_READS | _WRITES)[name]
    steps = plan(planned, sql)
    # The patches of one request, found by their index, are gathered in a co-routine and read from there.
    searches = [step for step in steps if step.startswith(("SEARCH", "SCAN")) and "(subquery-" not in step]
    assert "TEMP B-TREE" not in " ".join(steps)
    for step in searches:
        assert any(index in step for index in expected), steps
        assert name in _WALKS or step.startswith("SEARCH"), steps
    for index in expected:
        assert any(index in step for step in searches), steps


@pytest.mark.parametrize("sql", [changes.START, changes.RESULT, spending.SPENT, *changes.TOTALS.values()])
def test_inserts_and_totals_read_nothing_but_the_one_row_of_the_job(planned: sqlite3.Connection, sql: str) -> None:
    assert set(plan(planned, sql)) <= {"SCAN job"}


# What is given out.


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened_store(tmp_path / "jobs.db") as conn:
        yield conn


def claim(**fields: object) -> Claim:
    ordinary: dict[str, object] = {"model_class": LANE, "after": 0, "now": NOW}
    return Claim(**(ordinary | fields))  # type: ignore[arg-type]


def fail(conn: sqlite3.Connection, seq: int, number: int = 1, **how: object) -> None:
    """Let an attempt fail; `error_class` (server), `decision` (a retry that is due)."""
    tried = attempt(seq, number)
    decision = how.get("decision", Retry(0.0))
    not_before = how.get("not_before", AT) if isinstance(decision, Retry) else None
    ended = settlement(tried, failure(how.get("error_class", ErrorClass.SERVER)), decision, not_before)  # type: ignore[arg-type]
    write(conn, Started(tried, 1, AT), Settled(ended))


def test_fresh_requests_come_in_the_order_of_arrival_behind_the_cursor(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(10))
    reader = Queue(conn)
    first = reader.claim(claim(count=4))
    assert [tried.seq for tried in first.attempts] == [1, 2, 3, 4]
    assert (first.after, first.fresh, first.retries, first.next_due) == (4, True, 0, None)
    rest = reader.claim(claim(after=4, count=50, in_hand=frozenset({1, 2, 3, 4})))
    assert [tried.seq for tried in rest.attempts] == [5, 6, 7, 8, 9, 10]
    assert (rest.after, rest.fresh) == (10, False)


def test_an_attempt_carries_what_the_line_asked_for(conn: sqlite3.Connection) -> None:
    asked = request("a", 1, body("Hi", stream=True, max_tokens=77), timeout_s=12.5)
    take_in(conn, [asked, request("b", 2)])
    first, second = Queue(conn, timeout_s=99.0).claim(claim()).attempts
    assert first == attempt(1, custom_id="a", params=asked.params, max_tokens=77, stream=True, timeout_s=12.5)
    assert (second.stream, second.timeout_s, second.number, dict(second.failures)) == (False, 99.0, 1, {})


def test_each_lane_is_given_its_own(conn: sqlite3.Connection) -> None:
    take_in(
        conn,
        [
            request("a", 1),
            request("b", 2, body(model="claude-opus-4-7")),
            request("c", 3, body(model="claude-opus-4-8")),
            request("d", 4, body(model="another-model")),
        ],
    )
    reader = Queue(conn)
    assert reader.model_classes() == ["another-model", "haiku-4-5", "opus-4"]
    assert [tried.custom_id for tried in reader.claim(claim(model_class="opus-4")).attempts] == ["b", "c"]


def test_a_lane_whose_requests_all_wait_is_still_a_lane(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(1))
    fail(conn, 1, not_before=LATER)
    assert Queue(conn).model_classes() == [LANE]


def test_retries_are_given_when_due_and_announced_when_not(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(4))
    fail(conn, 2, not_before=NOW)
    fail(conn, 3, not_before=LATER)
    found = Queue(conn).claim(claim())
    assert [(tried.seq, tried.number) for tried in found.attempts] == [(2, 2), (1, 1), (4, 1)]
    assert (found.retries, found.next_due) == (1, LATER)


def test_what_is_in_hand_is_neither_given_nor_announced(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    for seq in (1, 2, 3):
        fail(conn, seq, not_before=NOW)
    found = Queue(conn).claim(claim(in_hand=frozenset({1, 2}), count=1))
    assert [tried.seq for tried in found.attempts] == [3]
    assert found.next_due is None


def test_more_due_retries_than_asked_for_are_announced(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    for seq in (1, 2, 3):
        fail(conn, seq, not_before=NOW)
    found = Queue(conn).claim(claim(count=2))
    assert ([tried.seq for tried in found.attempts], found.next_due) == ([1, 2], NOW)


def test_final_and_removed_requests_are_not_given(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(4))
    fail(conn, 1, decision=Fail())
    fail(conn, 2, not_before=NOW)
    take_in(conn, [r for r in numbered(4) if r.line not in {2, 3}])
    found = Queue(conn).claim(claim())
    assert [tried.seq for tried in found.attempts] == [4]
    assert found.next_due is None


def test_failures_are_counted_by_class(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(1))
    for number, error_class in enumerate((ErrorClass.SERVER, ErrorClass.TIMEOUT, ErrorClass.SERVER), 1):
        fail(conn, 1, number, error_class=error_class)
    (again,) = Queue(conn).claim(claim()).attempts
    assert again.failures == {ErrorClass.SERVER: 2, ErrorClass.TIMEOUT: 1}
    assert again.number == 4


def test_after_a_time_out_the_answer_is_asked_for_as_a_stream(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(2))
    fail(conn, 1, error_class=ErrorClass.TIMEOUT)
    fail(conn, 2, error_class=ErrorClass.SERVER)
    assert {tried.seq: tried.stream for tried in Queue(conn).claim(claim()).attempts} == {1: True, 2: False}


def test_budgets_are_full_again_after_putting_back(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(1))
    fail(conn, 1)
    fail(conn, 1, 2, decision=Fail())
    put_back(conn, Selection(), at=NOW)
    (again,) = Queue(conn).claim(claim()).attempts
    assert (again.number, dict(again.failures)) == (3, {})
    fail(conn, 1, 3)
    (once_more,) = Queue(conn).claim(claim()).attempts
    assert once_more.failures == {ErrorClass.SERVER: 1}


def test_patches_are_laid_over_the_body_in_their_order(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(2))
    for number, patch in ((1, {"max_tokens": 50, "temperature": 0.5}), (2, {"max_tokens": 99, "stream": True})):
        fail(conn, 1, number, decision=Fail())
        put_back(conn, Selection(patch=patch), at=NOW)
    patched, plain = Queue(conn).claim(claim()).attempts
    assert json.loads(patched.params) == body("Say 1.", max_tokens=99, temperature=0.5, stream=True)
    assert (patched.max_tokens, patched.stream) == (99, True)
    assert json.loads(plain.params) == body("Say 2.")


@pytest.mark.parametrize(
    ("first", "expected"), [(0, []), (1, [1]), (3, [1, 2, 4]), (4, [1, 2, 4, 5]), (99, [1, 2, 4, 5])]
)
def test_the_first_lines_are_counted_in_the_input_as_it_is_now(
    conn: sqlite3.Connection, first: int, expected: list[int]
) -> None:
    take_in(conn, numbered(5))
    take_in(conn, [r for r in numbered(5) if r.line != 3])
    assert [tried.seq for tried in Queue(conn, first=first).claim(claim()).attempts] == expected


def test_the_first_lines_hold_for_retries_too(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    fail(conn, 3, not_before=NOW)
    found = Queue(conn, first=2).claim(claim())
    assert ([tried.seq for tried in found.attempts], found.next_due) == ([1, 2], None)


def test_a_claim_reads_and_changes_nothing(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    conn.execute("PRAGMA query_only = ON")
    reader = Queue(conn)
    assert reader.claim(claim()) == reader.claim(claim())
    conn.execute("PRAGMA query_only = OFF")
    assert rows(conn, "SELECT DISTINCT state, attempts FROM requests") == [(State.PENDING, 0)]
    assert run_on(conn) == 1


# A part of the requests.


def order(conn: sqlite3.Connection, sampling: Sampling, first: int | None = None) -> list[int]:
    """Return what a lane is given, claim by claim."""
    chosen_queue = Queue(conn, sampling=sampling, first=first)
    given: list[int] = []
    after, fresh = 0, True
    while fresh:
        found = chosen_queue.claim(claim(after=after, count=7))
        given += [attempt.seq for attempt in found.attempts]
        after, fresh = found.after, found.fresh
    return given


def test_a_shuffled_queue_gives_everything_once_in_an_order_that_the_seed_decides(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(40))
    shuffled = order(conn, Sampling(shuffle=True, seed=1))
    assert sorted(shuffled) == list(range(1, 41)) != shuffled
    assert order(conn, Sampling(shuffle=True, seed=1)) == shuffled != order(conn, Sampling(shuffle=True, seed=2))


def test_a_sample_is_given_in_the_order_of_the_input_and_does_not_depend_on_other_rows(
    conn: sqlite3.Connection,
) -> None:
    take_in(conn, numbered(60))
    sample = order(conn, Sampling(sample=9, seed=5))
    assert len(sample) == 9
    assert sample == sorted(sample)
    assert set(order(conn, Sampling(sample=4, seed=5))) < set(sample)
    assert order(conn, Sampling(sample=9, seed=6)) != sample
    assert len(order(conn, Sampling(sample=100))) == 60
    assert max(order(conn, Sampling(sample=9), first=20)) <= 20


def test_chosen_ids_alone_are_given_and_counted(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(10))
    write(conn, Started(attempt(3), run_on(conn), AT), Settled(settlement(attempt(3))))
    chosen_queue = Queue(conn, sampling=Sampling(ids=["r3", "r7"]))
    assert [a.seq for a in chosen_queue.claim(claim()).attempts] == [7]
    found = chosen_queue.totals()
    assert (found.requests, found.succeeded, found.pending) == (2, 1, 1)
    assert chosen_queue.model_classes() == [LANE]

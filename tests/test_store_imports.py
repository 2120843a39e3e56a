"""Taking a job file in, and taking it in again after it was edited."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrunner.errors import ChangedRequestsError, Exit, InputError
from batchrunner.model import ErrorClass, Fail, Request, Retry, State
from batchrunner.store.changes import Settled, Started
from batchrunner.store.files import open_owner
from batchrunner.store.imports import begin_import
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.repeats import Imported
from batchrunner.store.schema import IMPORT_INDEXES, UNIQUE_ID_INDEX
from batchrunner.store.selection import Selection, put_back
from builders import (
    AT,
    LATER,
    attempt,
    body,
    dump,
    failure,
    job_record,
    numbered,
    opened_store,
    request,
    rows,
    settlement,
    state_of,
    success,
    take_in,
    write,
)

TABLES = ("requests", "inputs", "overrides", "attempts", "results", "job")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened_store(tmp_path / "jobs.db") as conn:
        yield conn


def on_lines(*requests: Request) -> list[Request]:
    """Return *requests* on lines 1, 2, ..."""
    return [given._replace(line=line) for line, given in enumerate(requests, 1)]


def answer(conn: sqlite3.Connection, custom_id: str) -> None:
    seq, attempts = conn.execute("SELECT seq, attempts FROM requests WHERE custom_id = ?", (custom_id,)).fetchone()
    tried = attempt(seq, attempts + 1)
    write(conn, Started(tried, 1, AT), Settled(settlement(tried, success(f"Answer to {custom_id}."))))


def fail(conn: sqlite3.Connection, custom_id: str) -> None:
    (seq,) = conn.execute("SELECT seq FROM requests WHERE custom_id = ?", (custom_id,)).fetchone()
    write(conn, Started(attempt(seq), 1, AT))
    write(conn, Settled(settlement(attempt(seq), failure(ErrorClass.INVALID), Fail())))


def lines_of(conn: sqlite3.Connection) -> dict[str, int | None]:
    return dict(conn.execute("SELECT custom_id, line FROM requests ORDER BY seq").fetchall())


def prompts(conn: sqlite3.Connection) -> dict[str, str]:
    """What each request would be sent with."""
    found = conn.execute("SELECT q.custom_id, i.params FROM requests q JOIN inputs i USING (seq) ORDER BY seq")
    return {custom_id: json.loads(params)["messages"][0]["content"] for custom_id, params in found}


def totals(conn: sqlite3.Connection) -> tuple[int, ...]:
    return tuple(conn.execute("SELECT requests, succeeded, failed, removed FROM job").fetchone())


# The first time.


def test_requests_are_taken_in_whole(conn: sqlite3.Connection) -> None:
    full = request("a", 3, body("Hi", stream=True), metadata={"k": "é"}, timeout_s=7.5)
    assert take_in(conn, [full, request("b", 9)]) == Imported(requests=2, new=2)
    columns = "seq, custom_id, line, line_hash, params_hash, model_class, state, attempts"
    assert rows(conn, f"SELECT {columns} FROM requests WHERE custom_id = 'a'") == [
        (1, "a", 3, full.line_hash, full.params_hash, "haiku-4-5", "pending", 0)
    ]
    assert rows(conn, "SELECT * FROM inputs WHERE seq = 1") == [(1, full.params, full.metadata, 16, 1, 7.5)]
    assert totals(conn) == (2, 0, 0, 0)
    assert rows(conn, "SELECT import_completed_at, simulated FROM job") == [(AT, 0)]


def test_more_than_a_chunk_is_numbered_through(conn: sqlite3.Connection) -> None:
    incoming = begin_import(conn, on_change=None)
    given = numbered(9)
    for start in range(0, 9, 2):
        incoming.add(given[start : start + 2])
    assert incoming.complete(job_record()).new == 9
    assert rows(conn, "SELECT seq, line FROM requests ORDER BY seq") == [(n, n) for n in range(1, 10)]


def test_identical_lines_without_ids_are_requests_of_their_own(conn: sqlite3.Connection) -> None:
    same = request(None, 1)
    imported = take_in(conn, on_lines(same, same, request("x", 3), same))
    assert (imported.requests, imported.merged) == (4, 0)
    derived = same.custom_id
    assert lines_of(conn) == {derived: 1, f"{derived}-2": 2, "x": 3, f"{derived}-3": 4}


def test_a_repeated_id_with_the_same_body_is_one_request(conn: sqlite3.Connection) -> None:
    imported = take_in(conn, on_lines(request("a", 1), request("b", 2, body("B")), request("a", 3)))
    assert (imported.requests, imported.new, imported.merged) == (2, 2, 1)
    assert lines_of(conn) == {"a": 1, "b": 2}
    assert rows(conn, "SELECT count(*) FROM inputs") == [(2,)]


def test_a_repeated_id_with_another_body_names_both_lines(conn: sqlite3.Connection) -> None:
    with pytest.raises(InputError, match="'a' on lines 1 and 3") as refused:
        take_in(conn, on_lines(request("a", 1), request("b", 2), request("a", 3, body("Else"))))
    assert refused.value.exit_code is Exit.USAGE
    assert rows(conn, "SELECT * FROM requests") == rows(conn, "SELECT * FROM job") == []


def test_many_repeated_ids_are_counted_and_some_are_named(conn: sqlite3.Connection) -> None:
    again = [r._replace(line=r.line + 30, params_hash="other") for r in numbered(30)]
    with pytest.raises(InputError, match=r"'r20' on lines 20 and 50 and 10 more\."):
        take_in(conn, [*numbered(30), *again])


def test_an_import_that_was_killed_counts_for_nothing(conn: sqlite3.Connection) -> None:
    """Chunks were committed, `import_completed_at` was not."""
    incoming = begin_import(conn, on_change=None)
    incoming.add(numbered(500))
    assert rows(conn, "SELECT count(*) FROM requests") == [(500,)]
    assert Queue(conn).last_line  # opening the queue does no harm
    imported = take_in(conn, numbered(3))
    assert imported == Imported(requests=3, new=3)
    assert lines_of(conn) == {"r1": 1, "r2": 2, "r3": 3}
    assert rows(conn, "SELECT seq FROM inputs") == [(1,), (2,), (3,)]


def test_a_first_import_that_was_rejected_leaves_no_rows_and_can_be_done_again(conn: sqlite3.Connection) -> None:
    empty = dump(conn, *TABLES)
    with pytest.raises(InputError):
        take_in(conn, on_lines(request("a", 1), request("a", 2, body("Else"))))
    assert dump(conn, *TABLES) == empty
    assert take_in(conn, numbered(2)).new == 2


def test_a_file_without_lines_is_a_job_without_requests(conn: sqlite3.Connection) -> None:
    assert take_in(conn, []) == Imported()
    assert take_in(conn, numbered(2)).new == 2


@pytest.mark.parametrize("end", ["complete", "abandon", "next import"])
def test_chunks_are_not_flushed_one_by_one_but_what_follows_is(tmp_path: Path, end: str) -> None:
    with contextlib.closing(open_owner(tmp_path / "jobs.db")) as conn:

        def synchronous() -> int:
            return int(conn.execute("PRAGMA synchronous").fetchone()[0])

        full = synchronous()
        incoming = begin_import(conn, on_change=None)
        incoming.add(numbered(3))
        assert synchronous() < full
        match end:
            case "complete":
                incoming.complete(job_record())
            case "abandon":
                incoming.abandon()
            case _:
                incoming.complete(job_record())
                take_in(conn, numbered(5))
        assert synchronous() == full


def test_the_indexes_stand_when_an_import_is_complete(conn: sqlite3.Connection) -> None:
    names = {sql.split("IF NOT EXISTS ")[1].split()[0] for sql in (*IMPORT_INDEXES, UNIQUE_ID_INDEX)}
    existing = "SELECT name FROM sqlite_schema WHERE type = 'index'"
    assert not names & {name for (name,) in conn.execute(existing)}
    take_in(conn, numbered(1))
    assert names <= {name for (name,) in conn.execute(existing)}


# Again, after an edit.


def test_the_same_file_again_changes_nothing(conn: sqlite3.Connection) -> None:
    same = request(None, 1)
    given = on_lines(request("a", 1), same, same, same, request("b", 5))
    take_in(conn, given)
    answer(conn, "a")
    before = dump(conn, *TABLES)
    assert take_in(conn, given) == Imported(requests=5)
    assert dump(conn, *TABLES) == before


def test_rows_put_on_top_move_the_others_and_send_nothing_again(conn: sqlite3.Connection) -> None:
    """The line number is no part of a request's identity."""
    take_in(conn, on_lines(request(None, 1, body("A")), request("b", 2, body("B"))))
    answer(conn, "b")
    imported = take_in(
        conn, on_lines(request(None, 1, body("Z")), request(None, 2, body("A")), request("b", 3, body("B")))
    )
    assert (imported.requests, imported.new, imported.removed) == (3, 1, 0)
    assert list(prompts(conn).values()) == ["A", "B", "Z"]
    assert list(lines_of(conn).values()) == [2, 3, 1]
    assert state_of(conn, "b") is State.SUCCEEDED


def test_rows_at_the_end_are_new_and_nothing_else_moves(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    answer(conn, "r1")
    before = rows(conn, "SELECT * FROM requests")
    assert take_in(conn, numbered(5)) == Imported(requests=5, new=2)
    assert rows(conn, "SELECT * FROM requests WHERE seq <= 3") == before
    assert totals(conn) == (5, 1, 0, 0)


def test_removed_rows_are_kept_and_not_sent_and_may_come_back(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(4))
    answer(conn, "r2")
    fail(conn, "r3")
    assert take_in(conn, numbered(1)) == Imported(requests=1, removed=3)
    assert lines_of(conn) == {"r1": 1, "r2": None, "r3": None, "r4": None}
    assert totals(conn) == (1, 0, 0, 3)
    assert rows(conn, "SELECT text FROM results") == [("Answer to r2.",)]
    assert take_in(conn, numbered(1)).removed == 0, "they are gone already"
    assert take_in(conn, numbered(4)) == Imported(requests=4)
    assert totals(conn) == (4, 1, 1, 0)
    assert state_of(conn, "r2") is State.SUCCEEDED


def test_three_identical_lines_growing_to_five_are_two_new_requests(conn: sqlite3.Connection) -> None:
    same = request(None, 1, body("Again"), metadata={"k": 1})
    derived = same.custom_id
    take_in(conn, on_lines(same, same, same))
    answer(conn, f"{derived}-2")
    imported = take_in(conn, on_lines(same, same, same, same, same))
    assert (imported.requests, imported.new) == (5, 2)
    assert lines_of(conn) == {derived: 1, f"{derived}-2": 2, f"{derived}-3": 3, f"{derived}-4": 4, f"{derived}-5": 5}
    assert set(prompts(conn).values()) == {"Again"}
    assert rows(conn, "SELECT DISTINCT metadata FROM inputs") == [('{"k": 1}',)]
    assert state_of(conn, f"{derived}-2") is State.SUCCEEDED
    assert take_in(conn, on_lines(same, same)) == Imported(requests=2, removed=3)


def test_identical_lines_under_new_defaults_are_all_changed(conn: sqlite3.Connection) -> None:
    """The lines are the same, what would be sent is not: the ids stay, the params do not."""
    old = request(None, 1, body("Again"))
    new = old._replace(params=old.params.replace("16", "99"), params_hash="new", max_tokens=99)
    take_in(conn, on_lines(old, old))
    answer(conn, old.custom_id)
    with pytest.raises(ChangedRequestsError):
        take_in(conn, on_lines(new, new, new))
    assert take_in(conn, on_lines(new, new, new), "keep") == Imported(
        requests=3, new=1, updated=1, kept=1, examples=[old.custom_id]
    )
    assert rows(conn, "SELECT max_tokens FROM inputs ORDER BY seq") == [(16,), (99,), (99,)]


def test_a_changed_request_that_was_never_sent_simply_takes_its_new_form(conn: sqlite3.Connection) -> None:
    take_in(conn, [request("a", 1), request("b", 2)])
    changed = request("a", 1, body("Better", model="claude-opus-4-8", stream=True, max_tokens=99), timeout_s=3.0)
    assert take_in(conn, [changed, request("b", 2)]) == Imported(requests=2, updated=1)
    assert rows(conn, "SELECT params, max_tokens, stream, timeout_s FROM inputs WHERE seq = 1") == [
        (changed.params, 99, 1, 3.0)
    ]
    assert rows(conn, "SELECT params_hash, line_hash, model_class FROM requests WHERE seq = 1") == [
        (changed.params_hash, changed.line_hash, "opus-4")
    ]


@pytest.mark.parametrize("at_stake", ["answered", "in flight when the run died", "timed out"])
def test_a_changed_request_that_was_or_may_have_been_answered_stops_the_import(
    conn: sqlite3.Connection, at_stake: str
) -> None:
    take_in(conn, numbered(3))
    match at_stake:
        case "answered":
            answer(conn, "r2")
        case "timed out":
            late = failure(possibly_paid=True)
            write(conn, Started(attempt(2), 1, AT), Settled(settlement(attempt(2), late, Retry(0.0), LATER)))
        case _:
            write(conn, Started(attempt(2), 1, AT))
    before = dump(conn, *TABLES)
    edited = [request("r2", 1, body("Else")), request("r1", 2, body("New form")), request("new", 3)]
    with pytest.raises(
        ChangedRequestsError, match=r"1 request that was answered, or may have been, .*: 'r2'\. .*--on-change"
    ) as refused:
        take_in(conn, edited)
    assert refused.value.exit_code is Exit.USAGE
    assert dump(conn, *TABLES) == before, "not even what was never sent has changed"


@pytest.mark.parametrize("decision", [Fail(), Retry(0.0)], ids=["failed", "waiting"])
def test_a_changed_request_without_an_answer_takes_its_new_form(
    conn: sqlite3.Connection, decision: Fail | Retry
) -> None:
    take_in(conn, numbered(3))
    not_before = LATER if isinstance(decision, Retry) else None
    write(conn, Started(attempt(2), 1, AT), Settled(settlement(attempt(2), failure(), decision, not_before)))
    mended = [numbered(3)[0], request("r2", 2, body("Mended")), numbered(3)[2]]
    assert take_in(conn, mended) == Imported(requests=3, updated=1)
    assert prompts(conn)["r2"] == "Mended"
    assert rows(conn, "SELECT state, budget_from, not_before FROM requests WHERE seq = 2") == [("pending", 1, None)]


def test_many_changed_requests_are_counted_up_to_a_bound(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(1100))
    for seq in range(1, 1101):
        write(conn, Started(attempt(seq), 1, AT), Settled(settlement(attempt(seq))))
    edited = [r._replace(params=r.params.replace("Say", "Sing"), params_hash="new") for r in numbered(1100)]
    with pytest.raises(
        ChangedRequestsError, match=r"more than 1,000 requests that were answered, or may have been, .*'r5', \.\.\.\. "
    ):
        take_in(conn, edited)
    with pytest.raises(ChangedRequestsError, match=r"^7 requests that were"):
        take_in(conn, [*edited[:7], *numbered(1100)[7:]])


def test_keep_leaves_what_was_sent_as_it_was(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(2))
    answer(conn, "r1")
    edited = [request("r1", 1, body("Else")), request("r2", 2, body("New form"))]
    assert take_in(conn, edited, "keep") == Imported(requests=2, updated=1, kept=1, examples=["r1"])
    assert prompts(conn) == {"r1": "Say 1.", "r2": "New form"}
    assert state_of(conn, "r1") is State.SUCCEEDED
    with pytest.raises(ChangedRequestsError):
        take_in(conn, edited)


def test_rerun_sends_what_changed_again_with_a_full_budget(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    answer(conn, "r1")
    fail(conn, "r2")
    edited = [request("r1", 1, body("Else")), request("r2", 2, body("Else too")), numbered(3)[2]]
    assert take_in(conn, edited, "rerun") == Imported(requests=3, updated=1, rerun=1, examples=["r1"])
    assert prompts(conn) == {"r1": "Else", "r2": "Else too", "r3": "Say 3."}
    columns = "state, attempts, budget_from, error_class, signature, error_message, not_before, finished_at"
    assert rows(conn, f"SELECT {columns} FROM requests WHERE seq < 3") == [("pending", 1, 1, *[None] * 5)] * 2
    assert totals(conn) == (3, 0, 0, 0)
    given = Queue(conn).claim(Claim("haiku-4-5", 0, LATER)).attempts
    assert [(tried.custom_id, tried.number, dict(tried.failures)) for tried in given] == [
        ("r1", 2, {}),
        ("r2", 2, {}),
        ("r3", 1, {}),
    ]
    assert take_in(conn, edited) == Imported(requests=3)


def test_rerun_drops_the_patches_of_what_it_replaces(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(2))
    for custom_id in ("r1", "r2"):
        fail(conn, custom_id)
    put_back(conn, Selection(patch={"max_tokens": 99}), at=AT)
    take_in(conn, [request("r1", 1, body("Else")), numbered(2)[1]], "rerun")
    assert rows(conn, "SELECT seq FROM overrides") == [(2,)]


def test_the_order_of_keys_is_no_change(conn: sqlite3.Connection) -> None:
    params = body("Hi", temperature=0.5)
    take_in(conn, [request("a", 1, params)])
    answer(conn, "a")
    turned = request("a", 1, dict(reversed(params.items())))
    assert turned.params_hash != request("a", 1, params).params_hash
    assert take_in(conn, [turned]) == Imported(requests=1)
    assert state_of(conn, "a") is State.SUCCEEDED


def test_new_metadata_is_taken_and_nothing_is_sent_again(conn: sqlite3.Connection) -> None:
    take_in(conn, [request("a", 1, metadata={"k": 1}), request("b", 2, metadata={"k": 1})])
    answer(conn, "a")
    imported = take_in(conn, [request("a", 1, metadata={"k": 2}, timeout_s=9.0), request("b", 2)])
    assert imported == Imported(requests=2)
    assert rows(conn, "SELECT metadata, timeout_s FROM inputs ORDER BY seq") == [('{"k": 2}', 9.0), (None, None)]
    assert state_of(conn, "a") is State.SUCCEEDED
    assert rows(conn, "SELECT line_hash FROM requests WHERE seq = 1") == [
        (request("a", 1, metadata={"k": 2}, timeout_s=9.0).line_hash,)
    ]


def test_new_metadata_is_taken_although_the_keys_of_the_body_were_sorted_too(conn: sqlite3.Connection) -> None:
    """A file written anew by another program has both."""
    params = body("Hi", temperature=0.5)
    take_in(conn, [request("a", 1, params, metadata={"k": 1})])
    answer(conn, "a")
    turned = request("a", 1, dict(sorted(params.items())), metadata={"k": 2})
    assert take_in(conn, [turned]) == Imported(requests=1)
    assert rows(conn, "SELECT metadata FROM inputs") == [('{"k": 2}',)]
    assert state_of(conn, "a") is State.SUCCEEDED


def test_a_repeated_id_is_found_in_a_later_import_too(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(2))
    before = dump(conn, *TABLES)
    with pytest.raises(InputError, match="'x' on lines 1 and 2"):
        take_in(conn, [request("x", 1), request("x", 2, body("Else"))])
    assert dump(conn, *TABLES) == before
    assert take_in(conn, on_lines(request("x", 1), request("x", 2))).merged == 1


def test_an_abandoned_later_import_leaves_everything_as_it_was(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    answer(conn, "r1")
    before = dump(conn, *TABLES)
    incoming = begin_import(conn, on_change="rerun")
    incoming.add([request("r1", 1, body("Else")), request("new", 2)])
    incoming.abandon()
    assert dump(conn, *TABLES) == before
    assert take_in(conn, numbered(3)) == Imported(requests=3)


# Any history of edits.

_ROWS = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c"]), st.sampled_from(["P", "Q"]), st.sampled_from([None, {"k": 1}])),
    max_size=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.tuples(_ROWS, st.sampled_from([None, "keep", "rerun"]), st.booleans()), min_size=1, max_size=4))
def test_whatever_is_edited_the_store_follows_the_file_or_refuses_it(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[list[tuple[str | None, str, None]], str | None, bool]]
) -> None:
    with opened_store(tmp_path_factory.mktemp("history") / "jobs.db") as conn:
        for given_rows, on_change, answered in history:
            lines = [
                request(custom_id, line, body(prompt), metadata=metadata)
                for line, (custom_id, prompt, metadata) in enumerate(given_rows, 1)
            ]
            before = dump(conn, *TABLES)
            try:
                imported = take_in(conn, lines, on_change)
            except InputError:
                assert dump(conn, *TABLES) == before
                continue
            check_against(conn, lines, imported, on_change)
            if answered:
                pending = "SELECT min(custom_id) FROM requests WHERE line IS NOT NULL AND state = 'pending'"
                custom_id = conn.execute(pending).fetchone()[0]
                if custom_id is not None:
                    answer(conn, custom_id)


def check_against(conn: sqlite3.Connection, lines: list[Request], imported: Imported, on_change: str | None) -> None:
    held = [line for line in lines_of(conn).values() if line is not None]
    assert len(held) == len(set(held)) == len(lines) - imported.merged == imported.requests == totals(conn)[0]
    assert rows(conn, "SELECT seq FROM requests ORDER BY 1") == rows(conn, "SELECT seq FROM inputs ORDER BY 1")
    assert len(set(lines_of(conn))) == rows(conn, "SELECT count(*) FROM requests")[0][0]
    assert totals(conn)[1] == rows(conn, "SELECT count(*) FROM requests WHERE line > 0 AND state = 'succeeded'")[0][0]
    if on_change == "keep":
        return
    now = {line.line: json.loads(line.params)["messages"][0]["content"] for line in lines}
    for custom_id, line in lines_of(conn).items():
        assert line is None or prompts(conn)[custom_id] == now[line]

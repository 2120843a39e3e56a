"""Choosing rows: putting failed requests back, totals of a selection, and whom a store belongs to."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass, Fail
from batchrunner.store.changes import Settled, Started
from batchrunner.store.imports import begin_import
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.selection import Selection, Totals, claim_for, put_back, totals
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
    take_in,
    write,
)

TABLES = ("requests", "inputs", "overrides", "attempts", "results", "job")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Six requests: r1 succeeded, r2 and r3 truncated, r4 invalid, r5 pending, r6 truncated and no longer in the file."""
    with opened_store(tmp_path / "jobs.db") as conn:
        take_in(conn, numbered(6))
        write(conn, Started(attempt(1), 1, AT), Settled(settlement(attempt(1))))
        for seq, error_class in ((2, "truncated"), (3, "truncated"), (4, "invalid"), (6, "truncated")):
            write(conn, Started(attempt(seq), 1, AT))
            write(conn, Settled(settlement(attempt(seq), failure(ErrorClass(error_class)), Fail())))
        take_in(conn, numbered(5))
        yield conn


def pending(conn: sqlite3.Connection) -> list[str]:
    return [name for (name,) in rows(conn, "SELECT custom_id FROM requests WHERE state = 'pending' ORDER BY seq")]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["r2", "r3", "r4"]),
        (Selection(classes={"truncated"}), ["r2", "r3"]),
        (Selection(classes={"truncated", "invalid"}), ["r2", "r3", "r4"]),
        (Selection(classes={"server"}), []),
        (Selection(ids={"r3"}), ["r3"]),
        (Selection(ids={"r3", "r4", "r1", "r5"}), ["r3", "r4"]),
        (Selection(classes={"invalid"}, ids={"r3", "r4"}), ["r4"]),
        (Selection(ids={"r6"}), []),
    ],
)
def test_what_is_selected_and_failed_is_put_back(
    conn: sqlite3.Connection, selection: Selection, expected: list[str]
) -> None:
    assert put_back(conn, selection, at=LATER) == len(expected)
    assert pending(conn) == sorted([*expected, "r5"])
    failed = 3 - len(expected)
    assert rows(conn, "SELECT requests, succeeded, failed, removed FROM job") == [(5, 1, failed, 1)]


def test_what_is_put_back_is_due_at_once_with_a_full_budget(conn: sqlite3.Connection) -> None:
    put_back(conn, Selection(ids={"r2"}), at=LATER)
    columns = "state, attempts, budget_from, not_before, finished_at"
    assert rows(conn, f"SELECT {columns} FROM requests WHERE custom_id = 'r2'") == [("pending", 1, 1, None, None)]
    again = Queue(conn).claim(Claim("haiku-4-5", 0, AT)).attempts[0]
    assert (again.custom_id, again.number, dict(again.failures)) == ("r2", 2, {})


def test_a_patch_is_laid_over_the_params_which_stay_on_record(conn: sqlite3.Connection) -> None:
    given = rows(conn, "SELECT params FROM inputs ORDER BY seq")
    put_back(conn, Selection(classes={"truncated"}, patch={"max_tokens": 99, "system": "Be é brief."}), at=LATER)
    assert rows(conn, "SELECT params FROM inputs ORDER BY seq") == given
    assert rows(conn, "SELECT seq, created_at FROM overrides ORDER BY seq") == [(2, LATER), (3, LATER)]
    claimed = {tried.custom_id: tried for tried in Queue(conn).claim(Claim("haiku-4-5", 0, AT)).attempts}
    assert json.loads(claimed["r2"].params) == body("Say 2.", max_tokens=99, system="Be é brief.")
    assert claimed["r2"].max_tokens == 99
    assert json.loads(claimed["r5"].params) == body("Say 5.")


def test_a_patched_model_moves_to_its_own_lane(conn: sqlite3.Connection) -> None:
    put_back(conn, Selection(ids={"r2"}, patch={"model": "claude-opus-4-8"}), at=LATER)
    assert Queue(conn).model_classes() == ["haiku-4-5", "opus-4"]
    (moved,) = Queue(conn).claim(Claim("opus-4", 0, AT)).attempts
    assert (moved.custom_id, json.loads(moved.params)["model"]) == ("r2", "claude-opus-4-8")


def test_a_patch_holds_when_the_same_file_is_taken_in_again(conn: sqlite3.Connection) -> None:
    put_back(conn, Selection(ids={"r2"}, patch={"model": "claude-opus-4-8", "max_tokens": 99}), at=LATER)
    take_in(conn, [request("new", 1, body("On top")), *(r._replace(line=r.line + 1) for r in numbered(5))])
    (moved,) = Queue(conn).claim(Claim("opus-4", 0, AT)).attempts
    assert (moved.custom_id, moved.max_tokens) == ("r2", 99)


def test_an_unknown_id_is_named_and_nothing_is_put_back(conn: sqlite3.Connection) -> None:
    before = dump(conn, *TABLES)
    with pytest.raises(UsageError, match=r"No request has the id 'R3', 'nope'\."):
        put_back(conn, Selection(ids={"nope", "r3", "R3"}, patch={"max_tokens": 9}), at=LATER)
    assert dump(conn, *TABLES) == before


def test_a_thousand_ids_are_no_more_than_one(conn: sqlite3.Connection) -> None:
    """They are bound as one value, so no limit on parameters applies."""
    with pytest.raises(UsageError, match=r"'x0', 'x1', 'x10', 'x100', 'x1000'\."):
        put_back(conn, Selection(ids={f"x{n}" for n in range(40_000)}), at=LATER)


def test_putting_back_twice_finds_nothing_the_second_time(conn: sqlite3.Connection) -> None:
    assert [put_back(conn, Selection(), at=LATER) for _ in range(2)] == [3, 0]


# Totals.


def test_totals_speak_of_the_lines_of_the_latest_input(conn: sqlite3.Connection) -> None:
    assert totals(conn) == Totals(requests=5, succeeded=1, failed=3)
    assert totals(conn).pending == 1


@pytest.mark.parametrize(
    ("last_line", "expected"),
    [(0, Totals()), (1, Totals(1, 1, 0)), (3, Totals(3, 1, 2)), (5, Totals(5, 1, 3)), (2**62, Totals(5, 1, 3))],
)
def test_totals_of_the_first_lines_are_counted(conn: sqlite3.Connection, last_line: int, expected: Totals) -> None:
    assert totals(conn, last_line) == expected


def test_a_store_without_a_job_has_nothing_to_count(tmp_path: Path) -> None:
    with opened_store(tmp_path / "empty.db") as conn:
        assert totals(conn) == totals(conn, 7) == Totals()


# Real and simulated answers.


@pytest.mark.parametrize("simulated", [False, True])
def test_real_and_simulated_answers_never_share_a_store(tmp_path: Path, simulated: bool) -> None:
    path = tmp_path / "jobs.db"
    with opened_store(path) as conn:
        claim_for(conn, simulated=simulated, store=path)
        incoming = begin_import(conn, on_change=None)
        incoming.add(numbered(1))
        incoming.complete(job_record(simulated=simulated))
        write(conn, Started(attempt(1), 1, AT))
        claim_for(conn, simulated=simulated, store=path)
        with pytest.raises(UsageError, match=r"jobs\.db holds .* answers; .* needs a store of its own") as refused:
            claim_for(conn, simulated=not simulated, store=path)
    assert ("real" if not simulated else "simulated") + " answers" in str(refused.value)


def test_a_store_without_attempts_changes_sides(tmp_path: Path) -> None:
    with opened_store(tmp_path / "jobs.db") as conn:
        take_in(conn, numbered(1))
        for simulated in (True, False):
            claim_for(conn, simulated=simulated, store=tmp_path)
            assert rows(conn, "SELECT simulated FROM job") == [(simulated,)]

"""The judge of all fault tests, judged: each invariant must be seen to be broken."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrunner.simulator.answers import body_sha256
from batchrunner.simulator.ledger import read_lines
from faults.endpoint import Endpoint, endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import Place, nursery, place
from running import KEY

Case = tuple[Place, Endpoint]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("finished")
    where = place(folder, ["One", "Two", "[[sim:400]] Three"])
    with nursery() as runs, endpoint(folder / "endpoint") as served:
        assert runs.run(where, served.url, concurrency=2).finish() == 1
        served.settle()
    return where, served


@pytest.fixture
def case(finished: Case, tmp_path: Path) -> Case:
    """The finished job and its ledger, to be tampered with."""
    where, served = finished
    copy = Place(tmp_path / "run" / "jobs.jsonl", tmp_path / "out")
    copy.job.parent.mkdir()
    copy.out.mkdir()
    copy.job.write_bytes(where.job.read_bytes())
    copy.store.write_bytes(where.store.read_bytes())
    for one, other in ((where.stdout, copy.stdout), (where.stderr, copy.stderr)):
        other.write_bytes(one.read_bytes())
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_bytes(served.ledger.read_bytes())
    served_copy = object.__new__(Endpoint)
    served_copy.ledger = ledger
    return copy, served_copy


def judge(case: Case, **changes: Any) -> Verdict:
    where, served = case
    given: dict[str, Any] = {"saved": where.saved(), "kills": 1, "slots": 1, "outputs": where.outputs}
    return check_invariants(where.job, ledger=served.ledger, **(given | changes))


def change(case: Case, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(case[0].store, isolation_level=None)) as conn:
        conn.execute("PRAGMA ignore_check_constraints = ON")
        conn.execute(statement)


def charge(case: Case, times: int, *, body: str | None = None) -> None:
    """Let the ledger say that an answer was paid for so often again."""
    end = next(line for line in read_lines(case[1].ledger) if line["event"] == "end" and line["paid"])
    with case[1].ledger.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(end | ({"body": body} if body else {})) + "\n" for _ in range(times))


def leave_open(case: Case) -> None:
    """Put an attempt without an end on record, of the request that `charge` charges for."""
    paid = next(line["body"] for line in read_lines(case[1].ledger) if line["event"] == "end" and line["paid"])
    with contextlib.closing(sqlite3.connect(case[0].store)) as conn:
        inputs = conn.execute("SELECT seq, params FROM inputs").fetchall()
    (seq,) = (seq for seq, params in inputs if body_sha256(params.encode()) == paid)
    change(
        case, f"INSERT INTO attempts (seq, number, run_id, lane, started_at) VALUES ({seq}, 9, 1, 'haiku-4-5', '2026')"
    )


def spoil_an_index(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'custom_id)', 'line_hash)') WHERE name = 'requests_custom_id'"
        )


def test_a_finished_job_holds(case: Case) -> None:
    assert judge(case) == Verdict(requests=3, acknowledged=3, paid=2, paid_twice=0, in_vain=0, listed=0, kills=1)


def test_what_was_paid_for_again_and_listed_holds(case: Case) -> None:
    charge(case, 1)
    leave_open(case)
    verdict = judge(case)
    assert (verdict.paid_twice, verdict.in_vain, verdict.listed) == (1, 1, 1)


BROKEN: dict[str, tuple[str, Callable[[Case], object]]] = {
    "a_row_is_missing": ("I1", lambda case: change(case, "DELETE FROM requests WHERE seq = 2")),
    "a_request_is_not_final": (
        "I1",
        lambda case: change(case, "UPDATE requests SET state = 'pending', finished_at = NULL WHERE seq = 1"),
    ),
    "a_state_of_its_own": ("I1", lambda case: change(case, "UPDATE requests SET state = 'running' WHERE seq = 1")),
    "an_answer_is_another's": ("I2", lambda case: change(case, "UPDATE results SET text = 'Answer' WHERE seq = 1")),
    "an_answer_is_gone": ("I2", lambda case: change(case, "DELETE FROM results WHERE seq = 2")),
    "what_was_saved_has_failed": ("I3", lambda case: case[0].stdout.write_text("r2 succeeded\n")),
    "what_was_saved_is_unknown": ("I3", lambda case: case[0].stdout.write_text("r17 succeeded\n")),
    "paid_again_and_not_listed": ("I4", lambda case: charge(case, 1)),
    "paid_for_what_is_not_there": ("I4", lambda case: charge(case, 1, body="0" * 64)),
    "the_totals_are_wrong": ("I5", lambda case: change(case, "UPDATE job SET succeeded = 3")),
    "the_failures_are_wrong": ("I5", lambda case: change(case, "UPDATE failure_groups SET failed = 0")),
    "an_index_is_wrong": ("I5", lambda case: spoil_an_index(case[0].store)),
    "the_key_is_in_the_store": ("I6", lambda case: change(case, f"UPDATE runs SET reason = 'x{KEY}'")),
    "the_key_is_in_the_output": ("I6", lambda case: case[0].stderr.write_text(f"key: {KEY}")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_invariant_is_seen(name: str, case: Case) -> None:
    which, break_it = BROKEN[name]
    break_it(case)
    with pytest.raises(AssertionError, match=which):
        judge(case)


def test_more_in_vain_than_was_in_flight_is_seen(case: Case) -> None:
    charge(case, 1)
    leave_open(case)
    with pytest.raises(AssertionError, match="I4"):
        judge(case, kills=0)


def test_the_key_in_a_text_is_seen(case: Case) -> None:
    with pytest.raises(AssertionError, match="I6"):
        judge(case, outputs=[f"export ANTHROPIC_API_KEY={KEY}"])

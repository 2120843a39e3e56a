"""Identical requests are sent once, and each has its answer: at once, later, after a kill, and when it fails."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchrunner.model import ErrorClass, Fail, Retry
from batchrunner.policy.sampling import Sampling
from batchrunner.policy.sharing import Sharing
from batchrunner.report import Report
from batchrunner.settings import RunSettings
from batchrunner.store.changes import Settled, Started
from batchrunner.store.queue import Claim, Queue
from batchrunner.store.selection import Selection, put_back
from batchrunner.store.sharing import Paired, pair_up, share_known, unpair
from builders import (
    AT,
    LANE,
    LATER,
    body,
    failure,
    opened_store,
    request,
    rows,
    run_on,
    settlement,
    success,
    take_in,
    write,
)
from running import (
    KEY,
    MODEL,
    RunningCommand,
    WatchedLedger,
    command,
    job_file,
    run_job,
    simulator,
    simulator_thread,
)
from running import rows as stored
from store_helpers import report, typed

ALL = 2**62
TWINS = [request(name, line, body(text)) for line, (name, text) in enumerate(zip("abcd", "xyxx", strict=True), 1)]
DEDUPE = RunSettings(sharing=Sharing(dedupe=True))


def due(conn: Any) -> list[str]:
    return [attempt.custom_id for attempt in Queue(conn).claim(Claim(LANE, 0, LATER)).attempts]


def claimed(conn: Any, custom_id: str) -> Any:
    attempts = Queue(conn).claim(Claim(LANE, 0, LATER)).attempts
    return next(attempt for attempt in attempts if attempt.custom_id == custom_id)


def settle(conn: Any, custom_id: str, outcome: Any = None, decision: Any = None) -> Settled:
    tried = claimed(conn, custom_id)
    change = Settled(settlement(tried, outcome, decision))
    write(conn, Started(tried, run_on(conn), AT), change)
    return change


def flat(conn: Any) -> list[tuple[Any, ...]]:
    return rows(
        conn, "SELECT custom_id, status, text, attempts, cost_usd, deduplicated_of FROM results_flat ORDER BY line"
    )


def test_of_identical_requests_the_first_is_sent_and_the_others_get_its_answer(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        assert pair_up(conn, last_line=ALL, at=AT) == Paired(0, 2)
        assert due(conn) == ["a", "b"]
        assert list(settle(conn, "a").followers) == [3, 4]
        assert flat(conn) == [
            ("a", "succeeded", "Hello.", 1, None, None),
            ("b", "pending", None, 0, None, None),
            ("c", "succeeded", "Hello.", 0, 0.0, "a"),
            ("d", "succeeded", "Hello.", 0, 0.0, "a"),
        ]
        assert rows(conn, "SELECT succeeded, failed FROM job") == [(3, 0)]
        assert rows(conn, "SELECT count(*) FROM attempts") == [(1,)]
        assert rows(conn, "SELECT count(DISTINCT message), count(*) FROM results") == [(1, 3)]


def test_a_retry_of_the_first_keeps_the_others_waiting_and_its_end_decides(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        assert not settle(conn, "a", failure(), Retry(0.0)).followers
        assert due(conn) == ["a", "b"]
        assert list(settle(conn, "a", failure(ErrorClass.INVALID, "No."), Fail()).followers) == [3, 4]
        found = rows(conn, "SELECT state, error_class, error_message, finished_at FROM requests WHERE seq <> 2")
        assert found == [("failed", "invalid", "No.", AT)] * 3
        assert rows(conn, "SELECT failed FROM job") == [(3,)]
        assert rows(conn, "SELECT failed FROM failure_groups") == [(3,)]


def test_an_answer_that_is_not_accepted_is_kept_for_the_others_too(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        cut = failure(ErrorClass.TRUNCATED, "Cut.", answer=success("Half"))
        settle(conn, "a", cut, Fail())
        assert [(row[1], row[2]) for row in flat(conn) if row[0] != "b"] == [("failed", "Half")] * 3


def test_what_was_answered_before_is_not_sent_again_for_a_new_twin(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS[:2])
        settle(conn, "a")
        take_in(conn, TWINS)
        assert pair_up(conn, last_line=ALL, at=AT) == Paired(2, 0)
        assert due(conn) == ["b"]
        assert rows(conn, "SELECT succeeded FROM job") == [(3,)]
        assert [row[2] for row in flat(conn)] == ["Hello.", None, "Hello.", "Hello."]
        assert pair_up(conn, last_line=ALL, at=AT) == Paired(0, 0)


def test_a_copy_names_the_request_that_was_answered_even_if_its_line_is_gone(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS[:3])
        pair_up(conn, last_line=ALL, at=AT)
        settle(conn, "a")
        take_in(conn, TWINS[1:])  # without a; of its answer c has a copy
        assert pair_up(conn, last_line=ALL, at=AT) == Paired(1, 0)
        named = rows(conn, "SELECT custom_id, deduplicated_of FROM results_flat WHERE deduplicated_of IS NOT NULL")
        assert named == [("c", "a"), ("d", "a")]


def test_an_answer_that_came_another_way_is_shared_in_the_end(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        tried = replace(claimed(conn, "a"), answers_others=False)
        write(conn, Started(tried, run_on(conn), AT), Settled(settlement(tried)))
        assert share_known(conn, at=AT) == 2
        assert share_known(conn, at=AT) == 0
        assert rows(conn, "SELECT succeeded FROM job") == [(3,)]
        assert [row[2] for row in flat(conn)] == ["Hello.", None, "Hello.", "Hello."]


def test_what_sits_in_a_batch_is_waited_for_and_does_not_wait_itself(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        conn.execute("UPDATE requests SET batch_id = 7 WHERE custom_id IN ('b', 'd')")
        assert pair_up(conn, last_line=ALL, at=AT) == Paired(0, 2)
        assert due(conn) == []
        pairs = rows(conn, "SELECT custom_id, answered_by FROM requests WHERE answered_by IS NOT NULL ORDER BY seq")
        assert pairs == [("a", 4), ("c", 4)]


def test_a_run_without_it_sends_each(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        unpair(conn)
        assert due(conn) == ["a", "b", "c", "d"]


def test_pairs_are_made_within_the_lines_that_are_worked_on(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        assert pair_up(conn, last_line=3, at=AT) == Paired(0, 1)
        assert due(conn) == ["a", "b", "d"]


def test_the_first_is_gone_from_the_file_so_another_is_sent(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        take_in(conn, TWINS[1:])
        pair_up(conn, last_line=ALL, at=AT)
        assert due(conn) == ["b", "c"]


@pytest.mark.parametrize("patch", [{}, {"max_tokens": 99}], ids=["unchanged", "changed alike"])
def test_failed_twins_are_put_back_and_paired_again(tmp_path: Path, patch: dict[str, int]) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        settle(conn, "a", failure(ErrorClass.SERVER), Fail())
        assert put_back(conn, Selection(patch=patch), at=AT) == 3
        assert due(conn) == ["a", "b", "c", "d"]
        pair_up(conn, last_line=ALL, at=AT)
        assert due(conn) == ["a", "b"]
        settle(conn, "a")
        assert [row[1] for row in flat(conn)] == ["succeeded", "pending", "succeeded", "succeeded"]


def test_one_that_is_changed_for_itself_is_sent_itself(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        settle(conn, "a", failure(ErrorClass.SERVER), Fail())
        put_back(conn, Selection(ids=["c"], patch={"max_tokens": 99}), at=AT)
        put_back(conn, Selection(ids=["a", "d"]), at=AT)
        pair_up(conn, last_line=ALL, at=AT)
        assert due(conn) == ["a", "b", "c"]


def test_a_line_that_changes_loses_the_copy_and_is_sent(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, TWINS)
        pair_up(conn, last_line=ALL, at=AT)
        settle(conn, "a")
        changed = [*TWINS[:2], request("c", 3, body("z")), TWINS[3]]
        take_in(conn, changed, on_change="rerun")
        pair_up(conn, last_line=ALL, at=AT)
        assert due(conn) == ["b", "c"]
        assert flat(conn)[2] == ("c", "pending", None, 0, None, None)
        assert flat(conn)[3][1:] == ("succeeded", "Hello.", 0, 0.0, "a")


# Whole runs.


async def run_twins(path: Path, settings: RunSettings, **job: Any) -> tuple[Report, WatchedLedger]:
    async with simulator() as (url, ledger):
        return await run_job(path, url, settings, **job), ledger


@pytest.mark.anyio
async def test_a_run_sends_each_once_counts_all_and_exports_whose_answer_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    path = job_file(tmp_path / "jobs.jsonl", ["One", "Two", "One", "One", "[[sim:400]] No", "[[sim:400]] No"])
    done, ledger = await run_twins(path, DEDUPE)
    assert ledger.arrivals == 3
    assert (done.totals.succeeded, done.totals.failed, done.counts.sent) == (4, 2, 3)
    assert (done.counts.succeeded, done.counts.failed, done.counts.followed) == (4, 2, 3)
    assert done.as_record()["deduplicated"] == 3
    store = path.with_suffix(".db")
    out = typed("export", store, "-o", "-", "--format", "csv").stdout
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["deduplicated_of"] for row in table] == ["", "", "r0", "r0", "", "r4"]
    assert len({row["text"] for row in table[:4]}) == 2
    assert report("status", store)["pending"] == 0


@pytest.mark.anyio
async def test_a_sample_is_sent_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    path = job_file(tmp_path / "jobs.jsonl", ["One", "One", "One"])
    few = RunSettings(sharing=Sharing(dedupe=True), sampling=Sampling(ids=["r1", "r2"]))
    done, ledger = await run_twins(path, few)
    assert (ledger.arrivals, done.totals.pending) == (2, 0)
    done, ledger = await run_twins(path, DEDUPE)
    assert (ledger.arrivals, done.paired) == (0, Paired(1, 0))
    assert done.totals.succeeded == 3


@pytest.mark.anyio
async def test_without_a_run_that_deduplicates_there_is_no_such_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    path = job_file(tmp_path / "jobs.jsonl", ["One", "One"])
    _, ledger = await run_twins(path, RunSettings())
    assert ledger.arrivals == 2
    assert "deduplicated_of" not in typed("export", path.with_suffix(".db"), "-o", "-", "--format", "csv").stdout


@pytest.mark.anyio
async def test_a_run_that_was_stopped_between_goes_on_without_sending_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i % 10}" for i in range(100)])
    store = path.with_suffix(".db")
    first = RunSettings(sharing=Sharing(dedupe=True), first=5)
    _, ledger = await run_twins(path, first)
    assert ledger.arrivals == 5
    with opened_store(store) as conn:  # what a kill leaves behind: pairs without an end
        pair_up(conn, last_line=ALL, at=AT)
    done, ledger = await run_twins(path, DEDUPE)
    assert ledger.arrivals == 5
    assert done.totals.succeeded == 100
    assert stored(store, "SELECT count(*) FROM attempts") == [(10,)]


def test_a_run_that_is_killed_goes_on_with_it_and_sends_again_only_what_was_in_flight(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i % 60}" for i in range(240)])
    store = path.with_suffix(".db")
    with simulator_thread("latency=0.05..0.3,seed=2") as (url, ledger):
        options = ("--model", MODEL, "-j", "8", "--progress", "plain", "--dedupe")
        run = RunningCommand("run", path.name, *options, url=url, cwd=tmp_path)
        ledger.wait_until(lambda ledger: ledger.ends >= 20)
        run.kill()
        ((done, sent),) = stored(store, "SELECT sum(state = 'succeeded'), sum(attempts > 0) FROM requests")
        assert done > sent > 0
        last = command("resume", path.name, url=url, cwd=tmp_path)
        assert last.code == 0, last.stderr
        assert sum(ledger.paid.values()) <= 60 + 8
    assert "not sent, as an identical request has the answer (--dedupe)" in last.stderr
    assert stored(store, "SELECT succeeded, failed FROM job") == [(240, 0)]
    answers = stored(store, "SELECT count(DISTINCT text), count(*) FROM results_flat WHERE deduplicated_of IS NOT NULL")
    assert answers == [(60, 180)]
    assert stored(store, "SELECT count(*) FROM results") == [(240,)]


def test_another_run_need_not_go_on_with_it(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["One", "One", "Two"])
    with simulator_thread() as (url, ledger):
        options = ("--model", MODEL, "--dedupe", "--no-prime", "-n", "1")
        assert command("run", path.name, *options, url=url, cwd=tmp_path).code == 0
        assert command("resume", path.name, "--no-dedupe", url=url, cwd=tmp_path).code == 0
        assert ledger.arrivals == 3
    kept = stored(
        path.with_suffix(".db"),
        "SELECT json_extract(settings, '$.dedupe'), json_extract(settings, '$.prime') FROM runs ORDER BY id",
    )
    assert kept == [(1, 0), (0, 0)]


def test_show_says_whose_answer_a_copy_is_and_what_it_says(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["Twice the same"] * 2)
    command("run", path.name, "--model", MODEL, "--dedupe", "--simulate", cwd=tmp_path, key=None)
    (first, second) = (
        name for (name,) in stored(path.with_suffix(".db"), "SELECT custom_id FROM requests ORDER BY seq")
    )
    shown = typed("show", path, second).stdout
    assert f"identical  to {first}, which is sent in its place" in shown
    assert "answer   accepted; end_turn" in shown
    assert report("show", path, second)["deduplicated_of"] == first
    assert "identical" not in typed("show", path, first).stdout

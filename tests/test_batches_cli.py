"""The second route on the command line: leaving, coming back, listing, cancelling, moving."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batching import created, sitting, states
from batchrunner.errors import Exit
from faults.commands import until
from running import MODEL, RunningCommand, command, job_file, paid_extra, rows, simulator_thread
from store_helpers import report

SLOW = "latency=0,batch_s=120,batch_cancel_s=0.05"
BY_BATCHES = ("run", "jobs.jsonl", "--model", MODEL, "--route", "batches", "--batch-size", "40", "--poll", "0.1")


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    RunningCommand.end_all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    job_file(tmp_path / "jobs.jsonl", [f"question {n}" for n in range(100)])
    return tmp_path


def listed(folder: Path, url: str, *more: str) -> list[dict[str, Any]]:
    done = command("batches", "jobs.jsonl", "--json", *more, url=url, cwd=folder)
    assert done.code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["batches"]
    return found


def test_ctrl_c_leaves_the_batches_to_the_api_and_says_how_to_cancel_them(folder: Path) -> None:
    with simulator_thread(SLOW) as (url, ledger):
        run = RunningCommand(*BY_BATCHES, url=url, cwd=folder)
        ledger.wait_until(lambda ledger: created(ledger) == 3)
        until(lambda: states(folder / "jobs.db") == {"in_progress": 3}, "the answers are on record")
        run.signal(signal.SIGINT)
        run.finish()
        assert run.code == Exit.INTERRUPTED
        assert "3 batches go on at the API, with 100 requests" in run.stderr
        assert "batchrunner resume" in run.stderr
        assert "--cancel" in run.stderr
        assert states(folder / "jobs.db") == {"in_progress": 3}
        assert [batch["sitting"] for batch in listed(folder, url)] == [40, 40, 20]

        cancelled = command("batches", "jobs.jsonl", "--cancel", url=url, cwd=folder)
        assert cancelled.code == 0, cancelled.stderr
        assert states(folder / "jobs.db").keys() <= {"canceling", "ended"}
        live = command("run", "jobs.jsonl", "--model", MODEL, "--route", "live", url=url, cwd=folder)
        assert live.code == Exit.USAGE
        assert "paid twice" in live.stderr
        moved = command("move", "jobs.jsonl", "--to", "live", "--poll", "0.1", url=url, cwd=folder)
        assert moved.code == Exit.OK, moved.stderr
        assert paid_extra(folder / "jobs.db", ledger) == {}
    assert rows(folder / "jobs.db", "SELECT succeeded FROM job") == [(100,)]


def test_submit_list_poll_and_collect(folder: Path) -> None:
    with simulator_thread("latency=0,batch_s=0.3") as (url, ledger):
        left = command(*BY_BATCHES, "--submit-only", url=url, cwd=folder)
        assert left.code == Exit.OK, left.stderr
        assert "3 batches go on at the API" in left.stderr
        ledger.wait_until(lambda ledger: len(ledger.batch_rows) == 100)
        found = listed(folder, url, "--poll")
        assert {batch["state"] for batch in found} == {"ended"}
        assert {batch["succeeded"] for batch in found} == {40, 20}
        shown = command("batches", "jobs.jsonl", url=url, cwd=folder).stdout
        assert "100 requests in open batches" in shown
        again = command("resume", "jobs.jsonl", "--progress", "json", url=url, cwd=folder)
        assert again.code == Exit.OK, again.stderr
        end = json.loads(again.stderr.splitlines()[-1])
        assert (end["succeeded"], end["at_api"]) == (100, {"batches": 0, "requests": 0})
        assert created(ledger) == 3


def test_batches_that_are_out_of_reach_can_be_forgotten(folder: Path) -> None:
    with simulator_thread(SLOW) as (url, _):
        assert command(*BY_BATCHES, "--submit-only", url=url, cwd=folder).code == Exit.OK
    with simulator_thread("latency=0,batch_s=0.1") as (url, _):
        lost = command("resume", "jobs.jsonl", "--poll", "0.1", url=url, cwd=folder)
        assert lost.code == Exit.HALTED
        assert "--forget" in lost.stderr
        assert command("batches", "jobs.jsonl", "--forget", url=url, cwd=folder).code == Exit.OK
        assert sitting(folder / "jobs.db") == 0
        listed = report("status", folder / "jobs.db", "--possible-duplicates")["possible_duplicate_attempts"]
        assert len(listed) == 100, "they may be paid for twice, so they are listed"
        assert command("resume", "jobs.jsonl", "--poll", "0.1", url=url, cwd=folder).code == Exit.OK


def test_an_endpoint_without_batches_ends_with_2(folder: Path) -> None:
    with simulator_thread("latency=0,batches=0") as (url, _):
        done = command(*BY_BATCHES, url=url, cwd=folder)
    assert done.code == Exit.USAGE
    assert "no Message Batches API" in done.stderr
    assert rows(folder / "jobs.db", "SELECT requests, succeeded, failed FROM job") == [(100, 0, 0)]


def test_nothing_to_list_is_no_error(folder: Path) -> None:
    with simulator_thread("latency=0") as (url, _):
        assert command("run", "jobs.jsonl", "--model", MODEL, "-n", "1", url=url, cwd=folder).code == Exit.OK
        assert listed(folder, url) == []
        assert "No batch" in command("batches", "jobs.jsonl", url=url, cwd=folder).stdout
        wrong = command("batches", "jobs.jsonl", "--id", "x", url=url, cwd=folder)
    assert wrong.code == Exit.USAGE

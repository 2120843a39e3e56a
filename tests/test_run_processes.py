"""Runs as processes: killed, interrupted, locked out, read while they write."""

import contextlib
import csv
import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.errors import Exit
from running import MODEL, RunningCommand, command, job_file, paid_extra, right_answers, rows, simulator_thread

SLOTS = 20


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    RunningCommand.end_all()


def start(path: Path, url: str, *options: str) -> RunningCommand:
    return RunningCommand(
        "run", path.name, "--model", MODEL, "-j", str(SLOTS), "--progress", "plain", *options, url=url, cwd=path.parent
    )


def export(path: Path) -> list[dict[str, str]]:
    done = command("export", path.name, "-f", "-o", "out.csv", cwd=path.parent)
    assert done.code == 0, done.stderr
    with (path.parent / "out.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def possible_duplicates(path: Path) -> Counter[str]:
    done = command("status", path.name, "--possible-duplicates", "--json", cwd=path.parent)
    assert done.code == 0, done.stderr
    return Counter(entry["custom_id"] for entry in json.loads(done.stdout)["possible_duplicate_attempts"])


@pytest.mark.slow
def test_killed_runs_lose_nothing_and_pay_twice_only_for_what_was_in_flight(tmp_path: Path) -> None:
    chance = random.Random(7)
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(600)])
    saved: set[str] = set()
    kills = 4
    with simulator_thread("latency=0.05..0.3,500=0.02,seed=2") as (url, ledger):
        for _ in range(kills):
            ends = ledger.ends
            run = start(path, url)
            after = ends + chance.randint(SLOTS, 5 * SLOTS)
            ledger.wait_until(lambda ledger, after=after: ledger.ends >= after)  # type: ignore[misc]
            run.kill()
            now = set(rows(path.with_suffix(".db"), "SELECT custom_id FROM requests WHERE state = 'succeeded'"))
            assert saved <= now
            saved = now
        last = start(path, url).finish()
        assert last.code == 0, last.stderr
        extra = paid_extra(path.with_suffix(".db"), ledger)
    assert saved, "no kill came after a commit"
    assert extra, "no kill hit a call in flight"
    assert sum(extra.values()) <= kills * SLOTS
    listed = possible_duplicates(path)
    assert all(listed[custom_id] >= times for custom_id, times in extra.items())
    assert right_answers(path.with_suffix(".db"))
    assert rows(path.with_suffix(".db"), "PRAGMA integrity_check") == [("ok",)]

    undisturbed = job_file(
        tmp_path / "again" / "jobs.jsonl",
        [f"Question {i}" for i in range(600)],
    )
    with simulator_thread("latency=0.01,500=0.02,seed=2") as (url, _):
        assert start(undisturbed, url).finish().code == 0
    told = ("custom_id", "status", "text", "stop_reason", "model", "input_tokens", "output_tokens")
    assert [[row[c] for c in told] for row in export(path)] == [[row[c] for c in told] for row in export(undisturbed)]


def test_one_interrupt_finishes_what_is_in_flight_and_pays_nothing_twice(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(500)])
    with simulator_thread("latency=0.3") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.ends > 2 * SLOTS)
        run.signal(signal.SIGINT)
        run.finish()
        assert run.code == 130, run.stderr
        assert "stopping" in run.stderr
        assert "resume" in run.stderr
        assert sum(ledger.paid.values()) == rows(path.with_suffix(".db"), "SELECT succeeded FROM job")[0][0]
        assert start(path, url).finish().code == 0
        assert paid_extra(path.with_suffix(".db"), ledger) == {}
    assert possible_duplicates(path) == Counter()


def test_a_second_interrupt_cancels_but_keeps_every_answer_that_arrived(tmp_path: Path) -> None:
    prompts = [f"Question {i}" for i in range(100)] + [f"[[sim:delay=300]] slow {i}" for i in range(SLOTS)]
    path = job_file(tmp_path / "jobs.jsonl", prompts)
    with simulator_thread("latency=0.02") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.arrivals == len(prompts))
        run.signal(signal.SIGINT)
        assert f"{SLOTS} calls in flight" in run.wait_for_note("stopping")
        run.signal(signal.SIGINT)
        run.finish(20)
        assert run.code == 130
        store = path.with_suffix(".db")
        delivered = ledger.summary().paid - ledger.summary().undelivered
        assert rows(store, "SELECT succeeded FROM job") == [(delivered,)]
    assert set(possible_duplicates(path)) == {f"r{i}" for i in range(100, 100 + SLOTS)}
    assert rows(store, "SELECT ending FROM runs") == [("interrupted",)]


def test_a_third_interrupt_leaves_at_once_even_if_the_store_is_stuck(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"[[sim:delay=300]] slow {i}" for i in range(SLOTS)])
    store = path.with_suffix(".db")
    with simulator_thread() as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.arrivals == SLOTS)
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            for note in ("stopping", "cancelling"):
                run.signal(signal.SIGINT)
                run.wait_for_note(note)
            run.signal(signal.SIGINT)
            run.finish(20)
        assert run.code == 130
    assert rows(store, "SELECT count(*) FROM requests WHERE state = 'pending'") == [(SLOTS,)]


def test_sigterm_drains_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(500)])
    with simulator_thread("latency=0.3") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        run.signal(signal.SIGTERM)
        run.finish()
        assert run.code == 143, run.stderr
        assert sum(ledger.paid.values()) == rows(path.with_suffix(".db"), "SELECT succeeded FROM job")[0][0]


def test_a_closed_terminal_hangs_up_twice_and_still_pays_for_nothing_in_vain(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(500)])
    with simulator_thread("latency=0.5") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        run.signal(signal.SIGHUP)
        run.wait_for_note("stopping")
        run.signal(signal.SIGHUP)  # the kernel does it, and then the shell once more
        run.finish()
        assert run.code == 143, run.stderr
        assert "cancelling" not in run.stderr
        assert sum(ledger.paid.values()) == rows(path.with_suffix(".db"), "SELECT succeeded FROM job")[0][0]
    assert possible_duplicates(path) == Counter()


def test_a_drain_that_is_over_cancels_what_is_still_in_flight(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"[[sim:delay=300]] slow {i}" for i in range(SLOTS)])
    with simulator_thread() as (url, ledger):
        run = start(path, url, "--drain", "0.2")
        ledger.wait_until(lambda ledger: ledger.arrivals == SLOTS)
        run.signal(signal.SIGINT)
        run.finish(20)
        assert run.code == 130, run.stderr


def test_closed_output_does_not_stop_a_run(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(200)])
    with simulator_thread("latency=0.1") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        assert run.process.stderr is not None
        assert run.process.stdout is not None
        run.process.stderr.close()
        run.process.stdout.close()
        assert run.process.wait(60) == 0
    assert rows(path.with_suffix(".db"), "SELECT succeeded FROM job") == [(200,)]


def test_closed_output_changes_no_exit_code_where_python_buffers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # set, it hides what Python holds back until it exits
    test_closed_output_does_not_stop_a_run(tmp_path)


@pytest.mark.parametrize("progress", ["plain", "json", "none", "bar"])
def test_a_run_needs_no_stderr(tmp_path: Path, progress: str) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(5)])
    line = '"$0" -m batchrunner run "$1" --model claude-haiku-4-5 --simulate --progress "$2" 2>&-'
    ended = subprocess.run(
        ["sh", "-c", line, sys.executable, path, progress], check=False, capture_output=True, timeout=30
    )
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_where_there_is_no_stdin_nobody_is_asked(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(5)])
    line = '"$0" -m batchrunner run "$1" --model claude-haiku-4-5 --simulate --pilot 2 <&-'
    ended = subprocess.run(["sh", "-c", line, sys.executable, path], check=False, capture_output=True, timeout=30)
    assert ended.returncode == Exit.LIMIT, ended.stderr


def test_a_second_run_is_refused_while_reading_verbs_work(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(100_000)])
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        second = command("resume", path.name, url=url, cwd=tmp_path)
        assert second.code == 5, second.stderr
        assert f"process {run.process.pid} on " in second.stderr
        assert "Traceback" not in second.stderr
        status = command("status", path.name, "--json", cwd=tmp_path)
        assert json.loads(status.stdout)["requests"] == 100_000
        assert len(export(path)) == 100_000
        assert run.process.poll() is None, "the run should still be writing"
        run.signal(signal.SIGINT)
        run.finish()


def test_a_bad_key_over_ten_thousand_rows_stops_within_seconds(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(10_000)])
    with simulator_thread("key=sk-ant-api03-the-other") as (url, ledger):
        run = start(path, url).finish()
        assert run.code == 3, run.stderr
        assert ledger.arrivals <= 2 * SLOTS
    assert "ANTHROPIC_API_KEY" in run.stderr
    assert rows(path.with_suffix(".db"), "SELECT count(*) FROM requests WHERE state = 'pending'") == [(10_000,)]
    assert "canary" not in run.stderr + run.stdout
    assert all(b"canary" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_run_whose_store_is_taken_away_stops_and_says_so(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(400)])
    with simulator_thread("latency=1") as (url, ledger):
        run = start(path, url)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        path.with_suffix(".db").unlink()
        run.finish()
        assert run.code == 5, run.stderr
        assert "was removed, moved or replaced" in run.stderr
        assert ledger.arrivals < 400

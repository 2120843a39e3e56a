"""Caps on money and time, in whole runs in virtual time; the server's own ledger is the witness."""

import json
from pathlib import Path

import pytest

from batchrunner.errors import Exit, UsageError
from batchrunner.policy.caps import Caps, parse_duration, parse_usd
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from caps import capped_run
from running import command, job_file, rows, simulator_thread
from virtual import numbered, virtual_run

RATE = Limits(Rate(600, 60.0))


def test_a_run_ends_within_its_time_with_every_answer_collected() -> None:
    settings = RunSettings(limits=RATE, caps=Caps(max_duration_s=120.0))
    figures = virtual_run(numbered(5000), "latency=2..6,rpm=600", settings)
    assert figures.report is not None
    assert figures.report.exit_code is Exit.LIMIT
    assert figures.report.ending == "stopped"
    assert "--max-duration" in (figures.report.reason or "")
    assert 112.0 < figures.seconds <= 121.0
    assert figures.succeeded == figures.sent == figures.report.counts.sent
    assert figures.report.totals.pending == 5000 - figures.sent
    assert figures.sent > 1000


def test_where_reading_the_job_takes_all_the_time_nothing_is_sent(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", [f"Question {n}" for n in range(60)])
    flags = ("--model", "claude-haiku-4-5", "--simulate-with", "latency=0", "--max-duration", "0.001")
    done = command("run", "jobs.jsonl", *flags, cwd=tmp_path, key=None)
    assert (done.code, "--max-duration" in done.stderr) == (Exit.LIMIT, True), done.stderr
    assert rows(tmp_path / "jobs.db", "SELECT count(*) FROM attempts")[0][0] == 0


def test_a_run_that_is_done_in_time_is_finished_however_late_its_last_answers_are() -> None:
    settings = RunSettings(limits=RATE, caps=Caps(max_duration_s=12.0))
    figures = virtual_run(numbered(60), "latency=5..7,rpm=600", settings)
    assert figures.report is not None
    assert (figures.report.ending, figures.report.exit_code) == ("finished", Exit.OK)


def test_time_that_is_too_short_for_any_answer_is_told_and_costs_nothing_beyond_the_first_calls() -> None:
    settings = RunSettings(limits=RATE, caps=Caps(max_duration_s=3.0))
    figures = virtual_run(numbered(500), "latency=30,rpm=600", settings)
    assert figures.report is not None
    assert figures.report.exit_code is Exit.LIMIT
    assert figures.sent <= 40
    assert figures.succeeded == figures.sent


@pytest.mark.parametrize("seed", range(4))
def test_a_cap_on_the_cost_is_used_and_hardly_exceeded(seed: int) -> None:
    """Whatever the sizes, the latencies and the number of calls in flight; and every answer that was paid is there."""
    run = capped_run(seed)
    assert run.exit_code == Exit.LIMIT
    assert "--max-cost" in run.reason
    assert 0.95 * run.cap_usd <= run.billed_usd <= run.cap_usd + run.bound_usd
    assert run.paid == run.saved
    assert run.pending > 0


def test_what_earlier_runs_have_spent_counts_and_a_higher_cap_goes_on(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", [f"Question {n}" for n in range(60)])
    flags = ("--model", "claude-haiku-4-5", "--max-tokens", "60", "--simulate-with", "output_tokens=50", "-j", "2")
    first = command("run", "jobs.jsonl", *flags, "--max-cost", "0.008", cwd=tmp_path, key=None)
    assert first.code == Exit.LIMIT, first.stderr
    assert "at most $0.0080 (--max-cost)" in first.stderr
    done = rows(tmp_path / "jobs.db", "SELECT succeeded FROM job")[0][0]
    assert 15 < done < 45
    again = command("resume", "jobs.jsonl", cwd=tmp_path, key=None)
    assert again.code == Exit.LIMIT, "the cap of the last run holds on"
    assert rows(tmp_path / "jobs.db", "SELECT succeeded FROM job")[0][0] - done <= 2
    higher = command("resume", "jobs.jsonl", "--max-cost", "none", cwd=tmp_path, key=None)
    assert higher.code == Exit.OK, higher.stderr
    assert rows(tmp_path / "jobs.db", "SELECT succeeded, requests FROM job")[0] == (60, 60)


def test_answers_that_do_not_say_what_they_took_count_as_what_was_held_and_do_so_in_the_next_run(
    tmp_path: Path,
) -> None:
    job_file(tmp_path / "jobs.jsonl", [f"Question {n}" for n in range(60)])
    flags = ("--model", "claude-haiku-4-5", "--max-tokens", "1000", "-j", "2", "--max-cost", "0.05")
    with simulator_thread("200_no_usage=1") as (url, _):
        first = command("run", "jobs.jsonl", *flags, "--base-url", url, cwd=tmp_path)
        done = rows(tmp_path / "jobs.db", "SELECT succeeded FROM job")[0][0]
        again = command("resume", "jobs.jsonl", "--base-url", url, cwd=tmp_path)
    assert (first.code, again.code) == (Exit.LIMIT, Exit.LIMIT), first.stderr + again.stderr
    assert 8 <= done <= 10
    assert rows(tmp_path / "jobs.db", "SELECT succeeded FROM job")[0][0] == done
    assert "answers that do not say what they took" in first.stderr


def test_a_cap_is_refused_where_the_price_is_not_known(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["One"])
    refused = command("run", "jobs.jsonl", "--model", "my-own", "--simulate", "--max-cost", "5", cwd=tmp_path, key=None)
    assert refused.code == Exit.USAGE
    assert "No price is known" in refused.stderr
    assert rows(tmp_path / "jobs.db", "SELECT count(*) FROM attempts")[0][0] == 0


def marked(path: Path, models: list[str]) -> Path:
    system = [{"type": "text", "text": "word " * 3000, "cache_control": {"type": "ephemeral"}}]
    messages = [{"role": "user", "content": "One"}]
    bodies = [{"model": model, "max_tokens": 100, "system": system, "messages": messages} for model in models]
    path.write_text("".join(json.dumps({"params": body}) + "\n" for body in bodies), encoding="utf-8")
    return path


def test_requests_with_marked_prefixes_are_looked_at_before_anything_is_sent(tmp_path: Path) -> None:
    job = marked(tmp_path / "jobs.jsonl", ["claude-sonnet-5"] * 3)
    done = command("run", job.name, "--simulate", "--max-cost", "5", cwd=tmp_path, key=None)
    assert done.code == Exit.OK, done.stderr
    assert "less than $0.0128 (an answer as long as max_tokens)" in done.stderr
    job = marked(tmp_path / "other.jsonl", ["claude-sonnet-5"] * 3 + ["claude-sonnet-5-of-mine"])
    refused = command("run", job.name, "--simulate", "--max-cost", "5", cwd=tmp_path, key=None)
    assert refused.code == Exit.USAGE, refused.stderr
    assert rows(tmp_path / "other.db", "SELECT count(*) FROM attempts")[0][0] == 0


@pytest.mark.parametrize("text", ["0", "-3", "five", "nan", "1e99", "", "1,50", "12,5", "1,2345", "1_0,00", ",5"])
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-cost"):
        parse_usd("--max-cost", text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("45m", 2700), ("6h", 21_600), ("1h30m", 5400), ("2d", 172_800)]
)
def test_times_are_understood_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration("--max-duration", text) == seconds


@pytest.mark.parametrize("text", ["0", "-1h", "soon", "1x", "nan", "inf", "", "h"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-duration"):
        parse_duration("--max-duration", text)
